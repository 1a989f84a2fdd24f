//! Telling a parked aggregate again.

use jangbu_events::{RawEvent, Timestamp};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{Lot, ParkedAggregate, error, recount};
use crate::{
    Registered,
    builds::{AdvanceError, Build, choose_schema, step::wanted},
};

/// What came of a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// Everything up to the partition's checkpoint is in the tables, as if it had never been parked.
    Applied {
        /// How many of the partition's aggregates are parked still.
        left: i32,
    },
    /// It is parked still, perhaps further on and for another reason.
    Parked(ParkedAggregate),
}

/// A retry that has begun. It holds the partition's checkpoint, so that no worker moves it meanwhile;
/// dropped, it has changed nothing.
pub struct Retry {
    tx: Transaction<'static, Postgres>,
    projection: &'static Registered,
    build: Build,
    parked: ParkedAggregate,
    through: i64,
    failed: Option<ParkedAggregate>,
}

/// Begins to tell a parked aggregate again; `None` if it is not parked (any more), or its build is gone.
/// Waits for a step of its partition that is under way.
pub async fn begin_retry(
    db: &PgPool,
    projection: &'static Registered,
    build: i32,
    aggregate_type: &str,
    aggregate_id: &str,
) -> sqlx::Result<Option<Retry>> {
    let mut tx = db.begin().await?;
    // The checkpoint first, as in a worker's step: in another order the two could wait for each other.
    let build = sqlx::query!(
        "select b.projection, b.code_version, b.build, b.schema_name, b.partitions, b.created_at, c.position
         from builds as b
         join checkpoints as c using (projection, code_version, build)
         where b.projection = $1 and b.code_version = $2 and b.build = $3
           and c.partition = (
               select p.partition
               from parked_aggregates as p
               where p.projection = $1 and p.code_version = $2 and p.build = $3
                 and p.aggregate_type = $4 and p.aggregate_id = $5)
         for update of c",
        projection.name,
        projection.code_version,
        build,
        aggregate_type,
        aggregate_id
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = build else { return Ok(None) };
    let (through, build) = (
        row.position,
        Build {
            projection: row.projection,
            code_version: row.code_version,
            build: row.build,
            schema_name: row.schema_name,
            partitions: row.partitions,
            created_at: row.created_at,
        },
    );
    let parked = sqlx::query_as!(
        ParkedAggregate,
        "select projection, code_version, build, partition, aggregate_type, aggregate_id,
             position, sequence, error, attempts, parked_at, tried_at
         from parked_aggregates
         where projection = $1 and code_version = $2 and build = $3 and aggregate_type = $4 and aggregate_id = $5
         for update",
        build.projection,
        build.code_version,
        build.build,
        aggregate_type,
        aggregate_id
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(parked) = parked else { return Ok(None) };
    Ok(Some(Retry {
        tx,
        projection,
        build,
        parked,
        through,
        failed: None,
    }))
}

impl Retry {
    /// What is told again: from its sequence on …
    pub const fn parked(&self) -> &ParkedAggregate {
        &self.parked
    }

    /// … up to this position, which is the partition's.
    pub const fn through(&self) -> i64 {
        self.through
    }

    /// The log, through its own transaction: whoever reads the stream for it needs no second connection.
    pub async fn log(&mut self) -> sqlx::Result<&mut PgConnection> {
        // A build may have a table that is called like one of the log's.
        sqlx::query_scalar!("select set_config('search_path', 'public', true)")
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(&mut self.tx)
    }

    /// Keeps what was told up to here, so that the partition need not wait for the whole of a long stream:
    /// parked still, from `sequence` at `position` on.
    pub async fn put_down(mut self, position: i64, sequence: i64) -> sqlx::Result<()> {
        let (build, parked) = (&self.build, &self.parked);
        sqlx::query!(
            "update parked_aggregates
             set position = $6, sequence = $7
             where projection = $1 and code_version = $2 and build = $3
               and aggregate_type = $4 and aggregate_id = $5",
            build.projection,
            build.code_version,
            build.build,
            parked.aggregate_type,
            parked.aggregate_id,
            position,
            sequence,
        )
        .execute(&mut *self.tx)
        .await?;
        self.tx.commit().await
    }

    /// Applies the next events of the stream, in order and without a hole; `false` if one of them still
    /// cannot be applied, and no more need be told.
    pub async fn tell(&mut self, events: &[RawEvent], now: Timestamp) -> Result<bool, AdvanceError> {
        let (batch, faults) = wanted(self.projection, events)?;
        let mut lot = Lot {
            build: &self.build,
            partition: self.parked.partition,
            now,
            parked: std::collections::BTreeMap::new(),
            newly: Vec::new(),
        };
        choose_schema(&mut self.tx, &self.build.schema_name).await?;
        for fault in &faults {
            lot.park(fault.event, error::of_decoding(&fault.source))?;
        }
        lot.apply(&mut self.tx, batch, self.projection.apply_late).await?;
        self.failed = lot.newly.pop();
        Ok(self.failed.is_none())
    }

    /// Keeps what was told.
    pub async fn finish(mut self, now: Timestamp) -> sqlx::Result<Retried> {
        let (build, parked) = (&self.build, self.parked);
        let retried = match self.failed {
            None => {
                sqlx::query!(
                    "delete from parked_aggregates
                     where projection = $1 and code_version = $2 and build = $3
                       and aggregate_type = $4 and aggregate_id = $5",
                    build.projection,
                    build.code_version,
                    build.build,
                    parked.aggregate_type,
                    parked.aggregate_id
                )
                .execute(&mut *self.tx)
                .await?;
                let left = recount(&mut self.tx, build, parked.partition).await?;
                Retried::Applied { left }
            }
            Some(failed) => {
                let attempts = sqlx::query_scalar!(
                    "update parked_aggregates
                     set position = $6, sequence = $7, error = $8, attempts = attempts + 1, tried_at = $9
                     where projection = $1 and code_version = $2 and build = $3
                       and aggregate_type = $4 and aggregate_id = $5
                     returning attempts",
                    build.projection,
                    build.code_version,
                    build.build,
                    parked.aggregate_type,
                    parked.aggregate_id,
                    failed.position,
                    failed.sequence,
                    failed.error,
                    now
                )
                .fetch_one(&mut *self.tx)
                .await?;
                Retried::Parked(ParkedAggregate {
                    attempts,
                    parked_at: parked.parked_at,
                    ..failed
                })
            }
        };
        self.tx.commit().await?;
        Ok(retried)
    }
}
