//! People as a shop in Korea knows them (KOREA section 3). These types exist in clear only between
//! the HTTP edge and the sealer; nothing here prints what it holds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::text::{self, TextError};

/// Why a personal detail was refused. Never repeats the detail itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PersonalError {
    /// Not a Korean telephone number.
    #[error("must be a Korean telephone number such as 010-1234-5678")]
    Phone,
    /// Not a postal code in use since 2015.
    #[error("must be a postal code of five digits (the old 123-456 form is no longer in use)")]
    Postcode,
    /// Not a Korean mobile number.
    #[error("must be a Korean mobile number such as 010-1234-5678")]
    Mobile,
    /// Not a provider's id of a person.
    #[error("must be 1 to 255 printable ASCII characters")]
    Subject,
    /// Not an e-mail address.
    #[error("must be an e-mail address")]
    Email,
    /// A resident registration number, which is never taken (KOREA P5).
    #[error("must not contain a resident registration number")]
    ResidentNumber,
    /// Not a Korean bank account number.
    #[error("must be an account number of 6 to 20 digits")]
    Account,
    /// Not a bank that PortOne knows.
    #[error("must be one of PortOne's names of banks, such as SHINHAN")]
    Bank,
    /// Not one line of text.
    #[error(transparent)]
    Text(#[from] TextError),
}

macro_rules! personal_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// In clear.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[personal]")
            }
        }
    };
}

mod member;

pub use self::member::{AddressLabel, Mobile, Profile, RoadAddress, SavedAddress, SocialSubject};

personal_text!(
    /// A Korean telephone number in E.164 (`+821012345678`).
    Phone
);
personal_text!(
    /// An e-mail address in lower case, at most 254 characters.
    Email
);
personal_text!(
    /// A person's name, at most 50 characters.
    PersonName
);
personal_text!(
    /// Five digits.
    Postcode
);
personal_text!(
    /// One line of an address, at most 200 characters.
    AddressLine
);
personal_text!(
    /// A bank account number given to a buyer.
    AccountNumber
);
personal_text!(
    /// The number of a buyer's own account: 6 to 20 digits.
    AccountDigits
);
personal_text!(
    /// A bank, by PortOne's name.
    Bank
);

impl FromStr for Phone {
    type Err = PersonalError;

    /// Takes the spellings people use: spaces, dashes, dots, brackets, `+82 10`, `0082`, `010`.
    fn from_str(spelled: &str) -> Result<Self, PersonalError> {
        let mut digits = String::with_capacity(16);
        for (at, c) in spelled.trim().chars().enumerate() {
            match c {
                '0'..='9' => digits.push(c),
                '+' if at == 0 => digits.push(c),
                ' ' | '-' | '.' | '(' | ')' | '\u{2010}'..='\u{2013}' => {}
                _ => return Err(PersonalError::Phone),
            }
        }
        let national = if let Some(rest) = digits.strip_prefix("+82").or_else(|| digits.strip_prefix("0082")) {
            rest.strip_prefix('0').unwrap_or(rest)
        } else if digits.starts_with('+') {
            return Err(PersonalError::Phone);
        } else if let Some(rest) = digits
            .strip_prefix("82")
            .filter(|rest| rest.starts_with("10") && rest.len() == 10)
        {
            rest
        } else {
            digits.strip_prefix('0').ok_or(PersonalError::Phone)?
        };
        let valid = match national.as_bytes() {
            // 010 and 070 with eight digits.
            [b'1' | b'7', b'0', ..] => national.len() == 10,
            // Old mobile numbers (011, 016 to 019) and area codes, with seven or eight.
            [b'1', b'1' | b'6'..=b'9', ..] | [b'3'..=b'6', b'1'..=b'5', ..] => (9..=10).contains(&national.len()),
            // Seoul.
            [b'2', ..] => (8..=9).contains(&national.len()),
            // 050x, among them safe numbers.
            [b'5', b'0', ..] => (10..=11).contains(&national.len()),
            _ => false,
        };
        if valid {
            Ok(Self(format!("+82{national}")))
        } else {
            Err(PersonalError::Phone)
        }
    }
}

impl Phone {
    /// As a Korean reads it: `010-1234-5678`.
    pub fn national(&self) -> String {
        let digits = format!("0{}", self.0.strip_prefix("+82").unwrap_or(&self.0));
        let head = if digits.starts_with("02") {
            2
        } else {
            digits.len().saturating_sub(8).clamp(3, 4)
        };
        let tail = digits.len().saturating_sub(4);
        match (digits.get(..head), digits.get(head..tail), digits.get(tail..)) {
            (Some(area), Some(middle), Some(last)) => format!("{area}-{middle}-{last}"),
            _ => digits,
        }
    }

    /// For the payment window, which wants digits alone: `01012345678`.
    pub fn digits(&self) -> String {
        format!("0{}", self.0.strip_prefix("+82").unwrap_or(&self.0))
    }

    /// What a stranger may see: `010-****-5678`.
    pub fn masked(&self) -> String {
        let national = self.national();
        let mut parts = national.split('-');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(area), Some(middle), Some(last)) => format!("{area}-{}-{last}", "*".repeat(middle.len())),
            _ => "*".repeat(national.len()),
        }
    }
}

impl FromStr for Email {
    type Err = PersonalError;

    /// Composed (Unicode NFC) and in lower case, so that an address has one form.
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        let text: String = text.trim().to_lowercase().nfc().collect();
        refuse_resident_number(&text)?;
        let (local, domain) = text.rsplit_once('@').ok_or(PersonalError::Email)?;
        let plain = |s: &str| !s.is_empty() && s.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '@');
        let dotted = domain.contains('.') && domain.split('.').all(|label| !label.is_empty());
        if text.len() <= 254 && local.len() <= 64 && plain(local) && plain(domain) && dotted {
            Ok(Self(text))
        } else {
            Err(PersonalError::Email)
        }
    }
}

impl Email {
    /// What a stranger may see: `ho**@example.com`.
    pub fn masked(&self) -> String {
        let (local, domain) = self.0.rsplit_once('@').unwrap_or((&self.0, ""));
        let shown: String = local
            .chars()
            .take(if local.chars().count() > 2 { 2 } else { 1 })
            .collect();
        let hidden = local.chars().count() - shown.chars().count();
        format!("{shown}{}@{domain}", "*".repeat(hidden))
    }
}

impl FromStr for PersonName {
    type Err = PersonalError;
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        let name = text::line(text, 50)?;
        refuse_resident_number(&name)?;
        Ok(Self(name))
    }
}

impl PersonName {
    /// What a stranger may see: `홍*동`.
    pub fn masked(&self) -> String {
        let letters: Vec<char> = self.0.chars().collect();
        match letters.as_slice() {
            [] => String::new(),
            [_] => "*".to_owned(),
            [first, _] => format!("{first}*"),
            [first, middle @ .., last] => format!("{first}{}{last}", "*".repeat(middle.len())),
        }
    }
}

impl FromStr for Postcode {
    type Err = PersonalError;
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        let text = text.trim();
        if text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PersonalError::Postcode)
        }
    }
}

impl FromStr for AddressLine {
    type Err = PersonalError;
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        let line = text::line(text, 200)?;
        refuse_resident_number(&line)?;
        Ok(Self(line))
    }
}

impl AddressLine {
    /// What a stranger may see: the first two words.
    pub fn masked(&self) -> String {
        let mut words: Vec<&str> = self.0.split_whitespace().take(2).collect();
        words.push("***");
        words.join(" ")
    }
}

impl FromStr for AccountNumber {
    type Err = PersonalError;
    fn from_str(text: &str) -> Result<Self, PersonalError> {
        Ok(Self(text::line(text, 64)?))
    }
}

impl FromStr for AccountDigits {
    type Err = PersonalError;

    /// Takes the spaces and dashes that people write between the digits.
    fn from_str(spelled: &str) -> Result<Self, PersonalError> {
        let plain = |c: char| c.is_ascii_digit() || c == '-' || c == ' ';
        let digits: String = spelled.chars().filter(char::is_ascii_digit).collect();
        if spelled.trim().chars().all(plain) && (6..=20).contains(&digits.len()) {
            Ok(Self(digits))
        } else {
            Err(PersonalError::Account)
        }
    }
}

impl FromStr for Bank {
    type Err = PersonalError;
    fn from_str(name: &str) -> Result<Self, PersonalError> {
        if BANKS.contains(&name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(PersonalError::Bank)
        }
    }
}

/// Where people in Korea have accounts, by PortOne's names: banks, then securities firms.
const BANKS: &[&str] = &[
    "BNK_SECURITIES",
    "BOOKOOK_SECURITIES",
    "BUSAN",
    "CAPE_SECURITIES",
    "CITI",
    "DAEGU",
    "DAISHIN_SECURITIES",
    "DAOL_SECURITIES",
    "DB_SECURITIES",
    "EBEST_SECURITIES",
    "EUGENE_SECURITIES",
    "HANA",
    "HANA_SECURITIES",
    "HANHWA_SECURITIES",
    "HANYANG_SECURITIES",
    "HI_SECURITIES",
    "HSBC",
    "HYUNDAI_MOTOR_SECURITIES",
    "IBK",
    "IBK_SECURITIES",
    "JEJU",
    "JEONBUK",
    "KAKAO",
    "KAKAO_PAY_SECURITIES",
    "KB_SECURITIES",
    "KDB",
    "KFCC",
    "KIWOOM_SECURITIES",
    "KOOKMIN",
    "KOREA_FOSS_SECURITIES",
    "KOREA_SECURITIES",
    "KWANGJU",
    "KYOBO_SECURITIES",
    "KYONGNAM",
    "K_BANK",
    "LEADING_SECURITIES",
    "LOCAL_NONGHYUP",
    "MERITZ_SECURITIES",
    "MIRAE_ASSET_SECURITIES",
    "NFCF",
    "NH_SECURITIES",
    "NONGHYUP",
    "POST",
    "SAMSUNG_SECURITIES",
    "SANGSANGIN_SECURITIES",
    "SAVINGS_BANK",
    "SHINHAN",
    "SHINHAN_SECURITIES",
    "SHINHYUP",
    "SHINYOUNG_SECURITIES",
    "SK_SECURITIES",
    "STANDARD_CHARTERED",
    "SUHYUP",
    "SUHYUP_FEDERATION",
    "TOSS",
    "TOSS_SECURITIES",
    "WOORI",
    "WOORI_INVESTMENT_BANK",
    "YUANTA_SECURITIES",
];

/// Six digits, an optional dash, and seven digits of which the first is 1 to 4 (KOREA P5).
fn refuse_resident_number(text: &str) -> Result<(), PersonalError> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        bytes
            .get(from..to)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    for start in 0..bytes.len() {
        let second = if bytes.get(start + 6) == Some(&b'-') {
            start + 7
        } else {
            start + 6
        };
        let sex = bytes.get(second).is_some_and(|b| (b'1'..=b'4').contains(b));
        if digits(start, start + 6) && sex && digits(second, second + 7) {
            return Err(PersonalError::ResidentNumber);
        }
    }
    Ok(())
}

/// Who orders. Sealed as one piece, field name `orderer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orderer {
    /// Full name.
    pub name: PersonName,
    /// For notices and for finding a guest's order.
    pub phone: Phone,
    /// For notices.
    pub email: Email,
}

/// Who receives the goods. Sealed as one piece, field name `recipient`. The phone may be a
/// disposable safe number (안심번호), so it identifies nobody (KOREA P4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Full name.
    pub name: PersonName,
    /// For the courier.
    pub phone: Phone,
    /// Five digits.
    pub postcode: Postcode,
    /// Road-name address (도로명주소).
    pub road: AddressLine,
    /// Flat, floor …
    pub detail: Option<AddressLine>,
}

/// Where money goes back to that came by bank transfer. Sealed as one piece, field name
/// `refund_account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundAccount {
    /// Of the buyer.
    pub bank: Bank,
    /// Digits.
    pub number: AccountDigits,
    /// Who holds it.
    pub holder_name: PersonName,
    /// Some gateways want it.
    pub holder_phone: Option<Phone>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_spellings_of_one_mobile_number_are_one_value() {
        for spelled in [
            "010-1234-5678",
            "01012345678",
            "010 1234 5678",
            "010.1234.5678",
            "(010)1234-5678",
            "(010) 1234 5678",
            "+82 10-1234-5678",
            "+821012345678",
            "+82-10-1234-5678",
            "+82 (0)10-1234-5678",
            "+8201012345678",
            "0082 10 1234 5678",
            "00821012345678",
            "821012345678",
            "82-10-1234-5678",
            " 010-1234-5678 ",
            "010 - 1234 - 5678",
            "010‐1234‐5678",
            "010–1234–5678",
            "+82.10.1234.5678",
            "+82 010 1234 5678",
            "010-12345678",
            "0101234-5678",
            "01 0123 45678",
            "(010)12345678",
            "+82(10)12345678",
            "82 10 1234 5678",
            "0082-10-1234-5678",
            "0082-010-1234-5678",
            "010  1234  5678",
        ] {
            assert_eq!(
                spelled.parse::<Phone>().map(|p| p.as_str().to_owned()),
                Ok("+821012345678".to_owned()),
                "{spelled}"
            );
        }
    }

    #[test]
    fn other_numbers_are_refused_or_kept() {
        for bad in [
            "",
            "1234",
            "010-123-456",
            "+1 212 555 0100",
            "010-1234-567x",
            "110-1234-5678",
            "0101234567890",
        ] {
            assert_eq!(bad.parse::<Phone>(), Err(PersonalError::Phone), "{bad}");
        }
        let shown = |s: &str| s.parse::<Phone>().map(|p| (p.national(), p.masked()));
        assert_eq!(shown("02-123-4567"), Ok(("02-123-4567".into(), "02-***-4567".into())));
        assert_eq!(
            shown("031-123-4567"),
            Ok(("031-123-4567".into(), "031-***-4567".into()))
        );
        assert_eq!(
            shown("0507-1234-5678"),
            Ok(("0507-1234-5678".into(), "0507-****-5678".into()))
        );
        assert_eq!(
            shown("01012345678"),
            Ok(("010-1234-5678".into(), "010-****-5678".into()))
        );
    }

    #[test]
    fn an_email_address_has_one_form() {
        let form = |s: &str| s.parse::<Email>().map(|e| e.as_str().to_owned());
        assert_eq!(form(" Hong@Example.COM "), Ok("hong@example.com".into()));
        assert_eq!(form("cafe\u{301}@example.com"), form("CAF\u{c9}@example.com"));
        assert_eq!(form("900101-1234567@example.com"), Err(PersonalError::ResidentNumber));
        for bad in [
            "",
            "hong",
            "@example.com",
            "hong@example",
            "a b@example.com",
            "hong@example..com",
        ] {
            assert_eq!(form(bad), Err(PersonalError::Email), "{bad}");
        }
    }

    #[test]
    fn postcodes_have_five_digits() {
        assert!("06236".parse::<Postcode>().is_ok());
        for bad in ["123-456", "0623", "062366", "0623a", ""] {
            assert_eq!(bad.parse::<Postcode>(), Err(PersonalError::Postcode), "{bad}");
        }
    }

    #[test]
    fn resident_numbers_are_never_taken() {
        for bad in ["900101-1234567", "홍길동 9001011234567", "x900101-4234567y"] {
            assert_eq!(bad.parse::<PersonName>(), Err(PersonalError::ResidentNumber), "{bad}");
        }
        assert!("900101-5234567".parse::<AddressLine>().is_ok());
    }

    #[test]
    fn masks_show_only_what_is_needed() {
        let name = |s: &str| s.parse::<PersonName>().map(|n| n.masked());
        assert_eq!(name("홍길동"), Ok("홍*동".into()));
        assert_eq!(name("김수"), Ok("김*".into()));
        assert_eq!(
            "hong@example.com".parse::<Email>().map(|e| e.masked()),
            Ok("ho**@example.com".into())
        );
        assert_eq!(
            "서울특별시 강남구 테헤란로 1"
                .parse::<AddressLine>()
                .map(|a| a.masked()),
            Ok("서울특별시 강남구 ***".into())
        );
    }

    #[test]
    fn nothing_personal_prints() {
        let name: PersonName = "홍길동".parse().expect("a name");
        assert_eq!(format!("{name:?}"), "[personal]");
    }
}
