//! Checks the fields of a body that types alone do not, and reports all that is wrong at once.

use std::str::FromStr;

use jangbu_events::{
    Money,
    personal::PersonalError,
    sku::SkuError,
    text::{self, TextError},
};

use super::problem::{FieldError, Problem, Text};
use crate::accounts::password::Weakness;

/// Collects what is wrong with a body.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldError>);

/// Why a text is not what it should be: a stable code, and what to tell a person.
pub struct Reason(&'static str, Text);

impl Checks {
    /// Reads a text from outside; `None` if it is refused.
    pub fn parse<T: FromStr<Err: Into<Reason>>>(&mut self, pointer: &str, text: &str) -> Option<T> {
        self.keep(pointer, text.parse().map_err(Into::into))
    }

    /// As [`Checks::parse`], of a field that may be absent.
    pub fn parse_if_given<T: FromStr<Err: Into<Reason>>>(&mut self, pointer: &str, text: Option<&str>) -> Option<T> {
        self.parse(pointer, text?)
    }

    /// One line of text of at most `max` characters, trimmed.
    pub fn line(&mut self, pointer: &str, text: &str, max: usize) -> Option<String> {
        self.keep(pointer, text::line(text, max).map_err(Into::into))
    }

    /// A number of `min` to `max`.
    pub fn in_range(&mut self, pointer: &str, number: i64, min: i64, max: i64) {
        if !(min..=max).contains(&number) {
            self.refuse(
                pointer,
                "out_of_range",
                Text::new(
                    format!("must be {min} to {max}"),
                    format!("{min}에서 {max} 사이여야 합니다."),
                ),
            );
        }
    }

    /// An amount of `min` won to a trillion.
    pub fn amount(&mut self, pointer: &str, amount: i64, min: i64) {
        self.in_range(pointer, amount, min, Money::AMOUNT_MAX);
    }

    /// Something is wrong with a field.
    pub fn refuse(&mut self, pointer: &str, code: &'static str, detail: Text) {
        self.0.push(FieldError::at(pointer, code, detail));
    }

    /// A password that is no good. It is never repeated.
    pub fn refuse_weak(&mut self, pointer: &str, weakness: Weakness) {
        let (code, korean) = match weakness {
            Weakness::TooShort => ("too_short", "비밀번호는 10자 이상이어야 합니다."),
            Weakness::TooLong => ("too_long", "비밀번호는 128자 이하여야 합니다."),
            Weakness::Common => ("password_common", "너무 쉬운 비밀번호입니다."),
            Weakness::ContainsEmail => ("password_contains_email", "비밀번호에 이메일 주소를 쓸 수 없습니다."),
            Weakness::ContainsPhone => ("password_contains_phone", "비밀번호에 전화번호를 쓸 수 없습니다."),
        };
        self.refuse(pointer, code, Text::new(weakness.to_string(), korean));
    }

    /// Everything that is wrong, if anything is.
    pub fn done(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.0))
        }
    }

    /// The value of checks that all passed. `value` is `None` only if one of them did not.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        self.done()?;
        value.ok_or_else(|| Problem::internal("a check refused a value and did not say so"))
    }

    fn keep<T>(&mut self, pointer: &str, read: Result<T, Reason>) -> Option<T> {
        read.map_err(|Reason(code, detail)| self.refuse(pointer, code, detail))
            .ok()
    }
}

impl From<TextError> for Reason {
    fn from(error: TextError) -> Self {
        let (code, korean) = match error {
            TextError::Empty => ("empty", "비워 둘 수 없습니다.".to_owned()),
            TextError::TooLong { max } => ("too_long", format!("{max}자까지 쓸 수 있습니다.")),
            TextError::Control => ("control_character", "제어 문자는 쓸 수 없습니다.".to_owned()),
        };
        Self(code, Text::new(error.to_string(), korean))
    }
}

impl From<PersonalError> for Reason {
    fn from(error: PersonalError) -> Self {
        let (code, korean) = match &error {
            PersonalError::Phone => ("phone_invalid", "010-1234-5678과 같은 국내 전화번호여야 합니다."),
            PersonalError::Mobile => ("mobile_invalid", "010-1234-5678과 같은 휴대전화번호여야 합니다."),
            PersonalError::Subject => ("subject_invalid", "소셜 계정 식별자가 올바르지 않습니다."),
            PersonalError::Postcode => (
                "postcode_invalid",
                "우편번호는 숫자 5자리입니다(예전 6자리 우편번호는 쓸 수 없습니다).",
            ),
            PersonalError::Email => ("email_invalid", "이메일 주소 형식이 아닙니다."),
            PersonalError::ResidentNumber => ("resident_number", "주민등록번호는 입력할 수 없습니다."),
            PersonalError::Account => ("account_invalid", "계좌번호는 숫자 6~20자리입니다."),
            PersonalError::Bank => ("bank_unknown", "PortOne의 은행 코드여야 합니다(예: SHINHAN)."),
            PersonalError::Text(text) => return text.clone().into(),
        };
        Self(code, Text::new(error.to_string(), korean))
    }
}

impl From<SkuError> for Reason {
    fn from(error: SkuError) -> Self {
        Self(
            "sku_invalid",
            Text::new(error.to_string(), "상품 코드는 A-Z a-z 0-9 . _ - 로 된 1~64자입니다."),
        )
    }
}

#[cfg(test)]
mod tests {
    use jangbu_events::{Email, Phone, Postcode};

    use super::*;
    use crate::http::problem::Language;

    #[tokio::test]
    async fn all_that_is_wrong_is_told_at_once_and_nothing_is_repeated() {
        let mut checks = Checks::default();
        assert!(checks.parse::<Phone>("/phone", "010-1234-5678").is_some());
        assert!(checks.parse::<Email>("/email", "not-mine").is_none());
        assert!(
            checks
                .parse_if_given::<Postcode>("/postcode", Some("123-456"))
                .is_none()
        );
        assert!(checks.parse_if_given::<Postcode>("/other", None).is_none());
        assert_eq!(checks.line("/name", " 홍길동 ", 3), Some("홍길동".to_owned()));
        assert!(checks.line("/reason", "a\u{0}b", 10).is_none());
        checks.amount("/amount", 0, 1);
        let problem = checks.finish(Some(())).expect_err("four are wrong");
        let body = axum::body::to_bytes(problem.write(Language::Korean, "-").into_body(), 10_000).await;
        let body = String::from_utf8(body.expect("a body").to_vec()).expect("text");
        for code in ["email_invalid", "postcode_invalid", "control_character", "out_of_range"] {
            assert!(body.contains(code), "{body}");
        }
        assert!(!body.contains("not-mine") && !body.contains("/other"), "{body}");
    }
}
