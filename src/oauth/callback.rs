//! What the browser brings back.

use super::error::known_code;
use crate::config::Secret;

/// Longer than any provider's code; nobody else gets far with more.
const TEXT_BYTES_MAX: usize = 2_048;

/// The query of the address that the provider sent the browser to. Anybody can call that address: nothing in it is to
/// be believed before `state` was found to be the session's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// For [`super::Attempt::is_answered_by`].
    pub state: Secret,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of asking the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// She agreed: the code for [`super::Client::exchange`].
    Code(Secret),
    /// She does not want to (`access_denied`).
    Declined,
    /// The provider did not even ask her; the code of the error, or `other`.
    Failed(&'static str),
}

/// A query that no provider sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer has no state, neither code nor error, or something twice")]
pub struct BadCallback;

impl Callback {
    /// Reads the raw query. An error wins over a code, and whatever comes twice spoils it.
    pub fn parse(query: &str) -> Result<Self, BadCallback> {
        let fields: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(|_| BadCallback)?;
        let one = |name: &str| {
            let mut found = fields.iter().filter(|(key, value)| key == name && !value.is_empty());
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some((_, value)), None) if value.len() <= TEXT_BYTES_MAX => Ok(Some(value.clone())),
                _ => Err(BadCallback),
            }
        };
        let state = one("state")?.ok_or(BadCallback)?;
        let outcome = match (one("error")?.as_deref(), one("code")?) {
            (Some("access_denied"), _) => Outcome::Declined,
            (Some(error), _) => Outcome::Failed(known_code(error)),
            (None, Some(code)) => Outcome::Code(Secret::new(code)),
            (None, None) => return Err(BadCallback),
        };
        Ok(Self {
            state: Secret::new(state),
            outcome,
        })
    }
}
