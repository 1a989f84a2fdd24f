//! One step of a worker.

use jangbu_events::{DecodeError, Event, RawEvent, Recorded, Timestamp, event::CURRENT_VERSIONS};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{
    Build,
    parking::{self, ParkedAggregate},
    search_path,
};
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

/// What came of a step that may park.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// Rows and checkpoint are committed.
    Moved {
        /// How many aggregates of the partition are parked now.
        parked: i32,
        /// Those of them that this step has parked.
        newly: Vec<ParkedAggregate>,
    },
    /// As [`Advanced::Stale`].
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
    /// Aggregates are parked where nothing may be.
    #[error("{parked} aggregates of partition {partition} are parked")]
    HasParked {
        /// Which partition.
        partition: i16,
        /// How many.
        parked: i32,
    },
    /// So many aggregates of a partition fail that it is not they who are wrong.
    #[error("more than {limit} aggregates of partition {partition} cannot be applied, the last since {error}")]
    TooManyParked {
        /// Which partition.
        partition: i16,
        /// How many may be parked.
        limit: usize,
        /// Why the last one is not.
        error: String,
    },
    /// Try again.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl AdvanceError {
    /// Whether it is the database that does not take an event, as opposed to one that fails.
    pub fn blames_event(&self) -> bool {
        matches!(self, Self::Database(error) if parking::is_of_the_data(error))
    }

    /// What is wrong, by names and numbers alone: the database's own words and a decoder's quote values.
    pub fn reason(&self) -> String {
        match self {
            Self::Undecodable { position, source } => {
                format!(
                    "the event at position {position} cannot be read: {}",
                    parking::of_decoding(source)
                )
            }
            Self::Database(error) => parking::of_applying(error),
            other => other.to_string(),
        }
    }
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
/// caller vouches that none is missing. Nothing is parked: an event that cannot be applied fails the
/// step, which is right wherever a table is built and nobody reads it yet.
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
    let (batch, faults) = decode(projection, build, step)?;
    if let Some(Fault { event, source }) = faults.into_iter().next() {
        let position = event.position;
        return Err(AdvanceError::Undecodable { position, source });
    }
    match try_step(db, projection, build, step, &batch, now).await? {
        Tried::Done { parked: 0 } => Ok(Advanced::Moved),
        Tried::Stale => Ok(Advanced::Stale),
        Tried::Done { parked } | Tried::Around { parked, .. } => Err(AdvanceError::HasParked { partition, parked }),
    }
}

/// [`advance`] for tables that are being read: an event that cannot be applied, or whose payload
/// does not decode, parks its aggregate, and everything else goes on. An unknown event still stops it.
#[expect(clippy::too_many_arguments, reason = "as advance")]
pub async fn advance_or_park(
    db: &PgPool,
    projection: &Registered,
    build: &Build,
    partition: i16,
    epoch: i64,
    from: i64,
    through: i64,
    events: &[RawEvent],
    now: Timestamp,
) -> Result<Fed, AdvanceError> {
    let step = Step {
        partition,
        epoch,
        from,
        through,
        events,
    };
    let (batch, faults) = decode(projection, build, step)?;
    let mut begun = None;
    if faults.is_empty() {
        match try_step(db, projection, build, step, &batch, now).await {
            Ok(Tried::Done { parked }) => {
                let newly = Vec::new();
                return Ok(Fed::Moved { parked, newly });
            }
            Ok(Tried::Stale) => return Ok(Fed::Stale),
            Ok(Tried::Around { tx, .. }) => begun = Some(tx),
            Err(error) if parking::is_of_the_data(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut tx = if let Some(tx) = begun {
        tx
    } else {
        let mut tx = db.begin().await?;
        if move_checkpoint(&mut tx, build, step, now).await?.is_none() {
            return Ok(Fed::Stale);
        }
        tx
    };
    let (parked, newly) = parking::apply_around(&mut tx, projection, build, partition, batch, &faults, now).await?;
    tx.commit().await?;
    Ok(Fed::Moved { parked, newly })
}

/// How the plain way ended.
enum Tried {
    Done {
        parked: i32,
    },
    Stale,
    /// Some of the batch may be parked: the checkpoint is moved, and that is all.
    Around {
        parked: i32,
        tx: Transaction<'static, Postgres>,
    },
}

/// As if nothing could be wrong: no savepoints, and no look at what is parked where nothing is.
async fn try_step(
    db: &PgPool,
    projection: &Registered,
    build: &Build,
    step: Step<'_>,
    batch: &[Recorded<Event>],
    now: Timestamp,
) -> sqlx::Result<Tried> {
    if batch.is_empty() {
        // Nothing to write: the one statement is its own transaction.
        let mut connection = db.acquire().await?;
        let moved = move_checkpoint(&mut connection, build, step, now).await?;
        return Ok(moved.map_or(Tried::Stale, |parked| Tried::Done { parked }));
    }
    let mut tx = db.begin().await?;
    match move_checkpoint(&mut tx, build, step, now).await? {
        None => {
            tx.rollback().await?;
            Ok(Tried::Stale)
        }
        Some(0) => {
            projection.apply(&mut tx, step.partition, batch).await?;
            tx.commit().await?;
            Ok(Tried::Done { parked: 0 })
        }
        Some(parked) => Ok(Tried::Around { parked, tx }),
    }
}

/// Compare and set: whoever comes second changes nothing, and gets `None`. Gives how many aggregates
/// of the partition are parked. The row stays locked until the end of the transaction, so steps of
/// one partition never overlap; until then, unqualified names mean this build's tables.
async fn move_checkpoint(
    db: &mut PgConnection,
    build: &Build,
    step: Step<'_>,
    now: Timestamp,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        "update checkpoints
         set position = $7, updated_at = $8, stopped = null
         where projection = $1 and code_version = $2 and build = $3 and partition = $4
           and epoch = $5 and position = $6
           and set_config('synchronous_commit', 'off', true) = 'off'
           and set_config('search_path', $9, true) is not null
         returning parked",
        build.projection,
        build.code_version,
        build.build,
        step.partition,
        step.epoch,
        step.from,
        step.through,
        now,
        search_path(&build.schema_name),
    )
    .fetch_optional(db)
    .await
}

/// An event whose payload is not what its type says.
pub(super) struct Fault<'a> {
    pub event: &'a RawEvent,
    pub source: DecodeError,
}

type Decoded<'a> = (Vec<Recorded<Event>>, Vec<Fault<'a>>);

/// What the projection wants of the step, as today's code reads it, and what it cannot read.
fn decode<'a>(projection: &Registered, build: &Build, step: Step<'a>) -> Result<Decoded<'a>, AdvanceError> {
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
    }
    wanted(projection, step.events)
}

/// What the projection wants of these events, as today's code reads them, and what it cannot read.
pub(super) fn wanted<'a>(projection: &Registered, events: &'a [RawEvent]) -> Result<Decoded<'a>, AdvanceError> {
    let (mut batch, mut faults) = (Vec::with_capacity(events.len()), Vec::new());
    for event in events {
        match read(projection, event) {
            Ok(decoded) => batch.extend(decoded),
            Err(source @ DecodeError::Payload { .. }) => faults.push(Fault { event, source }),
            // Not the event is wrong but this program, which is too old for whatever may follow as well.
            Err(source) => {
                let position = event.position;
                return Err(AdvanceError::Undecodable { position, source });
            }
        }
    }
    Ok((batch, faults))
}

/// What a projection wants of an event, as today's code reads it.
pub(super) fn understood(projection: &Registered, event: &RawEvent) -> Result<Vec<Recorded<Event>>, AdvanceError> {
    let position = event.position;
    read(projection, event).map_err(|source| AdvanceError::Undecodable { position, source })
}

fn read(projection: &Registered, event: &RawEvent) -> Result<Vec<Recorded<Event>>, DecodeError> {
    // Most events are for other projections: those in today's form need no look inside.
    let (event_type, event_version) = (&*event.payload.event_type, &*event.payload.event_version);
    let current = CURRENT_VERSIONS.contains(&(event_type, event_version));
    if current && !projection.event_types.contains(&event_type) {
        return Ok(Vec::new());
    }
    let mut decoded = event.decode()?;
    decoded.retain(|event| projection.event_types.contains(&event.payload.name()));
    Ok(decoded)
}
