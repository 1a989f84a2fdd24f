//! Links in mails, which show by one click that who clicks reads that mail.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use jangbu_events::{CustomerId, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use subtle::ConstantTimeEq;

use super::digests::Digester;
use crate::{clock::Surroundings, config::Secret};

/// Characters of a token.
const TOKEN_CHARS: usize = 43;

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shows that an e-mail address is one's own; within a day.
    VerifyEmail,
    /// Sets another password; within half an hour.
    ResetPassword,
}

impl Purpose {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    /// How long the link works.
    pub const fn lifetime(self) -> TimeDelta {
        match self {
            Self::VerifyEmail => TimeDelta::days(1),
            Self::ResetPassword => TimeDelta::minutes(30),
        }
    }
}

/// Makes tokens for links and takes them back.
#[derive(Debug, Clone)]
pub struct Links {
    digester: Digester,
}

/// A link that was followed, and is used up by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Whose it was.
    pub customer: CustomerId,
    about: Vec<u8>,
}

impl Links {
    /// Hashes what links are about under a key of `digester`.
    pub const fn new(digester: Digester) -> Self {
        Self { digester }
    }

    /// Makes the token to send, in place of any before it. `about` is the address that it is sent to: should
    /// the customer have another one by the time the link is followed, nothing is shown about that.
    pub async fn issue(
        &self,
        db: &mut PgConnection,
        surroundings: &Surroundings,
        purpose: Purpose,
        customer: CustomerId,
        about: &str,
    ) -> sqlx::Result<Secret> {
        let token = URL_SAFE_NO_PAD.encode(surroundings.bytes::<32>());
        sqlx::query!(
            "insert into link_tokens (customer_id, purpose, token_hash, about, expires_at) values ($1, $2, $3, $4, $5)
             on conflict (customer_id, purpose) do update set token_hash = $3, about = $4, expires_at = $5",
            customer.to_string(),
            purpose.name(),
            hash(&token).to_vec(),
            self.about(about).to_vec(),
            surroundings.now() + purpose.lifetime()
        )
        .execute(db)
        .await?;
        Ok(Secret::new(token))
    }

    /// Uses a token up, in the transaction of whatever it allows. `None` if it is not known, too old, for something
    /// else, or was used.
    pub async fn follow(
        &self,
        db: &mut PgConnection,
        purpose: Purpose,
        token: &str,
        now: Timestamp,
    ) -> sqlx::Result<Option<Followed>> {
        if token.len() != TOKEN_CHARS {
            return Ok(None);
        }
        let row = sqlx::query!(
            "delete from link_tokens where token_hash = $1 and purpose = $2 and expires_at > $3
             returning customer_id, about",
            hash(token).to_vec(),
            purpose.name(),
            now
        )
        .fetch_optional(db)
        .await?;
        row.map(|row| {
            let customer = row.customer_id.parse();
            Ok(Followed {
                customer: customer.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                about: row.about,
            })
        })
        .transpose()
    }

    /// Whether a link was sent to this address.
    pub fn is_about(&self, followed: &Followed, about: &str) -> bool {
        self.about(about).as_slice().ct_eq(&followed.about).into()
    }

    fn about(&self, about: &str) -> [u8; 32] {
        self.digester.digest("link about v1", &[about.as_bytes()])
    }
}

/// Takes back the links of a customer that were not followed: after the password was changed or the
/// account closed.
pub async fn withdraw(db: &mut PgConnection, customer: CustomerId) -> sqlx::Result<()> {
    sqlx::query!("delete from link_tokens where customer_id = $1", customer.to_string())
        .execute(db)
        .await?;
    Ok(())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
