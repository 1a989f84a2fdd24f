//! Signatures by the Standard Webhooks rules: of what `PortOne` posts to us, and of what we post to others.
//!
//! `base64(HMAC-SHA256(key, id + "." + timestamp + "." + raw body))`, the key being the base64 text after `whsec_`.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac as _};
use reqwest::header::HeaderMap;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use crate::portone::Redacted;

/// How far a webhook's timestamp may be from now, in either direction, by the Standard Webhooks rule.
pub const TOLERANCE: Duration = Duration::from_secs(300);

const ID_CHARS_MAX: usize = 255;
/// Enough for a dozen signatures; `PortOne` sends one or two.
const SIGNATURE_BYTES_MAX: usize = 1024;
const SECRET_PREFIX: &str = "whsec_";

/// Padding carries nothing, and secrets are copied by hand: both forms are read, the padded one is written.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Checks signatures against a few secrets, any of which may have signed: the console allows two, for rotation.
/// `Debug` shows none of them.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<Hmac<Sha256>>,
    tolerance: Duration,
}

/// A webhook secret that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The list is empty: everything would be refused.
    #[error("there is no webhook secret")]
    None,
    /// A secret is empty: anybody could sign with it.
    #[error("a webhook secret is empty")]
    Empty,
    /// A secret is not base64 after its `whsec_`.
    #[error("a webhook secret is not base64 after its whsec_ prefix")]
    NotBase64,
}

/// Why a webhook is not believed. For the log; the sender is told nothing but 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is absent, repeated or empty.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header is too long or not of its form.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// The timestamp is too far from now, so this may be a recording.
    #[error("the webhook was signed {seconds_ago} s ago, which is too far from now")]
    Expired {
        /// Negative: in the future.
        seconds_ago: i64,
    },
    /// None of the signatures fits the body under any of the secrets.
    #[error("no signature matches")]
    NoMatch,
}

/// The three headers that a signature needs, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`: opaque, at most 255 characters.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`: entries such as `v1,<base64>`, with single spaces between them.
    pub signature: Option<&'a str>,
}

impl<'a> SignatureHeaders<'a> {
    /// Takes the headers out of a request. One that comes twice counts as missing: which of them was signed is a guess.
    pub fn from_map(headers: &'a HeaderMap) -> Self {
        let single = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let first = values.next()?;
            if values.next().is_some() {
                None
            } else {
                first.to_str().ok()
            }
        };
        Self {
            id: single(ID),
            timestamp: single(TIMESTAMP),
            signature: single(SIGNATURE),
        }
    }
}

/// Names the message: the same at every attempt.
pub const ID: &str = "webhook-id";
/// When this attempt was signed, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// By each secret that is valid.
pub const SIGNATURE: &str = "webhook-signature";

impl Verifier {
    /// Takes the secrets as the console shows them, with or without `whsec_`.
    pub fn try_new(secrets: &[String], tolerance: Duration) -> Result<Self, SecretError> {
        if secrets.is_empty() {
            return Err(SecretError::None);
        }
        let keys = secrets.iter().map(|secret| key(secret)).collect::<Result<_, _>>()?;
        Ok(Self { keys, tolerance })
    }

    /// Checks that someone who knows one of the secrets signed exactly these bytes, close to `now`.
    pub fn verify(&self, headers: SignatureHeaders<'_>, body: &[u8], now: DateTime<Utc>) -> Result<(), SignatureError> {
        let id = bounded(headers.id, ID, ID_CHARS_MAX)?;
        let timestamp = bounded(headers.timestamp, TIMESTAMP, 20)?;
        let signatures = bounded(headers.signature, SIGNATURE, SIGNATURE_BYTES_MAX)?;

        let signed_at = timestamp
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| timestamp.parse::<i64>().ok())
            .flatten()
            .ok_or(SignatureError::Malformed(TIMESTAMP))?;
        let seconds_ago = now.timestamp().saturating_sub(signed_at);
        if seconds_ago.unsigned_abs() > self.tolerance.as_secs() {
            return Err(SignatureError::Expired { seconds_ago });
        }

        let entries: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|entry| entry.strip_prefix("v1,"))
            .filter_map(|encoded| BASE64.decode(encoded).ok())
            .collect();
        // Every entry is compared with every key, so that the time taken tells nothing about either.
        let mut matches = Choice::from(0);
        for key in &self.keys {
            let expected = mac(key.clone(), id, timestamp, body);
            for entry in &entries {
                matches |= expected.as_slice().ct_eq(entry);
            }
        }
        if bool::from(matches) {
            Ok(())
        } else {
            Err(SignatureError::NoMatch)
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &Redacted)
            .field("tolerance", &self.tolerance)
            .finish()
    }
}

/// One entry of `webhook-signature`; `timestamp` is seconds since 1970. While a secret is rotated there is one entry for
/// each of the two, with a space between them.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String, SecretError> {
    let mac = mac(key(secret)?, id, &timestamp.to_string(), body);
    Ok(format!("v1,{}", BASE64.encode(mac)))
}

/// A secret in its text form, of 32 random bytes: as long as the MAC.
pub fn secret(bytes: &[u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", BASE64.encode(bytes))
}

fn key(secret: &str) -> Result<Hmac<Sha256>, SecretError> {
    let secret = secret.trim();
    let encoded = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
    let bytes = BASE64.decode(encoded).map_err(|_| SecretError::NotBase64)?;
    if bytes.is_empty() {
        return Err(SecretError::Empty);
    }
    Ok(Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length"))
}

fn mac(mut key: Hmac<Sha256>, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        key.update(part);
    }
    key.finalize().into_bytes().into()
}

fn bounded<'a>(value: Option<&'a str>, name: &'static str, bytes_max: usize) -> Result<&'a str, SignatureError> {
    match value {
        None | Some("") => Err(SignatureError::Missing(name)),
        Some(value) if value.len() > bytes_max => Err(SignatureError::Malformed(name)),
        Some(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests;
