//! What can go wrong between the shop and a provider. Nothing here holds a text that came from outside: it could be
//! somebody's.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// A login, or the end of one, that did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The provider decided against it: the code is spent or too old, the credentials are wrong, the token is dead.
    #[error(transparent)]
    Refused(Refusal),
    /// Any other answer that is not a success: gateway pages, overload.
    #[error("the provider answered {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
    },
    /// No complete answer came.
    #[error("no answer from the provider: {0}")]
    Unreachable(Unreachable),
    /// An answer that is not what it should be.
    #[error("the provider's {0} cannot be read")]
    Unreadable(&'static str),
    /// The `id_token` is not for this login.
    #[error("the id_token {0}")]
    IdToken(IdTokenFault),
}

impl Error {
    /// Whether the same request may be answered otherwise a moment later. A code cannot be sent again all the same.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Failed { status } => *status >= 500 || matches!(status, 408 | 429),
            Self::Refused(_) | Self::Unreadable(_) | Self::IdToken(_) => false,
        }
    }

    /// Sorts an answer; what is a success is given back. Naver refuses with HTTP 200, so the body decides first.
    pub(super) fn sort(status: u16, body: Vec<u8>) -> Result<Vec<u8>, Self> {
        let wire: WireError = serde_json::from_slice(&body).unwrap_or_default();
        let is_error = wire.error.is_some() || wire.resultcode.as_deref().is_some_and(|code| code != "00");
        if status == 200 && !is_error {
            return Ok(body);
        }
        let is_told = is_error || wire.code.is_some();
        if status == 200 || ((400..500).contains(&status) && !matches!(status, 408 | 429) && is_told) {
            return Err(Self::Refused(Refusal {
                status,
                code: wire.error.as_ref().and_then(Value::as_str).map_or("other", known_code),
                detail: wire.detail(),
            }));
        }
        Err(Self::Failed { status })
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// A provider's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the provider refused: {code} ({status}){}", detail.map(|detail| format!(", number {detail}")).unwrap_or_default())]
pub struct Refusal {
    /// The HTTP status; 200 at Naver.
    pub status: u16,
    /// The code of RFC 6749, or `other`.
    pub code: &'static str,
    /// Kakao's `KOE320` as 320 and its `-401` as it is; Naver's `024` as 24.
    pub detail: Option<i32>,
}

/// Why no complete answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No connection could be made.
    Connect,
    /// The time ran out.
    Timeout,
    /// The connection ended early.
    Dropped,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::Timeout => "timed out",
            Self::Dropped => "the connection was dropped",
        })
    }
}

/// What is wrong with an `id_token`; reads on from that word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdTokenFault {
    /// There is none, though `openid` was asked for.
    Missing,
    /// It is not a JWT with the claims that it must have.
    Malformed,
    /// `iss` is somebody else.
    Issuer,
    /// `aud` is another shop.
    Audience,
    /// `exp` has passed.
    Expired,
    /// `nonce` is of another attempt.
    Nonce,
    /// `sub` is another person than the provider tells of next.
    Subject,
}

impl fmt::Display for IdTokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Malformed => "cannot be read",
            Self::Issuer => "has another issuer",
            Self::Audience => "is for another client",
            Self::Expired => "has expired",
            Self::Nonce => "is of another attempt",
            Self::Subject => "is of another person",
        })
    }
}

/// The errors of all three in one: kauth, Naver and Google have `error`, kapi has `code`, Naver's people `resultcode`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WireError {
    error: Option<Value>,
    error_code: Option<Value>,
    code: Option<Value>,
    #[serde(deserialize_with = "text_or_nothing")]
    resultcode: Option<String>,
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    // A result code that is no text is none that we know, and not a success.
    Ok(Some(match Value::deserialize(from)? {
        Value::String(text) => text,
        _ => String::new(),
    }))
}

impl WireError {
    /// Numbers alone: they cannot be anybody's name.
    fn detail(&self) -> Option<i32> {
        let number = |value: &Value| match value {
            Value::String(text) => text.trim_start_matches("KOE").parse().ok(),
            other => i32::try_from(other.as_i64()?).ok(),
        };
        [&self.error_code, &self.code]
            .into_iter()
            .flatten()
            .find_map(number)
            .or_else(|| self.resultcode.as_ref()?.parse().ok())
    }
}

/// The codes of RFC 6749, `OpenID` Connect and the three providers that a program or an operator can do something with.
const KNOWN_CODES: [&str; 15] = [
    "access_denied",
    "consent_required",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_token",
    "login_required",
    "redirect_uri_mismatch",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
];

pub(super) fn known_code(code: &str) -> &'static str {
    KNOWN_CODES.into_iter().find(|known| *known == code).unwrap_or("other")
}
