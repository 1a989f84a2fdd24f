//! What a shop knows of a registered customer, in clear. What stands in here is sealed as JSON, and
//! old logs hold that JSON: names of fields are for ever, as in events.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{AddressLine, Email, PersonName, PersonalError, Phone, Postcode, refuse_resident_number};
use crate::text;

/// A Korean mobile number. A customer is known by it and gets codes there, so landlines and disposable
/// safe numbers (안심번호, KOREA P4) will not do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mobile(Phone);

impl Mobile {
    /// As any phone.
    pub const fn phone(&self) -> &Phone {
        &self.0
    }
}

impl FromStr for Mobile {
    type Err = PersonalError;
    fn from_str(spelled: &str) -> Result<Self, PersonalError> {
        Self::try_from(spelled.parse::<Phone>()?)
    }
}

impl TryFrom<Phone> for Mobile {
    type Error = PersonalError;
    fn try_from(phone: Phone) -> Result<Self, PersonalError> {
        // 010, and what is left of 011 and 016 to 019.
        if phone.as_str().starts_with("+821") {
            Ok(Self(phone))
        } else {
            Err(PersonalError::Mobile)
        }
    }
}

impl fmt::Debug for Mobile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[personal]")
    }
}

personal_text!(
    /// What a customer calls an address (`집`, `회사`), at most 20 characters.
    AddressLabel
);
personal_text!(
    /// A provider's own id of a person: 1 to 255 printable ASCII characters, case-sensitive.
    SocialSubject
);

impl FromStr for AddressLabel {
    type Err = PersonalError;
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        let label = text::line(text, 20)?;
        refuse_resident_number(&label)?;
        Ok(Self(label))
    }
}

impl FromStr for SocialSubject {
    type Err = PersonalError;

    /// Taken as the provider gives it: nothing is trimmed, since two ids must never become one.
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PersonalError::Subject)
        }
    }
}

/// Who a customer is. Sealed as one piece, field name `profile`. A provider may tell nothing but its
/// own id (KOREA U4), so all of it may be missing until the customer is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Full name.
    pub name: Option<PersonName>,
    /// For notices, and to sign in with a password.
    pub email: Option<Email>,
    /// For notices and codes.
    pub phone: Option<Mobile>,
}

/// A Korean address (KOREA P2, P3): the road name (도로명주소) is what counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoadAddress {
    /// Five digits.
    pub postcode: Postcode,
    /// Road-name address.
    pub road: AddressLine,
    /// The same place by its lot number (지번), for couriers who go by it.
    pub jibun: Option<AddressLine>,
    /// Flat, floor …
    pub detail: Option<AddressLine>,
    /// What stands in brackets behind it (참고항목): quarter, building.
    pub extra: Option<AddressLine>,
}

impl RoadAddress {
    /// What a stranger may see: the first two words of the road-name address.
    pub fn masked(&self) -> String {
        self.road.masked()
    }
}

/// An address that a customer keeps. Sealed as one piece, field name `address`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAddress {
    /// What the customer calls it.
    pub label: Option<AddressLabel>,
    /// Who receives the goods.
    pub name: PersonName,
    /// For the courier; may be a safe number.
    pub phone: Phone,
    /// Where.
    pub address: RoadAddress,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> AddressLine {
        text.parse().expect("a line of an address")
    }

    #[test]
    fn only_mobile_numbers_tell_who_a_customer_is() {
        for good in ["010-1234-5678", "+82 10 1234 5678", "011-123-4567", "016-1234-5678"] {
            assert!(good.parse::<Mobile>().is_ok(), "{good}");
        }
        for other in ["02-123-4567", "031-123-4567", "070-1234-5678", "0507-1234-5678"] {
            assert!(other.parse::<Phone>().is_ok(), "{other}");
            assert_eq!(other.parse::<Mobile>(), Err(PersonalError::Mobile), "{other}");
        }
        assert_eq!("1234".parse::<Mobile>(), Err(PersonalError::Phone));
    }

    #[test]
    fn a_providers_id_is_taken_as_it_is() {
        for good in ["1", "3210987654", "a-Zr_9=", &"x".repeat(255)] {
            assert_eq!(
                good.parse::<SocialSubject>().map(|s| s.as_str().to_owned()),
                Ok(good.to_owned())
            );
        }
        for bad in ["", " 1", "1 ", "아이디", "a\u{0}", &"x".repeat(256)] {
            assert_eq!(bad.parse::<SocialSubject>(), Err(PersonalError::Subject), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_short_composed_and_no_resident_number() {
        let composed = "집".parse::<AddressLabel>();
        assert_eq!("\u{110c}\u{1175}\u{11b8}".parse::<AddressLabel>(), composed);
        assert!("가".repeat(20).parse::<AddressLabel>().is_ok());
        assert!("가".repeat(21).parse::<AddressLabel>().is_err());
        assert!(" ".parse::<AddressLabel>().is_err());
        assert_eq!(
            "900101-1234567".parse::<AddressLabel>(),
            Err(PersonalError::ResidentNumber)
        );
    }

    /// Pinned: sealed values in old logs read like this.
    #[test]
    fn what_is_sealed_has_this_form_for_ever() {
        let profile = Profile {
            name: Some("홍길동".parse().expect("a name")),
            email: Some("Hong@Example.com".parse().expect("an address")),
            phone: Some("010-1234-5678".parse().expect("a number")),
        };
        let kept = r#"{"name":"홍길동","email":"hong@example.com","phone":"+821012345678"}"#;
        assert_eq!(serde_json::to_string(&profile).expect("JSON"), kept);
        assert_eq!(serde_json::from_str::<Profile>(kept).expect("a profile"), profile);
        let address = SavedAddress {
            label: Some("집".parse().expect("a label")),
            name: "홍길동".parse().expect("a name"),
            phone: "0507-1234-5678".parse().expect("a number"),
            address: RoadAddress {
                postcode: "06236".parse().expect("a postcode"),
                road: line("서울특별시 강남구 테헤란로 1"),
                jibun: Some(line("서울특별시 강남구 역삼동 1-1")),
                detail: None,
                extra: Some(line("(역삼동)")),
            },
        };
        let kept = r#"{"label":"집","name":"홍길동","phone":"+8250712345678","address":{"postcode":"06236","road":"서울특별시 강남구 테헤란로 1","jibun":"서울특별시 강남구 역삼동 1-1","detail":null,"extra":"(역삼동)"}}"#;
        assert_eq!(serde_json::to_string(&address).expect("JSON"), kept);
        assert_eq!(serde_json::from_str::<SavedAddress>(kept).expect("an address"), address);
        assert_eq!(address.address.masked(), "서울특별시 강남구 ***");
    }

    #[test]
    fn nothing_personal_prints() {
        let subject: SocialSubject = "3210987654".parse().expect("an id");
        let mobile: Mobile = "010-1234-5678".parse().expect("a number");
        assert_eq!(format!("{subject:?} {mobile:?}"), "[personal] [personal]");
    }
}
