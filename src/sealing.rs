//! Seals personal data before it reaches an event, and opens it at the edge.
//!
//! A data key belongs to one person and retention class (a guest order is a person of its own). It
//! is stored wrapped under two keys derived from the master key: the live one, for daily work until
//! the person withdraws, and the hold one, for what the law makes a shop keep. Destroying the rows
//! makes the data unreadable for good, wherever copies of the log may be.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use jangbu_events::{Hashed, Phone, Sealed};
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{clock::Surroundings, log::NewPersonalKey};

/// Bytes of an `XChaCha20` nonce, which stands before the ciphertext. Random nonces of this length do
/// not meet.
const NONCE: usize = 24;

/// Why personal data cannot be opened. A destroyed key is not an error but an answer.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key row cannot be read.
    #[error("personal keys cannot be read: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// The key or the ciphertext is not what was written, or the master key is another one.
    #[error("sealed data of key {key_id} does not open; is JANGBU_MASTER_KEY the one it was written with?")]
    Corrupt {
        /// Which data key.
        key_id: Uuid,
    },
}

/// Wraps data keys and derives what is needed from the master key.
#[derive(Clone)]
pub struct Sealer {
    live: XChaCha20Poly1305,
    hold: XChaCha20Poly1305,
    requests: [u8; 32],
    secrets: XChaCha20Poly1305,
}

/// A data key in clear. Lives only in memory.
pub struct DataKey {
    id: Uuid,
    cipher: XChaCha20Poly1305,
    /// For the phone's hash: of the data key, so that a new master key leaves it as it is.
    phones: [u8; 32],
    /// For what is compared within one person's events.
    hashes: [u8; 32],
}

impl Sealer {
    /// Derives the live, the hold and the request key from the master key.
    pub fn new(master_key: &[u8; 32]) -> Self {
        let derived = Hkdf::<Sha256>::new(None, master_key);
        let derive = |purpose: &str| {
            let mut key = [0; 32];
            derived
                .expand(purpose.as_bytes(), &mut key)
                .expect("32 bytes can be derived");
            key
        };
        Self {
            live: cipher(&derive("jangbu personal live v1")),
            hold: cipher(&derive("jangbu personal hold v1")),
            requests: derive("jangbu request hash v1"),
            secrets: cipher(&derive("jangbu webhook secrets v1")),
        }
    }

    /// Makes a data key for a person and a retention class, and the row that must be appended with
    /// the first event sealed under it.
    pub fn new_key(
        &self,
        surroundings: &Surroundings,
        person_id: String,
        retention_class: &'static str,
        phone: Option<&Phone>,
    ) -> (DataKey, NewPersonalKey) {
        let id = surroundings.ids.uuid();
        let key: [u8; 32] = surroundings.bytes();
        let data_key = DataKey::new(id, &key);
        let row = NewPersonalKey {
            key_id: id,
            person_id,
            retention_class,
            live: encrypt(&self.live, surroundings, &key, id.as_bytes()),
            hold: encrypt(&self.hold, surroundings, &key, id.as_bytes()),
            phone_hash: phone.map(|phone| data_key.phone_hash(phone)),
        };
        (data_key, row)
    }

    /// Seals a secret that we share with somebody else. `owner` binds it to its row: put into another one it does
    /// not open.
    pub fn seal_secret(&self, surroundings: &Surroundings, owner: Uuid, secret: &str) -> Vec<u8> {
        encrypt(&self.secrets, surroundings, secret.as_bytes(), owner.as_bytes())
    }

    /// Opens it; `None` if it is not what was sealed for `owner` under this master key.
    pub fn open_secret(&self, owner: Uuid, sealed: &[u8]) -> Option<String> {
        String::from_utf8(decrypt(&self.secrets, sealed, owner.as_bytes())?).ok()
    }

    /// What the log keeps of a request, to tell a repeat from another request under the same key.
    /// Keyed, since requests hold names and phones that a plain hash would let anybody guess at.
    pub fn request_hash(&self, body: &[u8]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.requests).expect("any key length will do");
        mac.update(body);
        mac.finalize().into_bytes().into()
    }

    /// The data key of that id; `None` once it is destroyed.
    pub async fn key(&self, db: &PgPool, key_id: Uuid) -> Result<Option<DataKey>, SealError> {
        Ok(self.keys(db, &[key_id]).await?.remove(&key_id))
    }

    /// Several data keys at once, without those that are destroyed.
    pub async fn keys(&self, db: &PgPool, key_ids: &[Uuid]) -> Result<HashMap<Uuid, DataKey>, SealError> {
        let rows = sqlx::query!(
            "select key_id, wrapped_key from personal_keys where key_id = any($1)",
            key_ids
        )
        .fetch_all(db)
        .await?;
        rows.into_iter()
            .map(|row| Ok((row.key_id, self.unwrap(row.key_id, &row.wrapped_key)?)))
            .collect()
    }

    /// Opens a sealed value; `None` once its key is destroyed.
    pub async fn open<T: DeserializeOwned>(
        &self,
        db: &PgPool,
        field: &str,
        sealed: &Sealed<T>,
    ) -> Result<Option<T>, SealError> {
        self.key(db, sealed.key_id)
            .await?
            .map(|key| key.open(field, sealed))
            .transpose()
    }

    /// Whether the person of a key gave this phone; `false` once the key is destroyed. The same
    /// work is done for a hit, a miss and an unknown key.
    pub async fn phone_matches(&self, db: &PgPool, key_id: Uuid, phone: &Phone) -> Result<bool, SealError> {
        let row = sqlx::query!(
            "select wrapped_key, phone_hash from personal_keys where key_id = $1",
            key_id
        )
        .fetch_optional(db)
        .await?;
        let (key, known) = match row {
            Some(row) => (self.unwrap(key_id, &row.wrapped_key)?, row.phone_hash),
            None => (DataKey::new(key_id, &[0; 32]), None),
        };
        let given = key.phone_hash(phone);
        let known = known.unwrap_or_else(|| vec![0; given.len()]);
        Ok(subtle::ConstantTimeEq::ct_eq(known.as_slice(), given.as_slice()).into())
    }

    fn unwrap(&self, key_id: Uuid, wrapped: &[u8]) -> Result<DataKey, SealError> {
        let key = decrypt(&self.live, wrapped, key_id.as_bytes()).ok_or(SealError::Corrupt { key_id })?;
        let key: [u8; 32] = key.try_into().map_err(|_| SealError::Corrupt { key_id })?;
        Ok(DataKey::new(key_id, &key))
    }
}

impl DataKey {
    fn new(id: Uuid, key: &[u8; 32]) -> Self {
        let derived = Hkdf::<Sha256>::new(None, key);
        let derive = |purpose: &[u8]| {
            let mut key = [0; 32];
            derived.expand(purpose, &mut key).expect("32 bytes can be derived");
            key
        };
        Self {
            id,
            cipher: cipher(key),
            phones: derive(b"jangbu phone look-up v1"),
            hashes: derive(b"jangbu personal hash v1"),
        }
    }

    /// Keyed by the person's own data key, so that equal phones of two orders cannot be seen to be
    /// equal, and a destroyed key takes the hash with it.
    fn phone_hash(&self, phone: &Phone) -> Vec<u8> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.phones).expect("any key length will do");
        mac.update(phone.as_str().as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    /// Hashes a value, to see later whether another one of this person is equal. `field` keeps values of
    /// several fields apart.
    pub fn hash<T>(&self, field: &str, value: &str) -> Hashed<T> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.hashes).expect("any key length will do");
        mac.update(field.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        Hashed::new(self.id, mac.finalize().into_bytes().into())
    }

    /// As in [`Sealed`].
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// Seals a value. `field` binds it to its place: a ciphertext moved to another field does not open.
    pub fn seal<T: Serialize>(&self, surroundings: &Surroundings, field: &str, clear: &T) -> Sealed<T> {
        let json = serde_json::to_vec(clear).expect("personal data serialises");
        let bytes = encrypt(&self.cipher, surroundings, &json, &associated(self.id, field));
        Sealed::new(self.id, STANDARD.encode(bytes))
    }

    /// Opens a value that was sealed under this key.
    pub fn open<T: DeserializeOwned>(&self, field: &str, sealed: &Sealed<T>) -> Result<T, SealError> {
        let corrupt = || SealError::Corrupt { key_id: sealed.key_id };
        let bytes = STANDARD.decode(&sealed.ciphertext).map_err(|_| corrupt())?;
        let json = decrypt(&self.cipher, &bytes, &associated(sealed.key_id, field)).ok_or_else(corrupt)?;
        serde_json::from_slice(&json).map_err(|_| corrupt())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer([redacted])")
    }
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(Key::from_slice(key))
}

fn associated(key_id: Uuid, field: &str) -> Vec<u8> {
    [key_id.as_bytes(), field.as_bytes()].concat()
}

fn encrypt(cipher: &XChaCha20Poly1305, surroundings: &Surroundings, clear: &[u8], associated: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = surroundings.bytes();
    let payload = Payload {
        msg: clear,
        aad: associated,
    };
    let sealed = cipher
        .encrypt(XNonce::from_slice(&nonce), payload)
        .expect("a short message can be encrypted");
    [nonce.as_slice(), &sealed].concat()
}

fn decrypt(cipher: &XChaCha20Poly1305, bytes: &[u8], associated: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
    cipher
        .decrypt(
            XNonce::from_slice(nonce),
            Payload {
                msg: sealed,
                aad: associated,
            },
        )
        .ok()
}

#[cfg(test)]
mod tests {
    use jangbu_events::PersonName;

    use super::*;

    const WRAPPED: &str =
        "YRgw02QaaPlKaQ3MJdH0sNrJSDJawY9tK4/augIrVMfNU3ez69dKelhWYmcA6QPh1aLudVgxKgwVKPZdK6AhUhSXO7M2iI5W";
    const ORDERER: &str = "0yVkNxc18yxUdD3F4k0qQTsVlYTBIm32rIVW2rX0WtEZhW+ysomyWrmee92YoE/ZAWcvO6nt9u+i9aKNbN8RKjm0onRS25CgDgGpMktH+Ah2Ew2m3l8WHZurGQvz5HhXDCg7qk4l4kkTnIosC6fP";
    const PHONE_HASH: &str = "OtmoMqsX4Qzqyf2LpwcKrrcwVvDdwwEyEhirFTZiLfQ=";

    fn name() -> PersonName {
        "홍길동".parse().expect("a name")
    }

    #[test]
    fn sealed_data_opens_under_its_key_and_field_only() {
        let surroundings = Surroundings::system();
        let sealer = Sealer::new(&[7; 32]);
        let (key, _) = sealer.new_key(&surroundings, "ord_1".into(), "RET_CONTRACT", None);
        let (other, _) = sealer.new_key(&surroundings, "ord_2".into(), "RET_CONTRACT", None);
        let ciphertext = key.seal(&surroundings, "orderer", &name());
        assert_eq!(key.open("orderer", &ciphertext).expect("it opens"), name());
        assert!(key.open("recipient", &ciphertext).is_err());
        assert!(other.open("orderer", &ciphertext).is_err());
        assert!(!ciphertext.ciphertext.contains("홍길동"));
    }

    #[test]
    fn the_same_data_never_looks_the_same() {
        let surroundings = Surroundings::system();
        let (key, _) = Sealer::new(&[7; 32]).new_key(&surroundings, "ord_1".into(), "RET_CONTRACT", None);
        assert_ne!(
            key.seal(&surroundings, "orderer", &name()),
            key.seal(&surroundings, "orderer", &name())
        );
    }

    #[test]
    fn a_data_key_is_wrapped_twice_and_apart() {
        let surroundings = Surroundings::system();
        let sealer = Sealer::new(&[7; 32]);
        let (_, row) = sealer.new_key(&surroundings, "ord_1".into(), "RET_CONTRACT", None);
        assert!(decrypt(&sealer.live, &row.live, row.key_id.as_bytes()).is_some());
        assert!(decrypt(&sealer.hold, &row.hold, row.key_id.as_bytes()).is_some());
        assert!(decrypt(&sealer.live, &row.hold, row.key_id.as_bytes()).is_none());
        assert!(decrypt(&Sealer::new(&[8; 32]).live, &row.live, row.key_id.as_bytes()).is_none());
    }

    #[test]
    fn a_shared_secret_opens_for_its_owner_under_its_key() {
        let (surroundings, sealer) = (Surroundings::system(), Sealer::new(&[7; 32]));
        let (owner, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let stored = sealer.seal_secret(&surroundings, owner, "whsec_x");
        assert_eq!(sealer.open_secret(owner, &stored).as_deref(), Some("whsec_x"));
        assert_eq!(sealer.open_secret(other, &stored), None);
        assert_eq!(Sealer::new(&[8; 32]).open_secret(owner, &stored), None);
    }

    /// Pinned: events and key rows in old logs were written like this.
    #[test]
    fn what_was_sealed_long_ago_still_opens() {
        let sealer = Sealer::new(&[7; 32]);
        let key_id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00aa);
        let wrapped = STANDARD.decode(WRAPPED).expect("base64");
        let key = sealer.unwrap(key_id, &wrapped).expect("the data key unwraps");
        let orderer: jangbu_events::Orderer = key
            .open("orderer", &Sealed::new(key_id, ORDERER.to_owned()))
            .expect("the orderer opens");
        assert_eq!(
            (orderer.name.as_str(), orderer.phone.as_str()),
            ("홍길동", "+821012345678")
        );
        assert_eq!(STANDARD.encode(key.phone_hash(&orderer.phone)), PHONE_HASH);
    }
}
