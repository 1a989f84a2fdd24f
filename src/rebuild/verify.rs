//! Proof that read tables are what the log says, while they are read and fed: the same code is told the
//! log once more, into tables of its own, and both must be equal to the last row.

mod compare;

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use jangbu_projections::{
    Registered,
    builds::{self, Build, bulk, proof},
};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::interval;

use self::compare::first_difference;
use super::{
    Progress, RebuildError, SAID_EVERY, Site, Stage,
    copy::{Done, Job, Without, copy},
    let_go, require_whole,
};

/// Times that it begins anew because a parked aggregate was told again meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Of which projection.
    pub projection: &'static str,
    /// Its code.
    pub code_version: i32,
    /// Which build: the one that is read.
    pub build: i32,
    /// Where its tables are.
    pub schema: String,
    /// Where each partition was when it was compared.
    pub positions: Vec<i64>,
    /// Events that were told again.
    pub events: u64,
    /// Aggregates that are parked and were left out on both sides, from where they are parked.
    pub parked: usize,
    /// Partitions whose rows are not what the log says.
    pub differing: Vec<i16>,
    /// The first row that differs.
    pub difference: Option<Difference>,
}

impl Verified {
    /// Whether everything is as the log says.
    pub const fn is_proven(&self) -> bool {
        self.differing.is_empty()
    }
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The log says that it should be there.
    Missing,
    /// The log does not know of it.
    Surplus,
    /// It says something else than the log.
    Differs,
}

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Of which partition.
    pub partition: i16,
    /// Where that was.
    pub position: i64,
    /// In which table.
    pub table: String,
    /// The row's primary key.
    pub key: BTreeMap<String, Value>,
    /// What is wrong with it.
    pub kind: Kind,
    /// Columns that differ, if the row is on both sides. Never their values: they may be sealed data.
    pub columns: Vec<String>,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing to compare.
    #[error("{0} has no build yet")]
    NoBuild(&'static str),
    /// Another process compares the same build.
    #[error("another verification of {0} is under way")]
    UnderWay(String),
    /// Its parked aggregates are told again all the time.
    #[error("parked aggregates were told again meanwhile; try again when `jangbu parked retry` has ended")]
    Unsteady,
    /// The tables could not be made.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Compares the build that is read with the log. `None` if it was stopped.
pub async fn run(
    site: &Site,
    projection: &'static Registered,
    mut progress: impl FnMut(Progress),
) -> Result<Option<Verified>, VerifyError> {
    let standings = builds::standings(&site.db, Some(projection.name)).await?;
    let build = standings
        .into_iter()
        .find(|standing| standing.active && standing.build.code_version == projection.code_version)
        .ok_or(VerifyError::NoBuild(projection.name))?
        .build;
    // Held as long as its connection.
    let mut guard = PgConnection::connect_with(&site.db.connect_options()).await?;
    if !lock(&mut guard, &build).await? {
        return Err(VerifyError::UnderWay(build.schema_name));
    }
    // What one that was killed has left.
    let scratch = format!("verifying_{}", build.schema_name);
    let mut found = Err(VerifyError::Unsteady);
    for _ in 0..ATTEMPTS_MAX {
        discard(&mut guard, &scratch).await?;
        let work = Work {
            site,
            projection,
            build: &build,
            scratch: &scratch,
        };
        found = work.run(&mut progress).await;
        if !matches!(found, Err(VerifyError::Unsteady)) {
            break;
        }
    }
    discard(&mut guard, &scratch).await?;
    let_go(guard).await;
    found
}

async fn lock(db: &mut PgConnection, build: &Build) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_lock(hashtextextended('jangbu verify ' || $1, 0)) as "locked!""#,
        build.schema_name
    )
    .fetch_one(db)
    .await
}

async fn discard(db: &mut PgConnection, scratch: &str) -> sqlx::Result<()> {
    let statement = format!("set client_min_messages = warning; drop schema if exists {scratch} cascade");
    db.execute(statement.as_str()).await?;
    Ok(())
}

/// What the rows of a build stand for.
struct Facts {
    /// Of every partition.
    positions: Vec<i64>,
    /// By id, with the partition and the first position that is not in the tables.
    parked: BTreeMap<String, (i16, i64)>,
}

impl Facts {
    fn without(&self) -> Without {
        Without::new(self.parked.iter().map(|(id, (_, position))| (id.clone(), *position)))
    }

    fn parked_in(&self, partition: i16) -> Vec<(&String, i64)> {
        let here = self.parked.iter().filter(|(_, (of, _))| *of == partition);
        here.map(|(id, (_, position))| (id, *position)).collect()
    }
}

/// A snapshot of a build's rows, and what they stand for in it.
async fn snapshot(db: &PgPool, build: &Build) -> sqlx::Result<(Transaction<'static, Postgres>, Facts)> {
    let mut tx = db.begin_with("begin isolation level repeatable read read only").await?;
    // It stands still while the other side is brought up to it.
    tx.execute("set local idle_in_transaction_session_timeout = 0").await?;
    let positions = sqlx::query_scalar!(
        "select position from checkpoints
         where projection = $1 and code_version = $2 and build = $3
         order by partition",
        build.projection,
        build.code_version,
        build.build
    )
    .fetch_all(&mut *tx)
    .await?;
    let parked = sqlx::query!(
        "select aggregate_id, partition, position from parked_aggregates
         where projection = $1 and code_version = $2 and build = $3",
        build.projection,
        build.code_version,
        build.build
    )
    .fetch_all(&mut *tx)
    .await?;
    let parked = parked.into_iter();
    let parked = parked
        .map(|row| (row.aggregate_id, (row.partition, row.position)))
        .collect();
    Ok((tx, Facts { positions, parked }))
}

struct Work<'a> {
    site: &'a Site,
    projection: &'static Registered,
    build: &'a Build,
    scratch: &'a str,
}

impl Work<'_> {
    async fn run(&self, progress: &mut impl FnMut(Progress)) -> Result<Option<Verified>, VerifyError> {
        let db = &self.site.db;
        let (mut tx, facts) = snapshot(db, self.build).await?;
        let mut hashes = Vec::new();
        for partition in 0..self.build.partitions {
            hashes.push(proof::hash_in(&mut tx, &self.build.schema_name, partition).await?);
        }
        tx.commit().await?;

        let mut made = db.begin().await?;
        made.execute(format!("create schema {}", self.scratch).as_str()).await?;
        bulk::create_bare_tables(&mut made, self.projection, self.scratch).await?;
        made.commit().await?;
        let positions = &facts.positions;
        let from = vec![0; positions.len()];
        let Some(events) = self.fill(from, positions.clone(), facts.without(), progress).await? else {
            return Ok(None);
        };
        let mut verified = Verified {
            projection: self.projection.name,
            code_version: self.build.code_version,
            build: self.build.build,
            schema: self.build.schema_name.clone(),
            positions: positions.clone(),
            events,
            parked: facts.parked.len(),
            differing: Vec::new(),
            difference: None,
        };
        let mut suspects = Vec::new();
        for (partition, hash) in (0_i16..).zip(hashes) {
            let mut tx = db.begin().await?;
            if proof::hash_in(&mut tx, self.scratch, partition).await? != hash {
                suspects.push(partition);
            }
        }
        for partition in suspects {
            let found = self.look_closer(partition, &facts, progress).await?;
            if let Some(difference) = found {
                verified.differing.push(partition);
                verified.difference.get_or_insert(difference);
            }
        }
        Ok(Some(verified))
    }

    /// The first row of a partition that differs, as the two are now: it may have been written anew.
    async fn look_closer(
        &self,
        partition: i16,
        before: &Facts,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<Difference>, VerifyError> {
        let (mut live, facts) = snapshot(&self.site.db, self.build).await?;
        if facts.parked_in(partition) != before.parked_in(partition) {
            return Err(VerifyError::Unsteady);
        }
        let at = usize::try_from(partition).unwrap_or(0);
        let position = facts.positions.get(at).copied().unwrap_or(0);
        let mut up_to = before.positions.clone();
        if let Some(place) = up_to.get_mut(at) {
            *place = position.max(*place);
        }
        let without = facts.without();
        if self
            .fill(before.positions.clone(), up_to, without, progress)
            .await?
            .is_none()
        {
            return Ok(None);
        }
        let mut told = self.site.db.begin().await?;
        // The two are read in turns, and one stands still while the other has much to sort.
        told.execute("set local idle_in_transaction_session_timeout = 0")
            .await?;
        let found = first_difference(&mut live, &self.build.schema_name, &mut told, self.scratch, partition).await?;
        Ok(found.map(|found| Difference {
            partition,
            position,
            table: found.table,
            key: found.key,
            kind: found.kind,
            columns: found.columns,
        }))
    }

    /// Tells the scratch tables what is between. `None` if it was stopped.
    async fn fill(
        &self,
        from: Vec<i64>,
        up_to: Vec<i64>,
        without: Without,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<u64>, VerifyError> {
        let stage = Stage::Verifying;
        let behind = from.iter().zip(&up_to).filter(|(from, up_to)| from < up_to);
        let Some(first) = behind.map(|(from, _)| *from).min() else {
            return Ok(Some(0));
        };
        let all = up_to.iter().copied().max().unwrap_or(0);
        require_whole(&self.site.db, first, all).await?;
        // The copy reads from the first of all: partitions that are there already need no reading.
        let from = from
            .iter()
            .zip(&up_to)
            .map(|(from, up_to)| if from < up_to { *from } else { all })
            .collect();
        let job = Job {
            projection: self.projection,
            schema: self.scratch.to_owned(),
            partitions: self.build.partitions,
            from,
            up_to,
            build: None,
            without,
            events_per_second_max: None,
        };
        let done = Arc::new(Done::default());
        let mut copying = pin!(copy(&self.site.db, job, &self.site.surroundings, &done));
        let mut tick = interval(SAID_EVERY);
        loop {
            tokio::select! {
                copied = &mut copying => return Ok(Some(copied.map_err(RebuildError::from)?)),
                () = self.site.stop.cancelled() => return Ok(None),
                _ = tick.tick() => progress(Progress { stage, done: done.position(), all }),
            }
        }
    }
}
