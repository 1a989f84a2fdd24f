//! Poison: aggregates that a read table cannot take are set aside, so that one of them holds up
//! nobody else, and told again once the cause is gone.
//!
//! What is parked is a stream, from the event on that could not be applied. Its earlier events are in
//! the tables, its later ones wait in the log. That takes rows that do not care when a stream is told
//! in relation to the others of its partition; `tests.rs` holds every projection to it.

mod error;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, btree_map::Entry};

use jangbu_events::{Event, Recorded, Timestamp};
use sqlx::{Acquire, PgConnection, PgPool, Postgres, Transaction};

pub(super) use self::error::{is_of_the_data, of_applying, of_decoding};
pub use self::retry::{Retried, Retry, begin_retry};
use super::{AdvanceError, Build, step::Fault};
use crate::{Registered, Telling};

/// How many aggregates of a partition may be parked. With more, it is the projection that is wrong
/// or its table, and the partition stops instead.
pub const PARKED_MAX: usize = 100;

/// One aggregate that one build cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedAggregate {
    /// Of which projection.
    pub projection: String,
    /// Of its code.
    pub code_version: i32,
    /// Of the code version.
    pub build: i32,
    /// Of the build.
    pub partition: i16,
    /// `order`.
    pub aggregate_type: String,
    /// `ord_…`.
    pub aggregate_id: String,
    /// The first event that is not in the tables.
    pub position: i64,
    /// The same event in its stream.
    pub sequence: i64,
    /// What is wrong with it, without personal data.
    pub error: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// When it was tried last.
    pub tried_at: Timestamp,
}

/// Notes that an aggregate was tried and stays parked as it was, and why.
pub async fn note_attempt(
    db: &PgPool,
    parked: &ParkedAggregate,
    error: &str,
    now: Timestamp,
) -> sqlx::Result<Option<ParkedAggregate>> {
    sqlx::query_as!(
        ParkedAggregate,
        "update parked_aggregates
         set error = $6, attempts = attempts + 1, tried_at = $7
         where projection = $1 and code_version = $2 and build = $3 and aggregate_type = $4 and aggregate_id = $5
         returning projection, code_version, build, partition, aggregate_type, aggregate_id,
             position, sequence, error, attempts, parked_at, tried_at",
        parked.projection,
        parked.code_version,
        parked.build,
        parked.aggregate_type,
        parked.aggregate_id,
        error,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Parked aggregates of a projection and with an id, if such are given; at most `limit`, those first
/// that were tried the longest ago. Not those of retired builds. Of `versions`, names with code versions, if such are given.
pub async fn parked(
    db: &PgPool,
    projection: Option<&str>,
    aggregate_id: Option<&str>,
    versions: Option<&[(String, i32)]>,
    limit: i64,
) -> sqlx::Result<Vec<ParkedAggregate>> {
    let (names, numbers): (Vec<String>, Vec<i32>) = versions.unwrap_or_default().iter().cloned().unzip();
    sqlx::query_as!(
        ParkedAggregate,
        "select projection, code_version, build, partition, aggregate_type, aggregate_id,
             position, sequence, error, attempts, parked_at, tried_at
         from parked_aggregates
         where ($1::text is null or projection = $1) and ($2::text is null or aggregate_id = $2)
           and ($3 or (projection, code_version) in (select * from unnest($4::text[], $5::integer[])))
           and not exists (
               select from builds as b
               where (b.projection, b.code_version, b.build)
                   = (parked_aggregates.projection, parked_aggregates.code_version, parked_aggregates.build)
                 and b.phase = 'retired')
         order by tried_at, position, projection, code_version, build
         limit $6",
        projection,
        aggregate_id,
        versions.is_none(),
        &names,
        &numbers,
        limit
    )
    .fetch_all(db)
    .await
}

/// What of a projection is not as the log says, beyond being late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Aggregates that are parked in the active build.
    pub parked: i64,
    /// Why one of its partitions cannot go on.
    pub stopped: Option<String>,
}

/// What is amiss with the active builds of this program's projections; those with none are left out.
pub async fn troubles(db: &PgPool) -> sqlx::Result<BTreeMap<String, Trouble>> {
    let (names, versions) = super::registered();
    let rows = sqlx::query!(
        r#"select projection, sum(parked) as "parked!", min(stopped) as stopped
         from builds
         join checkpoints using (projection, code_version, build)
         join unnest($1::text[], $2::integer[]) as mine (projection, code_version) using (projection, code_version)
         where active and (parked > 0 or stopped is not null)
         group by projection"#,
        &names as &[&str],
        &versions
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (parked, stopped) = (row.parked, row.stopped);
            (row.projection, Trouble { parked, stopped })
        })
        .collect())
}

/// Notes down why a partition cannot go on, for whoever looks at another process; the next step that
/// moves the checkpoint takes it away. `reason` has no personal data.
pub async fn note_stop(db: &PgPool, build: &Build, partition: i16, epoch: i64, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update checkpoints
         set stopped = $6
         where projection = $1 and code_version = $2 and build = $3 and partition = $4 and epoch = $5",
        build.projection,
        build.code_version,
        build.build,
        partition,
        epoch,
        reason
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Which stream: its type and its id.
type Stream = (String, String);

/// What is parked in a partition, while its checkpoint is locked.
struct Lot<'a> {
    build: &'a Build,
    partition: i16,
    now: Timestamp,
    /// With the position from which on.
    parked: BTreeMap<Stream, i64>,
    newly: Vec<ParkedAggregate>,
}

/// Applies a batch but for what is parked, and parks what cannot be applied. The caller holds the
/// checkpoint's row and has chosen the schema. Gives how many are parked then, and which of them are new.
pub(super) async fn apply_around(
    tx: &mut Transaction<'static, Postgres>,
    projection: &Registered,
    build: &Build,
    partition: i16,
    batch: Vec<Recorded<Event>>,
    faults: &[Fault<'_>],
    now: Timestamp,
) -> Result<(i32, Vec<ParkedAggregate>), AdvanceError> {
    let mut lot = Lot {
        build,
        partition,
        now,
        parked: load(tx, build, partition).await?,
        newly: Vec::new(),
    };
    for fault in faults {
        lot.park(fault.event, error::of_decoding(&fault.source))?;
    }
    lot.apply(tx, batch, projection.apply).await?;
    save(tx, &lot).await?;
    let parked = i32::try_from(lot.parked.len()).unwrap_or(i32::MAX);
    Ok((parked, lot.newly))
}

impl Lot<'_> {
    /// Halves the batch, by position, until what fails stands alone: order is kept, and everything
    /// before the poison is applied.
    async fn apply(
        &mut self,
        tx: &mut Transaction<'static, Postgres>,
        batch: Vec<Recorded<Event>>,
        telling: Telling,
    ) -> Result<(), AdvanceError> {
        let mut todo = vec![batch];
        while let Some(mut batch) = todo.pop() {
            batch.retain(|event| !self.is_parked(event));
            let Some(first) = batch.first() else { continue };
            let mut savepoint = tx.begin().await?;
            match telling.tell(&mut savepoint, self.partition, &batch).await {
                Ok(()) => savepoint.commit().await?,
                Err(error) if !is_of_the_data(&error) => return Err(error.into()),
                Err(error) => {
                    savepoint.rollback().await?;
                    match halves(&batch) {
                        Some(middle) => {
                            let later = batch.split_off(middle);
                            todo.extend([later, batch]);
                        }
                        None => self.park(first, error::of_applying(&error))?,
                    }
                }
            }
        }
        Ok(())
    }

    fn is_parked<E>(&self, event: &Recorded<E>) -> bool {
        // Mostly nothing is parked, and no text is copied.
        !self.parked.is_empty()
            && self
                .parked
                .get(&stream(event))
                .is_some_and(|from| *from <= event.position)
    }

    fn park<E>(&mut self, event: &Recorded<E>, error: String) -> Result<(), AdvanceError> {
        let full = self.parked.len() >= PARKED_MAX;
        match self.parked.entry(stream(event)) {
            Entry::Occupied(mut known) if *known.get() > event.position => {
                known.insert(event.position);
                self.newly.retain(|parked| {
                    parked.aggregate_id != event.aggregate_id || parked.aggregate_type != event.aggregate_type
                });
            }
            Entry::Occupied(_) => return Ok(()),
            Entry::Vacant(_) if full => {
                return Err(AdvanceError::TooManyParked {
                    partition: self.partition,
                    limit: PARKED_MAX,
                    error,
                });
            }
            Entry::Vacant(free) => _ = free.insert(event.position),
        }
        self.newly.push(ParkedAggregate {
            projection: self.build.projection.clone(),
            code_version: self.build.code_version,
            build: self.build.build,
            partition: self.partition,
            aggregate_type: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id.clone(),
            position: event.position,
            sequence: event.sequence,
            error,
            attempts: 1,
            parked_at: self.now,
            tried_at: self.now,
        });
        Ok(())
    }
}

fn stream<E>(event: &Recorded<E>) -> Stream {
    (event.aggregate_type.clone(), event.aggregate_id.clone())
}

/// Where to cut a batch in two; `None` if it is one event, or what one event became.
fn halves(batch: &[Recorded<Event>]) -> Option<usize> {
    let middle = batch.len() / 2;
    let cut = |at: &usize| *at > 0 && batch[at - 1].position != batch[*at].position;
    (middle..batch.len()).find(cut).or_else(|| (1..middle).rev().find(cut))
}

async fn load(db: &mut PgConnection, build: &Build, partition: i16) -> sqlx::Result<BTreeMap<Stream, i64>> {
    let rows = sqlx::query!(
        "select aggregate_type, aggregate_id, position
         from parked_aggregates
         where projection = $1 and code_version = $2 and build = $3 and partition = $4",
        build.projection,
        build.code_version,
        build.build,
        partition
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.aggregate_type, row.aggregate_id), row.position))
        .collect())
}

/// Few rows, and rarely any.
async fn save(tx: &mut Transaction<'static, Postgres>, lot: &Lot<'_>) -> sqlx::Result<()> {
    for parked in &lot.newly {
        sqlx::query!(
            "insert into parked_aggregates
                 (projection, code_version, build, partition, aggregate_type, aggregate_id,
                  position, sequence, error, attempts, parked_at, tried_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
            parked.projection,
            parked.code_version,
            parked.build,
            parked.partition,
            parked.aggregate_type,
            parked.aggregate_id,
            parked.position,
            parked.sequence,
            parked.error,
            parked.attempts,
            parked.parked_at
        )
        .execute(&mut **tx)
        .await?;
    }
    if lot.newly.is_empty() {
        return Ok(());
    }
    recount(tx, lot.build, lot.partition).await?;
    Ok(())
}

/// Writes beside the checkpoint how many there are, and gives it.
async fn recount(tx: &mut Transaction<'static, Postgres>, build: &Build, partition: i16) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        "update checkpoints as c
         set parked = (
             select count(*)
             from parked_aggregates as p
             where (p.projection, p.code_version, p.build, p.partition)
                 = (c.projection, c.code_version, c.build, c.partition))
         where projection = $1 and code_version = $2 and build = $3 and partition = $4
         returning parked",
        build.projection,
        build.code_version,
        build.build,
        partition
    )
    .fetch_one(&mut **tx)
    .await
}
