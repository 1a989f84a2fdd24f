//! Putting one build in another's place: in one transaction, so that queries read either the one or
//! the other, and never one that knows less than what was read before.

use jangbu_events::{RawEvent, Timestamp};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{
    AdvanceError, Build, Phase, choose_schema, parking,
    step::{understood, wanted},
};
use crate::Registered;

/// What the epochs of a retired build's checkpoints are higher by: no lease is ever taken under such a
/// one, so no worker moves them.
const RETIRED: i64 = 1 << 48;

/// What becomes of an event that cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// Everything stops: nobody reads these tables, so nobody is served by leaving it out.
    Fail,
    /// Its aggregate is parked, as a worker does.
    Park,
}

/// What a switch begins with.
pub enum Begun {
    /// The old build stands still until this is finished or dropped.
    Ready(Box<Switch>),
    /// It is the one that is read.
    Active,
    /// It lacks indexes, or is not there any more, or what is read changed at this moment.
    NotReady,
}

/// The old build's checkpoints are locked: its workers wait. Dropped, it has changed nothing.
pub struct Switch {
    tx: Transaction<'static, Postgres>,
    projection: &'static Registered,
    to: Build,
    /// The build that is read, whose checkpoints are locked, unless there is none.
    from: Option<i32>,
    /// The furthest of the old build.
    wanted: i64,
    /// Of the new one, in the order of its partitions.
    positions: Vec<i64>,
    now: Timestamp,
}

impl Switch {
    /// Locks the checkpoints of the build that is read and of the one that is to be.
    pub async fn begin(
        db: &PgPool,
        projection: &'static Registered,
        to: &Build,
        now: Timestamp,
    ) -> sqlx::Result<Begun> {
        let mut tx = db.begin().await?;
        // As a worker's step locks them, each its own row first; and none of the two waits for a
        // build's row, which steps only keep from vanishing.
        let rows = sqlx::query!(
            r#"select b.build, b.active, b.phase, b.indexes is not null as "is_bare!", c.position
             from builds as b
             join checkpoints as c using (projection, code_version, build)
             where b.projection = $1 and b.code_version = $2 and (b.active or b.build = $3)
             order by b.build, c.partition
             for no key update of b, c"#,
            to.projection,
            to.code_version,
            to.build
        )
        .fetch_all(&mut *tx)
        .await?;
        let (mut from, mut wanted, mut positions) = (None, 0, Vec::new());
        for row in rows {
            if row.build != to.build {
                from = Some(row.build);
                wanted = wanted.max(row.position);
                continue;
            }
            if row.active {
                return Ok(Begun::Active);
            }
            if row.is_bare {
                return Ok(Begun::NotReady);
            }
            positions.push(row.position);
        }
        if positions.len() != usize::from(to.partitions.unsigned_abs()) {
            return Ok(Begun::NotReady);
        }
        if from.is_none() && is_one_read(&mut tx, to).await? {
            // It became so while this waited for the one before it, and is not locked.
            return Ok(Begun::NotReady);
        }
        choose_schema(&mut tx, &to.schema_name).await?;
        Ok(Begun::Ready(Box::new(Self {
            tx,
            projection,
            to: to.clone(),
            from,
            wanted,
            positions,
            now,
        })))
    }

    /// How far every partition has to be: as far as the old build's fastest, since the two may be cut
    /// into other partitions.
    pub const fn wanted(&self) -> i64 {
        self.wanted
    }

    /// The transaction's own connection: it is not taken for one that stands still while it reads.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// Where each partition is that is not so far yet.
    pub fn behind(&self) -> Vec<(i16, i64)> {
        (0_i16..)
            .zip(&self.positions)
            .filter(|(_, position)| **position < self.wanted)
            .map(|(partition, position)| (partition, *position))
            .collect()
    }

    /// Brings a partition as far as it has to be: `events` are all of it that it has not seen.
    pub async fn tell(&mut self, partition: i16, events: &[RawEvent], poison: Poison) -> Result<(), AdvanceError> {
        let Some(position) = usize::try_from(partition)
            .ok()
            .and_then(|at| self.positions.get_mut(at))
        else {
            return Err(AdvanceError::Database(sqlx::Error::RowNotFound));
        };
        let from = std::mem::replace(position, self.wanted);
        if let Some(event) = events
            .iter()
            .find(|event| event.position <= from || event.position > self.wanted)
        {
            return Err(AdvanceError::Misplaced {
                position: event.position,
                partition,
                from,
                through: self.wanted,
            });
        }
        match poison {
            Poison::Fail => {
                let mut batch = Vec::with_capacity(events.len());
                for event in events {
                    batch.extend(understood(self.projection, event)?);
                }
                if !batch.is_empty() {
                    self.projection.apply(&mut self.tx, partition, &batch).await?;
                }
            }
            Poison::Park => {
                let (batch, faults) = wanted(self.projection, events)?;
                parking::apply_around(
                    &mut self.tx,
                    self.projection,
                    &self.to,
                    partition,
                    batch,
                    &faults,
                    self.now,
                )
                .await?;
            }
        }
        sqlx::query!(
            "update checkpoints
             set position = $5, updated_at = $6
             where projection = $1 and code_version = $2 and build = $3 and partition = $4",
            self.to.projection,
            self.to.code_version,
            self.to.build,
            partition,
            self.wanted,
            self.now
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// From here on it is read. `false`, and nothing is changed, while a partition is behind.
    pub async fn finish(mut self) -> sqlx::Result<bool> {
        if !self.behind().is_empty() {
            self.tx.rollback().await?;
            return Ok(false);
        }
        self.fence().await?;
        // Off before on: the index of active builds holds after every statement.
        sqlx::query!(
            "update builds
             set active = false, phase = $4, retired_at = $5
             where projection = $1 and code_version = $2 and build = $3",
            self.to.projection,
            self.to.code_version,
            self.from,
            Phase::Retired.as_str(),
            self.now
        )
        .execute(&mut *self.tx)
        .await?;
        sqlx::query!(
            "update builds
             set active = true, phase = $4, activated_at = $5
             where projection = $1 and code_version = $2 and build = $3",
            self.to.projection,
            self.to.code_version,
            self.to.build,
            Phase::Live.as_str(),
            self.now
        )
        .execute(&mut *self.tx)
        .await?;
        self.tx.commit().await?;
        Ok(true)
    }

    /// A worker that has not heard of it must not feed the old build further than the new one is:
    /// somebody may read the old one a moment longer, and then the new one.
    async fn fence(&mut self) -> sqlx::Result<()> {
        sqlx::query!(
            "update checkpoints
             set epoch = epoch + case when build = $4 then $5::bigint else -$5 end
             where projection = $1 and code_version = $2
               and (build = $4 or build = $3 and epoch >= $5)",
            self.to.projection,
            self.to.code_version,
            self.to.build,
            self.from,
            RETIRED
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }
}

/// Whether queries of the build's code version read any.
async fn is_one_read(db: &mut PgConnection, build: &Build) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from builds where projection = $1 and code_version = $2 and active) as "is!""#,
        build.projection,
        build.code_version
    )
    .fetch_one(db)
    .await
}
