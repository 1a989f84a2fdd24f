//! Keys of access tokens, each with a name and an algorithm.

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use sha2::Sha256;

/// The fewest bytes of a key for HMAC-SHA256 (RFC 7518, 3.2), and exactly those of a seed for Ed25519.
const BYTES: usize = 32;
/// What stands before the seed in the PKCS #8 form of an Ed25519 key (RFC 8410).
const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key that signs or once signed. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    name: String,
    secret: KeyMaterial,
}

#[derive(Clone, PartialEq, Eq)]
enum KeyMaterial {
    /// HMAC-SHA256: whoever can check tokens can make them.
    Hs256(Vec<u8>),
    /// Ed25519, by its seed.
    EdDsa([u8; BYTES]),
}

/// Why keys cannot be used. Shows nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `name:algorithm:key`.
    #[error("a key is <name>:hs256:<base64> or <name>:eddsa:<base64>, its name 1 to 32 of A-Z a-z 0-9 _ -")]
    Form,
    /// Too short for HMAC, or no seed.
    #[error("a key has 32 bytes in base64 (hs256: or more)")]
    Length,
    /// Two keys have one name, or the same bytes.
    #[error("no two keys may have the same name or the same bytes")]
    Twins,
    /// There is nothing to sign with.
    #[error("at least one key is needed")]
    None,
}

impl TokenKey {
    /// Reads `name:hs256:<base64>` or `name:eddsa:<base64 of the seed>`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.trim().splitn(3, ':');
        let (Some(name), Some(algorithm), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if !(1..=32).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(KeyError::Form);
        }
        let key = STANDARD.decode(key).map_err(|_| KeyError::Form)?;
        let secret = match algorithm {
            "hs256" if key.len() >= BYTES => KeyMaterial::Hs256(key),
            "eddsa" => KeyMaterial::EdDsa(key.try_into().map_err(|_| KeyError::Length)?),
            "hs256" => return Err(KeyError::Length),
            _ => return Err(KeyError::Form),
        };
        Ok(Self {
            name: name.to_owned(),
            secret,
        })
    }

    /// The key of a shop that configured none, derived from `JANGBU_JWT_SECRET`; not that secret itself, which
    /// signs tokens of another kind.
    pub fn derived(jwt_secret: &str) -> Self {
        let mut key = [0; BYTES];
        Hkdf::<Sha256>::new(None, jwt_secret.as_bytes())
            .expand(b"jangbu access tokens v1", &mut key)
            .expect("32 bytes can be derived");
        Self {
            name: "derived".to_owned(),
            secret: KeyMaterial::Hs256(key.into()),
        }
    }

    /// As `kid` says it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ready(&self) -> Ready {
        let (algorithm, signing, checking) = match &self.secret {
            KeyMaterial::Hs256(key) => (
                Algorithm::HS256,
                EncodingKey::from_secret(key),
                DecodingKey::from_secret(key),
            ),
            KeyMaterial::EdDsa(seed) => (
                Algorithm::EdDSA,
                EncodingKey::from_ed_der(&[&ED25519_PKCS8, seed.as_slice()].concat()),
                DecodingKey::from_ed_der(SigningKey::from_bytes(seed).verifying_key().as_bytes()),
            ),
        };
        Ready {
            name: self.name.clone(),
            algorithm,
            signing,
            checking,
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.secret {
            KeyMaterial::Hs256(key) => key,
            KeyMaterial::EdDsa(seed) => seed,
        }
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({}, [redacted])", self.name)
    }
}

/// A key in the forms that it is used in.
#[derive(Clone)]
pub(super) struct Ready {
    pub name: String,
    pub algorithm: Algorithm,
    pub signing: EncodingKey,
    pub checking: DecodingKey,
}

/// Refuses two keys of one name or of the same bytes, and none at all. A seed that is a secret of the other
/// algorithm too would let whoever has the one forge tokens of the other.
pub fn refuse_twins(keys: &[TokenKey]) -> Result<(), KeyError> {
    if keys.is_empty() {
        return Err(KeyError::None);
    }
    for (n, key) in keys.iter().enumerate() {
        let is_twin = |other: &TokenKey| other.name == key.name || other.bytes() == key.bytes();
        if keys[..n].iter().any(is_twin) {
            return Err(KeyError::Twins);
        }
    }
    Ok(())
}
