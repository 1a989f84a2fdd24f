//! What a worker feeds: one build of one projection.

use jangbu_events::event::CURRENT_VERSIONS;
use jangbu_projections::{
    Registered,
    builds::{self, AdvanceError, Advanced, Build},
};
use sqlx::PgPool;

use super::core::Batch;
use crate::{broker::BuildName, clock::Surroundings, feed::AheadOfLog};

/// Why a batch could not be written. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database cannot be reached, or asks to try again.
    #[error("the database failed: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// An event does not decode, or its projection cannot take it. Trying again helps only after
    /// someone has looked.
    #[error("the projection cannot go on: {0}")]
    Stuck(#[source] AdvanceError),
    /// The checkpoint is of another history.
    #[error(transparent)]
    Ahead(AheadOfLog),
}

impl Failure {
    /// Whether it may well pass by itself.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        AdvanceError::Database(error).into()
    }
}

impl From<AdvanceError> for Failure {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Database(error) if is_passing(&error) => Self::Unavailable(error),
            error => Self::Stuck(error),
        }
    }
}

impl From<AheadOfLog> for Failure {
    fn from(error: AheadOfLog) -> Self {
        match error {
            AheadOfLog::Database(error) => error.into(),
            ahead @ AheadOfLog::Ahead { .. } => Self::Ahead(ahead),
        }
    }
}

/// Whether the same statement may well succeed later.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connection failures, serialization failures, lack of resources, locks, operator intervention.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "55", "57"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// One build of a projection, as its workers see it.
#[derive(Clone)]
pub struct Target {
    projection: &'static Registered,
    build: Build,
    name: BuildName,
    surroundings: Surroundings,
}

impl Target {
    /// The newest build of a projection for so many partitions, made if there is none.
    pub async fn ensure(
        db: &PgPool,
        projection: &'static Registered,
        partitions: i16,
        surroundings: Surroundings,
    ) -> sqlx::Result<Self> {
        let build = builds::ensure(db, projection, partitions, surroundings.now()).await?;
        let name = BuildName {
            projection: build.projection.clone(),
            code_version: build.code_version,
            build: build.build,
        };
        Ok(Self {
            projection,
            build,
            name,
            surroundings,
        })
    }

    /// Which build of what.
    pub const fn name(&self) -> &BuildName {
        &self.name
    }

    /// Partitions it was built for.
    pub const fn partitions(&self) -> i16 {
        self.build.partitions
    }

    /// Whether it must see events of this type and version. One that is not current must be seen: it
    /// may mean several today, or stop the projection.
    pub fn reads(&self, event_type: &str, event_version: &str) -> bool {
        self.projection.event_types.contains(&event_type) || !CURRENT_VERSIONS.contains(&(event_type, event_version))
    }

    /// Fences older workers off and says where the checkpoint is; `None` if there is a newer one, or
    /// no such build any more.
    pub async fn take_over(&self, db: &PgPool, partition: i16, epoch: i64) -> sqlx::Result<Option<i64>> {
        builds::take_over(db, &self.build, partition, epoch, self.surroundings.now()).await
    }

    /// Position and epoch of a partition.
    pub async fn checkpoint(&self, db: &PgPool, partition: i16) -> sqlx::Result<(i64, i64)> {
        let checkpoints = builds::checkpoints(db, &self.build).await?;
        let found = checkpoints
            .into_iter()
            .find(|checkpoint| checkpoint.partition == partition);
        let found = found.ok_or(sqlx::Error::RowNotFound)?;
        Ok((found.position, found.epoch))
    }

    /// Applies a batch and moves the checkpoint in one transaction, if the checkpoint is at
    /// `batch.from` under `epoch`.
    pub async fn advance(&self, db: &PgPool, partition: i16, epoch: i64, batch: &Batch) -> Result<Advanced, Failure> {
        let now = self.surroundings.now();
        let (from, through) = (batch.from, batch.through);
        let events = &batch.events;
        Ok(builds::advance(
            db,
            self.projection,
            &self.build,
            partition,
            epoch,
            from,
            through,
            events,
            now,
        )
        .await?)
    }
}
