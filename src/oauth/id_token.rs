//! The claims of an `id_token` that came straight from the token endpoint.
//!
//! Its signature is not looked at: `OpenID` Connect Core 3.1.3.7 lets TLS stand for it there. A token from anywhere else,
//! above all from a browser, must never get here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jangbu_events::Timestamp;
use serde::Deserialize;

use super::error::IdTokenFault;

/// How far the provider's clock may be behind ours.
const LEEWAY_SECONDS: i64 = 60;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    azp: Option<String>,
    sub: String,
    exp: i64,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What a token is held against.
pub(super) struct Expected<'a> {
    pub issuers: &'a [&'a str],
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

impl Expected<'_> {
    /// The subject, if the token is for this attempt.
    pub fn check(&self, token: Option<&str>) -> Result<String, IdTokenFault> {
        let claims = read(token.ok_or(IdTokenFault::Missing)?).ok_or(IdTokenFault::Malformed)?;
        let is_ours = |name: &String| name == self.client_id;
        let for_us = match &claims.aud {
            Audience::One(name) => is_ours(name),
            // Several: then `azp` says whose it is (3.1.3.7, 4 and 5).
            Audience::Many(names) => names.iter().any(is_ours) && (names.len() == 1 || claims.azp.is_some()),
        };
        let checks = [
            (self.issuers.contains(&claims.iss.as_str()), IdTokenFault::Issuer),
            (
                for_us && claims.azp.as_ref().is_none_or(is_ours),
                IdTokenFault::Audience,
            ),
            (
                self.now.timestamp() < claims.exp.saturating_add(LEEWAY_SECONDS),
                IdTokenFault::Expired,
            ),
            (claims.nonce.as_deref() == Some(self.nonce), IdTokenFault::Nonce),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, fault)) => Err(fault),
            None => Ok(claims.sub),
        }
    }
}

fn read(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
