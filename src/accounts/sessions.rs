//! Sessions: who is signed in where, for how long, and how it ends.
//!
//! A session goes on by refresh tokens, each of which is used once and brings the next. One that comes
//! back after it was used ends the session, whoever shows it: the thief or the one stolen from. An
//! answer that was lost on the way is no theft: within [`GRACE`] the same token brings the same
//! successor again. A thief gains nothing by that: both then hold the same next token, and whoever of them
//! uses it second, later than [`GRACE`], ends the session.

mod device;
mod ended;
mod id;
mod refresh;

use chrono::TimeDelta;
use jangbu_events::{CustomerId, Timestamp};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub use device::user_agent_class;
pub use ended::EndedSessions;
pub use id::SessionId;
pub use refresh::{GRACE, Granted, RefreshError, Refused, Sessions, session_of};

/// How long ended sessions stay, for a token that is shown late and for whoever asks what happened.
const KEPT: TimeDelta = TimeDelta::days(30);
/// Rows that one sweep deletes at a time.
const SWEPT: i64 = 1_000;

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Without a refresh.
    pub idle: TimeDelta,
    /// In all.
    pub total: TimeDelta,
}

/// How the refresh token travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In bodies, for apps.
    Bearer,
    /// In a cookie that scripts cannot read, for browsers.
    Cookie,
}

impl Mode {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Cookie => "cookie",
        }
    }

    fn parse(name: &str) -> sqlx::Result<Self> {
        match name {
            "bearer" => Ok(Self::Bearer),
            "cookie" => Ok(Self::Cookie),
            _ => Err(sqlx::Error::Decode("a session's mode is bearer or cookie".into())),
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// By its holder.
    SignedOut,
    /// By the customer from another session, or by staff.
    Revoked,
    /// A refresh token came back.
    Reused,
    /// The password was changed.
    PasswordChanged,
    /// The account was closed.
    Closed,
}

impl EndReason {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Revoked => "revoked",
            Self::Reused => "reused",
            Self::PasswordChanged => "password_changed",
            Self::Closed => "closed",
        }
    }
}

/// Where somebody signs in.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who.
    pub customer: CustomerId,
    /// How the token travels.
    pub mode: Mode,
    /// From [`user_agent_class`].
    pub user_agent_class: String,
    /// From [`crate::ip_hash::IpHasher`].
    pub ip_hash: String,
}

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Which.
    pub session: SessionId,
    /// How its token travels.
    pub mode: Mode,
    /// Browser and system.
    pub user_agent_class: String,
    /// When somebody signed in.
    pub created_at: Timestamp,
    /// The latest refresh.
    pub last_seen_at: Timestamp,
}

/// The sessions of a customer that are open, the latest first.
pub async fn list(
    db: &mut PgConnection,
    customer: CustomerId,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> sqlx::Result<Vec<Session>> {
    let rows = sqlx::query!(
        "select session_id, mode, user_agent_class, created_at, last_seen_at from sessions
         where customer_id = $1 and ended_at is null and expires_at > $2 and last_seen_at > $3
         order by created_at desc, session_id desc",
        customer.to_string(),
        now,
        now - lifetimes.idle
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Session {
                session: SessionId::from(row.session_id),
                mode: Mode::parse(&row.mode)?,
                user_agent_class: row.user_agent_class,
                created_at: row.created_at,
                last_seen_at: row.last_seen_at,
            })
        })
        .collect()
}

/// Ends one session of a customer; `false` if the customer has no such session that is open. Every process
/// hears of it when the transaction is committed.
pub async fn end(
    db: &mut PgConnection,
    customer: CustomerId,
    session: SessionId,
    reason: EndReason,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update sessions set ended_at = $3, end_reason = $4
         where session_id = $1 and customer_id = $2 and ended_at is null",
        session.uuid(),
        customer.to_string(),
        now,
        reason.name()
    )
    .execute(db)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Ends all sessions of a customer, but one if wanted, and says which.
pub async fn end_all(
    db: &mut PgConnection,
    customer: CustomerId,
    but: Option<SessionId>,
    reason: EndReason,
    now: Timestamp,
) -> sqlx::Result<Vec<SessionId>> {
    let ended = sqlx::query_scalar!(
        "update sessions set ended_at = $2, end_reason = $3
         where customer_id = $1 and ended_at is null and session_id is distinct from $4
         returning session_id",
        customer.to_string(),
        now,
        reason.name(),
        but.map(SessionId::uuid)
    )
    .fetch_all(db)
    .await?;
    Ok(ended.into_iter().map(SessionId::from).collect())
}

async fn end_one(db: &mut PgConnection, session: SessionId, reason: EndReason, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions set ended_at = $2, end_reason = $3 where session_id = $1 and ended_at is null",
        session.uuid(),
        now,
        reason.name()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes sessions that ended, ran out or were left long ago, at most 1,000 of them, with their tokens;
/// says how many.
pub async fn sweep(db: &PgPool, lifetimes: Lifetimes, now: Timestamp) -> sqlx::Result<u64> {
    let swept = sqlx::query!(
        "delete from sessions where session_id in (
             select session_id from sessions
             where expires_at < $1 or ended_at < $1 or last_seen_at < $2
             limit $3 for update skip locked)",
        now - KEPT,
        now - KEPT - lifetimes.idle,
        SWEPT
    )
    .execute(db)
    .await?;
    Ok(swept.rows_affected())
}

/// Whether a session may go on, by the database.
async fn is_open(db: &PgPool, session: Uuid, now: Timestamp) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from sessions
               where session_id = $1 and ended_at is null and expires_at > $2) as "open!""#,
        session,
        now
    )
    .fetch_one(db)
    .await
}
