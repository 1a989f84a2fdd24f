//! One step of a worker.

use jangbu_events::{DecodeError, Event, RawEvent, Recorded, Timestamp, event::CURRENT_VERSIONS};
use sqlx::{PgConnection, PgPool};

use super::{Build, choose_schema};
use crate::Registered;

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// Rows and checkpoint are committed.
    Moved,
    /// Somebody else moved the checkpoint or took the lease over; nothing was changed. Read the
    /// checkpoint again.
    Stale,
}

/// Why a step failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// An event that this version of the program cannot read. The projection stops before it: a
    /// table that silently lacks an event is worse than one that is late.
    #[error("the event at position {position} cannot be read")]
    Undecodable {
        /// Where it stands in the log.
        position: i64,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The caller passed an event that does not belong to this step: another partition's, outside
    /// the stretch of log, or out of order.
    #[error("the event at position {position} does not belong to partition {partition} behind {from} up to {through}")]
    Misplaced {
        /// Where it stands in the log.
        position: i64,
        /// Which partition the step is for.
        partition: i16,
        /// The checkpoint before the step.
        from: i64,
        /// The checkpoint after it.
        through: i64,
    },
    /// Try again.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The stretch of log behind `from` and up to `through`, as one partition sees it.
#[derive(Clone, Copy)]
struct Step<'a> {
    partition: i16,
    epoch: i64,
    from: i64,
    through: i64,
    events: &'a [RawEvent],
}

/// One step of a worker: in one transaction, the checkpoint of `partition` moves on from `from`, if
/// it still stands there under the lease `epoch`, to `through`, and `events` change the tables.
/// `events` are all those of the partition behind `from` and up to `through`, in position order; the
/// caller vouches that none is missing.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one fact of the step, and only workers call this"
)]
pub async fn advance(
    db: &PgPool,
    projection: &Registered,
    build: &Build,
    partition: i16,
    epoch: i64,
    from: i64,
    through: i64,
    events: &[RawEvent],
    now: Timestamp,
) -> Result<Advanced, AdvanceError> {
    let step = Step {
        partition,
        epoch,
        from,
        through,
        events,
    };
    let batch = decode(projection, build, step)?;
    if batch.is_empty() {
        // Nothing to write: the one statement is its own transaction.
        let mut connection = db.acquire().await?;
        return Ok(move_checkpoint(&mut connection, build, step, now).await?);
    }
    let mut tx = db.begin().await?;
    if move_checkpoint(&mut tx, build, step, now).await? == Advanced::Stale {
        tx.rollback().await?;
        return Ok(Advanced::Stale);
    }
    choose_schema(&mut tx, &build.schema_name).await?;
    projection.apply(&mut tx, step.partition, &batch).await?;
    tx.commit().await?;
    Ok(Advanced::Moved)
}

/// Compare and set: whoever comes second changes nothing. The row stays locked until the end of the
/// transaction, so steps of one partition never overlap.
async fn move_checkpoint(
    db: &mut PgConnection,
    build: &Build,
    step: Step<'_>,
    now: Timestamp,
) -> sqlx::Result<Advanced> {
    let moved = sqlx::query!(
        "update checkpoints
         set position = $7, updated_at = $8
         where projection = $1 and code_version = $2 and build = $3 and partition = $4
           and epoch = $5 and position = $6
           and set_config('synchronous_commit', 'off', true) = 'off'",
        build.projection,
        build.code_version,
        build.build,
        step.partition,
        step.epoch,
        step.from,
        step.through,
        now
    )
    .execute(db)
    .await?
    .rows_affected();
    Ok(if moved == 1 { Advanced::Moved } else { Advanced::Stale })
}

/// What the projection wants of the step, as today's code reads it.
fn decode(projection: &Registered, build: &Build, step: Step<'_>) -> Result<Vec<Recorded<Event>>, AdvanceError> {
    let mut batch = Vec::with_capacity(step.events.len());
    let mut before = step.from;
    for event in step.events {
        let position = event.position;
        let here = i32::from(event.slot.partition(build.partitions.unsigned_abs())) == i32::from(step.partition);
        if !here || position <= before || position > step.through {
            return Err(AdvanceError::Misplaced {
                position,
                partition: step.partition,
                from: step.from,
                through: step.through,
            });
        }
        before = position;
        // Most events are for other projections: those in today's form need no look inside.
        let (event_type, event_version) = (&*event.payload.event_type, &*event.payload.event_version);
        let current = CURRENT_VERSIONS.contains(&(event_type, event_version));
        if current && !projection.event_types.contains(&event_type) {
            continue;
        }
        let decoded = event
            .decode()
            .map_err(|source| AdvanceError::Undecodable { position, source })?;
        batch.extend(
            decoded
                .into_iter()
                .filter(|event| projection.event_types.contains(&event.payload.name())),
        );
    }
    Ok(batch)
}
