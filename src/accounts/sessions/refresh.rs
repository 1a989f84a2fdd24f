//! Refresh tokens: how a session begins and goes on.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use jangbu_events::{CustomerId, Timestamp};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use super::{EndReason, Lifetimes, Mode, NewSession, SessionId, end_one};
use crate::{accounts::digests::Digester, clock::Surroundings, config::Secret};

/// For how long a used token still brings the successor that it brought. Longer than a client waits before it
/// tries again on a train, much shorter than an access token lives.
pub const GRACE: TimeDelta = TimeDelta::seconds(10);
/// Bytes of a refresh token before base64url.
const TOKEN: usize = 32;
/// Characters of a refresh token.
const TOKEN_CHARS: usize = 43;

/// A session with the token that it goes on by.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Which.
    pub session: SessionId,
    /// Whose.
    pub customer: CustomerId,
    /// How the token travels.
    pub mode: Mode,
    /// 43 characters of base64url; kept nowhere but at the client's.
    pub refresh_token: Secret,
    /// Until when it can be used.
    pub expires_at: Timestamp,
}

/// Why a refresh token brings nothing. To the client they are all the same: sign in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such token, or its session ended long ago.
    #[error("the refresh token is not known")]
    Unknown,
    /// Its session has ended.
    #[error("the session has ended")]
    Ended,
    /// Its session has run out.
    #[error("the session has expired")]
    Expired,
    /// It was used before: its session has ended by this.
    #[error("the refresh token was used before, so its session was ended")]
    Reused(SessionId),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The answer is no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Opens and refreshes sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    digester: Digester,
    lifetimes: Lifetimes,
}

impl Sessions {
    /// Successors are derived under a key of `digester`.
    pub const fn new(digester: Digester, lifetimes: Lifetimes) -> Self {
        Self { digester, lifetimes }
    }

    /// How long they last.
    pub const fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }

    /// Opens a session, in the caller's transaction.
    pub async fn open(
        &self,
        db: &mut PgConnection,
        surroundings: &Surroundings,
        new: NewSession,
    ) -> sqlx::Result<Granted> {
        let now = surroundings.now();
        let session = SessionId::from(surroundings.ids.uuid());
        let ends = now + self.lifetimes.total;
        sqlx::query!(
            "insert into sessions
                (session_id, customer_id, mode, user_agent_class, ip_hash, created_at, last_seen_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $6, $7)",
            session.uuid(),
            new.customer.to_string(),
            new.mode.name(),
            new.user_agent_class,
            new.ip_hash,
            now,
            ends,
        )
        .execute(&mut *db)
        .await?;
        let token: [u8; TOKEN] = surroundings.bytes();
        insert_token(db, session, &token, now).await?;
        Ok(Granted {
            session,
            customer: new.customer,
            mode: new.mode,
            refresh_token: Secret::new(URL_SAFE_NO_PAD.encode(token)),
            expires_at: ends.min(now + self.lifetimes.idle),
        })
    }

    /// Uses a refresh token. `mode` is how it came: one of a cookie is not taken from a body.
    ///
    /// The session's row is locked meanwhile, so of two who use the same token at once one goes first
    /// and both get the same successor.
    pub async fn refresh(
        &self,
        db: &PgPool,
        surroundings: &Surroundings,
        token: &str,
        mode: Mode,
        ip_hash: &str,
    ) -> Result<Granted, RefreshError> {
        let token = parse_token(token).ok_or(Refused::Unknown)?;
        let hash = token_hash(&token);
        let mut tx = db.begin().await?;
        let session = lock_session(&mut tx, &hash).await?.ok_or(Refused::Unknown)?;
        let now = surroundings.now();
        if session.mode != mode {
            return Err(Refused::Unknown.into());
        }
        if session.ended {
            return Err(Refused::Ended.into());
        }
        if session.expires_at.min(session.last_seen_at + self.lifetimes.idle) <= now {
            return Err(Refused::Expired.into());
        }
        // Read after the lock was had: what was read before may have been used since.
        let known = sqlx::query!(
            "select used_at, successor_salt from refresh_tokens where token_hash = $1",
            hash.as_slice()
        )
        .fetch_one(&mut *tx)
        .await?;
        let successor = match (known.used_at, known.successor_salt) {
            (Some(used_at), Some(salt)) => {
                let successor = self.successor(&token, &salt);
                let lost = now - used_at <= GRACE && is_unused(&mut tx, &token_hash(&successor)).await?;
                if !lost {
                    end_one(&mut tx, session.id, EndReason::Reused, now).await?;
                    tx.commit().await?;
                    tracing::warn!(session = %session.id, "a refresh token was used again; its session has ended");
                    metrics::counter!("jangbu_session_reuses_total").increment(1);
                    return Err(Refused::Reused(session.id).into());
                }
                successor
            }
            _ => self.rotate(&mut tx, surroundings, &session, &token, now).await?,
        };
        sqlx::query!(
            "update sessions set last_seen_at = greatest(last_seen_at, $2), ip_hash = $3 where session_id = $1",
            session.id.uuid(),
            now,
            ip_hash
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Granted {
            session: session.id,
            customer: session.customer,
            mode,
            refresh_token: Secret::new(URL_SAFE_NO_PAD.encode(successor)),
            expires_at: session.expires_at.min(now + self.lifetimes.idle),
        })
    }

    async fn rotate(
        &self,
        db: &mut PgConnection,
        surroundings: &Surroundings,
        session: &Locked,
        token: &[u8; TOKEN],
        now: Timestamp,
    ) -> sqlx::Result<[u8; TOKEN]> {
        let salt: [u8; 16] = surroundings.bytes();
        let successor = self.successor(token, &salt);
        sqlx::query!(
            "update refresh_tokens set used_at = $2, successor_salt = $3 where token_hash = $1",
            token_hash(token).to_vec(),
            now,
            salt.as_slice()
        )
        .execute(&mut *db)
        .await?;
        insert_token(db, session.id, &successor, now).await?;
        Ok(successor)
    }

    /// The token after `token`. Nobody can derive it without the server's key, the salt of the row and
    /// the token itself, of which the database has only a hash.
    fn successor(&self, token: &[u8; TOKEN], salt: &[u8]) -> [u8; TOKEN] {
        self.digester.digest("refresh token v1", &[token, salt])
    }
}

struct Locked {
    id: SessionId,
    customer: CustomerId,
    mode: Mode,
    ended: bool,
    expires_at: Timestamp,
    last_seen_at: Timestamp,
}

async fn lock_session(db: &mut PgConnection, hash: &[u8; 32]) -> sqlx::Result<Option<Locked>> {
    let row = sqlx::query!(
        r#"select session_id, customer_id, mode, ended_at is not null as "ended!", expires_at, last_seen_at
           from sessions where session_id = (select session_id from refresh_tokens where token_hash = $1)
           for update"#,
        hash.as_slice()
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Locked {
            id: SessionId::from(row.session_id),
            customer: customer(&row.customer_id)?,
            mode: Mode::parse(&row.mode)?,
            ended: row.ended,
            expires_at: row.expires_at,
            last_seen_at: row.last_seen_at,
        })
    })
    .transpose()
}

fn customer(text: &str) -> sqlx::Result<CustomerId> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

async fn insert_token(
    db: &mut PgConnection,
    session: SessionId,
    token: &[u8; TOKEN],
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into refresh_tokens (token_hash, session_id, created_at) values ($1, $2, $3)",
        token_hash(token).to_vec(),
        session.uuid(),
        now
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn is_unused(db: &mut PgConnection, hash: &[u8; 32]) -> sqlx::Result<bool> {
    let unused = sqlx::query_scalar!(
        r#"select used_at is null as "unused!" from refresh_tokens where token_hash = $1"#,
        hash.as_slice()
    )
    .fetch_optional(db)
    .await?;
    Ok(unused.unwrap_or(false))
}

fn token_hash(token: &[u8; TOKEN]) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn parse_token(text: &str) -> Option<[u8; TOKEN]> {
    (text.len() == TOKEN_CHARS)
        .then(|| URL_SAFE_NO_PAD.decode(text).ok())
        .flatten()?
        .try_into()
        .ok()
}

/// The session of a refresh token, for who signs out with nothing else; `None` if there is none.
pub async fn session_of(db: &mut PgConnection, token: &str) -> sqlx::Result<Option<SessionId>> {
    let Some(token) = parse_token(token) else {
        return Ok(None);
    };
    let session = sqlx::query_scalar!(
        "select session_id from refresh_tokens where token_hash = $1",
        token_hash(&token).to_vec()
    )
    .fetch_optional(db)
    .await?;
    Ok(session.map(SessionId::from))
}
