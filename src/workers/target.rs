//! What a worker feeds.

use sqlx::PgPool;

use super::core::Batch;
use crate::{broker::BuildName, feed::AheadOfLog};

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// It is committed.
    Moved,
    /// Nothing was written: the checkpoint is not where the batch begins, or another epoch moves it.
    Stale,
}

/// Why a batch could not be written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database cannot be reached, or asks to try again.
    #[error("the database failed: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// An event does not decode, or its projection cannot take it. Trying again helps only after
    /// someone has looked.
    #[error("{0}")]
    Stuck(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if is_passing(&error) {
            Self::Unavailable(error)
        } else {
            Self::Stuck(error.into())
        }
    }
}

impl From<AheadOfLog> for Failure {
    fn from(error: AheadOfLog) -> Self {
        match error {
            AheadOfLog::Database(error) => error.into(),
            AheadOfLog::Ahead { .. } => Self::Stuck(error.into()),
        }
    }
}

/// Whether the same statement may well succeed later.
pub fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connection failures, serialization failures, lack of resources, operator intervention.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "55", "57"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// One build of a projection, as its workers see it. Its checkpoint rows stand in `checkpoints`.
pub trait Target: Clone + Send + Sync + 'static {
    /// Which build of what.
    fn name(&self) -> &BuildName;

    /// Partitions it was built for.
    fn partitions(&self) -> i16;

    /// Whether it must see events of this type. A type that the program does not know must be seen:
    /// it stops the projection.
    fn reads(&self, event_type: &str) -> bool;

    /// Applies a batch and moves the checkpoint in one transaction, if the checkpoint is at
    /// `batch.from` under `epoch`.
    fn advance(
        &self,
        db: &PgPool,
        partition: i16,
        epoch: i64,
        batch: &Batch,
    ) -> impl Future<Output = Result<Advanced, Failure>> + Send;
}
