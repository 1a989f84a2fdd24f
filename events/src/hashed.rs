//! Keyed hashes of personal data: enough to see that two values of one person are equal, and nothing
//! once the person's key is destroyed.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// HMAC-SHA-256 of a `T` under the data key of the person it belongs to, the one that
/// [`Sealed`](crate::Sealed) values of that person name. Equal values of two persons have unequal
/// hashes, and without the key the few values that a phone number can have cannot be tried. The type
/// of the value is part of the type, so that a phone is never compared with an e-mail address.
///
/// The hash that finds a person by a value, the same for all persons, is another one. It stands in
/// `unique_keys`, where it can be deleted, and never in an event.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashed<T> {
    /// Names the data key, a row of `personal_keys`.
    pub key_id: Uuid,
    /// 64 lower-case hex digits.
    #[serde(deserialize_with = "hex_digits")]
    keyed_hash: String,
    #[serde(skip)]
    clear: PhantomData<fn() -> T>,
}

impl<T> Hashed<T> {
    /// Only the sealer of the shell makes these from clear data; events read them back.
    pub fn new(key_id: Uuid, hash: [u8; 32]) -> Self {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        Self {
            key_id,
            keyed_hash: hash
                .iter()
                .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)])
                .collect(),
            clear: PhantomData,
        }
    }

    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        &self.keyed_hash
    }
}

fn hex_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 64 && text.bytes().all(digit) {
        Ok(text)
    } else {
        Err(de::Error::custom("a keyed hash has 64 lower-case hex digits"))
    }
}

/// Whatever was hashed, what stands in the log looks the same.
impl<T> JsonSchema for Hashed<T> {
    fn schema_name() -> Cow<'static, str> {
        "Hashed".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Keyed hash of personal data; says nothing without the key.",
            "type": "object",
            "properties": {
                "key_id": {
                    "description": "Names the data key.",
                    "type": "string",
                    "format": "uuid",
                },
                "keyed_hash": {
                    "description": "HMAC-SHA-256 under the person's data key.",
                    "type": "string",
                    "pattern": "^[0-9a-f]{64}$",
                },
            },
            "required": ["key_id", "keyed_hash"],
            "additionalProperties": false,
        })
    }
}

impl<T> Clone for Hashed<T> {
    fn clone(&self) -> Self {
        Self {
            key_id: self.key_id,
            keyed_hash: self.keyed_hash.clone(),
            clear: PhantomData,
        }
    }
}

impl<T> PartialEq for Hashed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key_id == other.key_id && self.keyed_hash == other.keyed_hash
    }
}

impl<T> Eq for Hashed<T> {}

impl<T> fmt::Debug for Hashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hashed({})", self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Email;

    #[test]
    fn a_hash_has_one_form_and_does_not_print() {
        let hash = Hashed::<Email>::new(Uuid::from_u128(0xaa), [0xa5; 32]);
        assert_eq!(hash.as_str(), "a5".repeat(32));
        let json = serde_json::to_string(&hash).expect("it serialises");
        assert_eq!(
            serde_json::from_str::<Hashed<Email>>(&json).expect("it reads back"),
            hash
        );
        assert!(!format!("{hash:?}").contains("a5a5"));
        for wrong in ["A5".repeat(32), "a5".repeat(31), "g5".repeat(32), String::new()] {
            let wrong = json.replace(&"a5".repeat(32), &wrong);
            assert!(serde_json::from_str::<Hashed<Email>>(&wrong).is_err(), "{wrong}");
        }
    }
}
