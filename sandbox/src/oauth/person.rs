//! The people who can log in, and what each provider has of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Provider;
use crate::portone::attempt::Refusal;

/// A test person, as the control surface takes one.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Person {
    /// The provider's id of her. Kakao: digits, which become a number, however many there are.
    pub(super) subject: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) nickname: Option<String>,
    #[serde(default)]
    pub(super) email: Option<String>,
    /// Kakao: `is_email_valid`.
    #[serde(default = "yes")]
    pub(super) email_valid: bool,
    /// Kakao: `is_email_verified`. Google: `email_verified`.
    #[serde(default = "yes")]
    pub(super) email_verified: bool,
    /// Google: `"true"` instead of `true`.
    #[serde(default)]
    pub(super) email_verified_as_text: bool,
    /// Google: `hd`, the company whose account it is.
    #[serde(default)]
    pub(super) hosted_domain: Option<String>,
    /// As the provider writes it: Kakao `+82 10-1234-5678`, Naver `010-1234-5678`.
    #[serde(default)]
    pub(super) phone: Option<String>,
    /// Fields that the provider leaves out of its answer, wherever they stand: `kakao_account`, `profile`.
    #[serde(default)]
    pub(super) absent: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Person {
    pub(super) fn validate(&self, provider: Provider) -> Result<(), Refusal> {
        let is_number = || self.subject.bytes().all(|byte| byte.is_ascii_digit()) && !self.subject.starts_with('0');
        let why = match provider {
            Provider::Kakao if !is_number() => "the subject at Kakao is a number",
            _ if self.subject.is_empty() || self.subject.chars().count() > 64 => "the subject has 1 to 64 characters",
            _ if !self.subject.bytes().all(|byte| byte.is_ascii_graphic()) => "the subject is visible ASCII text",
            _ => return Ok(()),
        };
        Err(Refusal::new("RequestParseFailed", why))
    }

    /// Takes away from an answer what is to be absent.
    pub(super) fn prune(&self, answer: &mut Value) {
        if let Value::Object(fields) = answer {
            fields.retain(|name, _| !self.absent.contains(name));
            fields.values_mut().for_each(|value| self.prune(value));
        }
    }
}

/// Who is there at the start: two or three with each provider, and each a case of its own.
pub(super) fn first() -> [((Provider, String), Person); 8] {
    use Provider::{Google, Kakao, Naver};

    let person = |provider, subject: &str, name: &str, email: Option<&str>| {
        let nickname = name.chars().skip(1).collect();
        let person = Person {
            subject: subject.to_owned(),
            name: Some(name.to_owned()),
            nickname: Some(nickname),
            email: email.map(str::to_owned),
            email_valid: true,
            email_verified: true,
            email_verified_as_text: false,
            hosted_domain: None,
            phone: (provider == Provider::Naver).then(|| "010-0000-1234".to_owned()),
            absent: Vec::new(),
        };
        ((provider, subject.to_owned()), person)
    };
    let but = |(key, mut person): ((Provider, String), Person), change: fn(&mut Person)| {
        change(&mut person);
        (key, person)
    };
    [
        person(Kakao, "1234567890", "홍길동", Some("hong@example.com")),
        but(
            person(Kakao, "1234567891", "성춘향", Some("chunhyang@example.com")),
            |person| person.email_verified = false,
        ),
        // Above 2^53: whoever reads it as a floating-point number takes her for another.
        person(Kakao, "9007199254740993", "이몽룡", None),
        person(
            Naver,
            "pQ3xT0cWqyZr5nLgV8uJ2kHsE1oAbDfM4iCv7tR6wYz",
            "홍길동",
            Some("hong@example.com"),
        ),
        person(Naver, "40123456", "심청", None),
        person(Google, "109211450123456789012", "홍길동", Some("hong@gmail.com")),
        but(
            person(Google, "109211450123456789013", "성춘향", Some("chunhyang@example.com")),
            |person| person.hosted_domain = Some("example.com".to_owned()),
        ),
        // Google saw the address once, which proves nothing today.
        person(Google, "109211450123456789014", "이몽룡", Some("mongryong@example.net")),
    ]
}
