//! The name of a session.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

const PREFIX: &str = "ses_";

/// `ses_` and 32 hex digits; no stream of the log has such an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// The bare 128 bits.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for SessionId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.simple())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not the id of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session's id is ses_ and 32 hex digits")]
pub struct SessionIdError;

impl FromStr for SessionId {
    type Err = SessionIdError;

    /// Takes the canonical spelling only, as other ids do.
    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        text.strip_prefix(PREFIX)
            .filter(|hex| hex.len() == 32 && !hex.bytes().any(|b| b.is_ascii_uppercase()))
            .and_then(|hex| Uuid::try_parse(hex).ok())
            .map(Self)
            .ok_or(SessionIdError)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = SessionId::from(Uuid::from_u128(0xab));
        let text = id.to_string();
        assert_eq!(text, "ses_000000000000000000000000000000ab");
        assert_eq!(text.parse(), Ok(id));
        for wrong in [
            &text[4..],
            "ses_000000000000000000000000000000AB",
            "ses_ab",
            "ses_00000000-0000-0000-0000-0000000000ab",
            "cus_000000000000000000000000000000ab",
        ] {
            assert_eq!(wrong.parse::<SessionId>(), Err(SessionIdError), "{wrong}");
        }
    }
}
