//! One-time codes: six digits that were sent to somebody, to be typed within ten minutes.
//!
//! Six digits are few, so each code has five tries, the newest of a purpose and a subject is the only one, and
//! the caller bounds how many are sent and tried ([`super::throttle`]).

use chrono::TimeDelta;
use jangbu_events::Timestamp;
use sqlx::{PgConnection, PgPool};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::digests::Digester;
use crate::{clock::Surroundings, config::Secret};

/// How long a code can be used.
pub const LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// Tries that each code has.
pub const TRIES: i32 = 5;
/// There are so many codes.
const CODES: u64 = 1_000_000;

/// What a code is for. One for one purpose is worth nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To show that a phone is one's own.
    VerifyPhone,
    /// To see a guest's order.
    GuestLookUp,
    /// As the second thing, beside a password.
    SignIn,
}

impl Purpose {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VerifyPhone => "verify_phone",
            Self::GuestLookUp => "guest_look_up",
            Self::SignIn => "sign_in",
        }
    }
}

/// Makes codes and checks them.
#[derive(Debug, Clone)]
pub struct Codes {
    digester: Digester,
}

/// A code that was right. It still has to be used up, by [`Codes::use_up`], where it matters.
#[derive(Debug)]
#[must_use = "a code is used up where it matters"]
pub struct RightCode(Uuid);

impl Codes {
    /// Hashes under a key of `digester`.
    pub const fn new(digester: Digester) -> Self {
        Self { digester }
    }

    /// Makes the code to send, in place of any before it. `subject` is whom or what it opens, in one spelling:
    /// a customer's id, or an order's and the phone that it is sent to.
    pub async fn issue(
        &self,
        db: &mut PgConnection,
        surroundings: &Surroundings,
        purpose: Purpose,
        subject: &str,
    ) -> sqlx::Result<Secret> {
        // 2^64 is not a multiple of a million; what that favours is one part in 10^13.
        let code = format!("{:06}", u64::from_be_bytes(surroundings.bytes()) % CODES);
        let id = surroundings.ids.uuid();
        sqlx::query!(
            "insert into one_time_codes (purpose, subject, code_id, code_hash, expires_at)
             values ($1, $2, $3, $4, $5)
             on conflict (purpose, subject) do update
                 set code_id = $3, code_hash = $4, attempts = 0, expires_at = $5",
            purpose.name(),
            self.subject(purpose, subject).to_vec(),
            id,
            self.hash(id, &code).to_vec(),
            surroundings.now() + LIFETIME
        )
        .execute(db)
        .await?;
        Ok(Secret::new(code))
    }

    /// Tries a code. `None` if it is wrong, too old, used up, or there is none: whoever tries does not learn which.
    ///
    /// The try is counted before it is looked at, and by itself: it stays counted whatever becomes of the caller's
    /// transaction.
    pub async fn check(
        &self,
        db: &PgPool,
        purpose: Purpose,
        subject: &str,
        code: &str,
        now: Timestamp,
    ) -> sqlx::Result<Option<RightCode>> {
        let row = sqlx::query!(
            "update one_time_codes set attempts = attempts + 1
             where purpose = $1 and subject = $2 and attempts < $3 and expires_at > $4
             returning code_id, code_hash",
            purpose.name(),
            self.subject(purpose, subject).to_vec(),
            TRIES,
            now
        )
        .fetch_optional(db)
        .await?;
        let (id, known) = row.map_or((Uuid::nil(), vec![0; 32]), |row| (row.code_id, row.code_hash));
        let right: bool = self.hash(id, code).as_slice().ct_eq(&known).into();
        Ok(right.then_some(RightCode(id)))
    }

    /// Uses a right code up, in the transaction of whatever it allows; `false` if somebody else was faster.
    pub async fn use_up(&self, db: &mut PgConnection, code: RightCode) -> sqlx::Result<bool> {
        let used = sqlx::query!("delete from one_time_codes where code_id = $1", code.0)
            .execute(db)
            .await?;
        Ok(used.rows_affected() == 1)
    }

    fn subject(&self, purpose: Purpose, subject: &str) -> [u8; 32] {
        let parts = [purpose.name().as_bytes(), subject.as_bytes()];
        self.digester.digest("one-time code subject v1", &parts)
    }

    fn hash(&self, id: Uuid, code: &str) -> [u8; 32] {
        self.digester
            .digest("one-time code v1", &[id.as_bytes(), code.as_bytes()])
    }
}

/// Deletes codes and links that ran out, and says how many.
pub async fn sweep(db: &PgPool, now: Timestamp) -> sqlx::Result<u64> {
    let codes = sqlx::query!("delete from one_time_codes where expires_at < $1", now)
        .execute(db)
        .await?;
    let links = sqlx::query!("delete from link_tokens where expires_at < $1", now)
        .execute(db)
        .await?;
    Ok(codes.rows_affected() + links.rows_affected())
}
