//! Hashes of peers' addresses, for the audit trail. Every month has its own random key in a row that
//! can be destroyed: the addresses of a whole country can be hashed in minutes, so a hash hides
//! nothing while its key lives, and everything afterwards.

use std::{collections::HashMap, net::IpAddr, sync::Mutex, sync::PoisonError};

use hmac::{Hmac, Mac};
use jangbu_events::Timestamp;
use sha2::Sha256;
use sqlx::PgPool;

use crate::{
    clock::{Surroundings, korean_time},
    hex::hex,
};

/// Hashes addresses under the month's key.
#[derive(Default)]
pub struct IpHasher {
    keys: Mutex<HashMap<String, [u8; 32]>>,
}

impl IpHasher {
    /// `2026-03:` and 16 hex digits, in the Korean month of `now`.
    pub async fn hash(&self, db: &PgPool, surroundings: &Surroundings, address: IpAddr) -> sqlx::Result<String> {
        let now = surroundings.now();
        let month = korean_time(now).format("%Y-%m").to_string();
        let known = self
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&month)
            .copied();
        let key = if let Some(key) = known {
            key
        } else {
            let key = month_key(db, surroundings, &month, now).await?;
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            // Last month's key is not needed any more, and should not outlive its row.
            keys.clear();
            keys.insert(month.clone(), key);
            key
        };
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).expect("any key length will do");
        match address {
            IpAddr::V4(address) => mac.update(&address.octets()),
            IpAddr::V6(address) => mac.update(&address.octets()),
        }
        let hash = hex(&mac.finalize().into_bytes()[..8]);
        Ok(format!("{month}:{hash}"))
    }
}

/// The key of a month, made by whoever needs it first.
async fn month_key(db: &PgPool, surroundings: &Surroundings, month: &str, now: Timestamp) -> sqlx::Result<[u8; 32]> {
    let fresh: [u8; 32] = surroundings.bytes();
    sqlx::query!(
        "insert into ip_hash_keys (month, key, created_at) values ($1, $2, $3) on conflict (month) do nothing",
        month,
        fresh.as_slice(),
        now,
    )
    .execute(db)
    .await?;
    let key = sqlx::query_scalar!("select key from ip_hash_keys where month = $1", month)
        .fetch_one(db)
        .await?;
    key.try_into()
        .map_err(|_| sqlx::Error::Decode("a key of an address hash has 32 bytes".into()))
}
