//! What a worker feeds: one build of one projection.

use jangbu_events::{RawEvent, event::CURRENT_VERSIONS};
use jangbu_projections::{
    Registered,
    builds::{self, AdvanceError, Advanced, Build, Fed, parking},
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
    /// What is wrong, without any value, which may be personal data.
    pub fn reason(&self) -> String {
        match self {
            Self::Stuck(error) => error.reason(),
            // Of these the database says nothing about any row.
            Self::Unavailable(_) | Self::Ahead(_) => self.to_string(),
        }
    }

    /// Whether what the database says may well pass by itself.
    pub fn passes(error: &sqlx::Error) -> bool {
        is_passing(error)
    }

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
        // Connection failures, a transaction that stood still for too long, serialization failures,
        // lack of resources, locks, operator intervention. A statement that was cancelled took too long, and
        // will again.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code != "57014"
                && ["08", "25P03", "40", "53", "55", "57"]
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
    /// The build of a projection that is read, made for so many partitions if there is none.
    pub async fn ensure(
        db: &PgPool,
        projection: &'static Registered,
        partitions: i16,
        surroundings: Surroundings,
    ) -> sqlx::Result<Self> {
        let build = builds::ensure(db, projection, partitions, surroundings.now()).await?;
        Ok(Self::new(projection, build, surroundings))
    }

    /// A build of a projection that is there.
    pub fn new(projection: &'static Registered, build: Build, surroundings: Surroundings) -> Self {
        Self {
            projection,
            name: BuildName::of(&build),
            build,
            surroundings,
        }
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
    /// `batch.from` under `epoch`. What cannot be applied is parked, but for what is older than the build: tables
    /// that lack part of what was there before are wrong, and nobody reads them yet but would soon.
    pub async fn advance(&self, db: &PgPool, partition: i16, epoch: i64, batch: &Batch) -> Result<Advanced, Failure> {
        let now = self.surroundings.now();
        let (from, through) = (batch.from, batch.through);
        let is_of_before = |event: &RawEvent| event.recorded_at < self.build.created_at;
        if batch.events.first().is_some_and(is_of_before) {
            let advanced = builds::advance(
                db,
                self.projection,
                &self.build,
                partition,
                epoch,
                from,
                through,
                &batch.events,
                now,
            )
            .await;
            match advanced {
                Err(AdvanceError::HasParked { .. }) => {}
                advanced => return Ok(advanced?),
            }
        }
        let fed = builds::advance_or_park(
            db,
            self.projection,
            &self.build,
            partition,
            epoch,
            from,
            through,
            &batch.events,
            now,
        )
        .await?;
        Ok(match fed {
            Fed::Stale => Advanced::Stale,
            Fed::Moved { parked, newly } => {
                crate::parking::report(&self.name.projection, partition, parked, &newly);
                Advanced::Moved
            }
        })
    }

    /// Leaves word of why it cannot go on where every process can read it.
    pub async fn note_stop(&self, db: &PgPool, partition: i16, epoch: i64, reason: &str) {
        if let Err(error) = parking::note_stop(db, &self.build, partition, epoch, reason).await {
            tracing::debug!(%error, "the reason of a stop is not noted down");
        }
    }
}
