//! Personal data inside events is sealed: the log keeps ciphertext, the key lives in a row that can
//! be destroyed. See `docs/decisions/` on personal data.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A `T` that only the holder of the key can read. The domain passes it through unread, so clear
/// personal data cannot be put into an event by mistake.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed<T> {
    /// Names the data key, a row of `personal_keys`.
    pub key_id: Uuid,
    /// base64 (standard, padded) of nonce and AEAD output over the JSON of `T`; the associated data
    /// is the key id and the field's name.
    pub ciphertext: String,
    #[serde(skip)]
    clear: PhantomData<fn() -> T>,
}

impl<T> Sealed<T> {
    /// Only the sealer of the shell makes these from clear data; events read them back.
    pub const fn new(key_id: Uuid, ciphertext: String) -> Self {
        Self {
            key_id,
            ciphertext,
            clear: PhantomData,
        }
    }
}

/// Whatever is inside, what stands in the log looks the same.
impl<T> JsonSchema for Sealed<T> {
    fn schema_name() -> Cow<'static, str> {
        "Sealed".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Personal data that only the holder of the key can read.",
            "type": "object",
            "properties": {
                "key_id": {
                    "description": "Names the data key.",
                    "type": "string",
                    "format": "uuid",
                },
                "ciphertext": {
                    "description": "base64 (standard, padded) of nonce and AEAD output.",
                    "type": "string",
                    "pattern": "^[A-Za-z0-9+/]*={0,2}$",
                },
            },
            "required": ["key_id", "ciphertext"],
            "additionalProperties": false,
        })
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self::new(self.key_id, self.ciphertext.clone())
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key_id == other.key_id && self.ciphertext == other.ciphertext
    }
}

impl<T> Eq for Sealed<T> {}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.key_id)
    }
}
