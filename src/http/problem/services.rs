//! What the failures of our own services mean to a client.

use super::{Code, Problem};
use crate::{
    executor::{ExecuteError, LoadError},
    sealing::SealError,
};

impl<E: std::error::Error + Into<Problem>> From<ExecuteError<E>> for Problem {
    fn from(error: ExecuteError<E>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::Stale { current } => Self::new(Code::VersionStale).fact("version", current),
            ExecuteError::Conflict { current } => Self::new(Code::Conflict).fact("version", current),
            ExecuteError::KeyReused => Code::IdempotencyKeyReused.into(),
            ExecuteError::KeyTaken { scope } => Self::new(Code::Taken).fact("scope", scope),
            ExecuteError::Busy => Self::new(Code::Busy).retry_after(1),
            ExecuteError::OutcomeUnknown => Self::new(Code::OutcomeUnknown).retry_after(1),
            ExecuteError::Load(error) => error.into(),
            // Every text and size was checked at the edge: what the log still refuses is our mistake.
            ExecuteError::Rejected(reason) => Self::internal(reason),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unavailable(error) => error.into(),
            LoadError::Undecodable { .. } | LoadError::Foreign { .. } => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    /// A database that cannot be reached comes back; one that refuses a statement is our mistake.
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::new(Code::DatabaseUnavailable).retry_after(1).because(error),
            // 57P0x: the server shuts down or ended this connection; 53xxx: it has no room.
            sqlx::Error::Database(ref refused)
                if refused.code().is_some_and(|code| code.starts_with("57P0") || code.starts_with("53")) =>
            {
                Self::new(Code::DatabaseUnavailable).retry_after(1).because(error)
            }
            other => Self::internal(other),
        }
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Unavailable(error) => error.into(),
            SealError::Corrupt { .. } => Self::internal(error),
        }
    }
}
