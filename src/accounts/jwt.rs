//! Access tokens: what a signed-in client shows at every request, for a quarter of an hour.
//!
//! A key has a name (`kid`) and one algorithm. The header of a token names the key and nothing else that
//! is believed: its `alg` must be the key's, so a token cannot choose how it is checked. The first key
//! signs, all of them verify. Tokens of `jangbu token`, without a `kid`, are those of `crate::http`.

mod key;

use std::time::Duration;

use jangbu_events::{CustomerId, StoreId, Timestamp};
use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::sessions::SessionId;
use crate::clock::Surroundings;

pub use key::{KeyError, TokenKey, refuse_twins};

/// Whom tokens are for.
const AUDIENCE: &str = "jangbu";
/// What kind of token it is (RFC 9068): no other token that a key of ours may have signed.
const TYPE: &str = "at+jwt";
/// Longer tokens are not looked at.
const BYTES_MAX: usize = 8_192;
/// How far the clock of the process that signed may be ahead of ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 30;

/// What its holder may do somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Name of the role.
    pub role: String,
    /// Where.
    pub store: Scope,
}

/// Where a role counts; in JSON `*` or the id of a store. There is no default: a word that is missing must not
/// be the most powerful one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In all stores, those of the future too.
    Every,
    /// In one.
    One(StoreId),
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Every => serializer.serialize_str("*"),
            Self::One(store) => store.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "*" {
            return Ok(Self::Every);
        }
        text.parse().map(Self::One).map_err(de::Error::custom)
    }
}

/// Who signed in, as a token says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who.
    pub customer: CustomerId,
    /// In which session; ask [`super::sessions::EndedSessions`] whether it goes on.
    pub session: SessionId,
    /// What they may do.
    pub grants: Vec<Grant>,
    /// Of this very token.
    pub token_id: Uuid,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A token for a client.
#[derive(Clone)]
pub struct Signed {
    /// `header.claims.signature`.
    pub token: String,
    /// Seconds until it ends, for `expires_in`.
    pub expires_in_seconds: u64,
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed([redacted], {} s)", self.expires_in_seconds)
    }
}

/// Why a token is not taken. To a client all but the last are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a token of ours: form, key, algorithm, signature, audience, issuer or claims.
    #[error("the access token is not valid")]
    Invalid,
    /// Signed by a clock ahead of ours.
    #[error("the access token is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("the access token has expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: CustomerId,
    sid: SessionId,
    roles: Vec<Grant>,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

/// Signs and checks access tokens.
#[derive(Clone)]
pub struct AccessTokens {
    issuer: String,
    lifetime: Duration,
    keys: Vec<key::Ready>,
}

impl std::fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessTokens([redacted])")
    }
}

impl AccessTokens {
    /// `issuer` is this shop, by its public URL. The first key signs; there is at least one.
    pub fn try_new(issuer: &str, lifetime: Duration, keys: &[TokenKey]) -> Result<Self, KeyError> {
        key::refuse_twins(keys)?;
        Ok(Self {
            issuer: issuer.to_owned(),
            lifetime,
            keys: keys.iter().map(TokenKey::ready).collect(),
        })
    }

    /// Whether a token claims to be of this kind, as opposed to those of `jangbu token`. Says nothing about
    /// whether it is.
    pub fn is_of_this_kind(token: &str) -> bool {
        token.len() <= BYTES_MAX && jsonwebtoken::decode_header(token).is_ok_and(|header| header.kid.is_some())
    }

    /// How long a token lives.
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A token for a session.
    pub fn sign(
        &self,
        surroundings: &Surroundings,
        customer: CustomerId,
        session: SessionId,
        grants: Vec<Grant>,
    ) -> Signed {
        let now = surroundings.now().timestamp();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: customer,
            sid: session,
            roles: grants,
            iat: now,
            nbf: now,
            exp: now.saturating_add(i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX)),
            jti: surroundings.ids.uuid(),
        };
        let key = self.keys.first().expect("there is at least one key");
        let mut header = Header::new(key.algorithm);
        header.kid = Some(key.name.clone());
        header.typ = Some(TYPE.to_owned());
        Signed {
            token: jsonwebtoken::encode(&header, &claims, &key.signing).expect("plain claims can be signed"),
            expires_in_seconds: self.lifetime.as_secs(),
        }
    }

    /// Who shows a token. Whether their session goes on is another question.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Bearer, Refused> {
        if token.len() > BYTES_MAX {
            return Err(Refused::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Invalid)?;
        let key = self
            .keys
            .iter()
            .find(|key| Some(&key.name) == header.kid.as_ref())
            .filter(|key| key.algorithm == header.alg && header.typ.as_deref() == Some(TYPE))
            .ok_or(Refused::Invalid)?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
        // These checks read the machine's clock; ours is injected.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &key.checking, &validation)
            .map_err(|_| Refused::Invalid)?
            .claims;
        if claims.exp <= now.timestamp() {
            return Err(Refused::Expired);
        }
        if claims.nbf.max(claims.iat) > now.timestamp() + CLOCK_SKEW_SECONDS {
            return Err(Refused::NotYet);
        }
        Ok(Bearer {
            customer: claims.sub,
            session: claims.sid,
            grants: claims.roles,
            token_id: claims.jti,
            expires_at: Timestamp::from_timestamp(claims.exp, 0).ok_or(Refused::Invalid)?,
        })
    }
}

#[cfg(test)]
mod tests;
