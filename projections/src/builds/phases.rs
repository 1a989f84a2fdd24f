//! The life of a build: filled beside the live one, live, retired, dropped.

use std::{fmt, str::FromStr};

use jangbu_events::Timestamp;
use sqlx::{Executor, PgExecutor, PgPool};

use super::{Build, create, one_at_a_time};
use crate::Registered;

/// What a build is for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A rebuild brings it to the head of the log; nobody reads it, no worker feeds it.
    Filling,
    /// Workers feed it; queries read it if it is active.
    Live,
    /// Another took its place. It is kept as it was then, so that one can go back.
    Retired,
}

impl Phase {
    /// As the column and people have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Live => "live",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A phase that this version of the program does not know.
#[derive(Debug, thiserror::Error)]
#[error("a build is {0:?}, which this version does not know")]
pub struct UnknownPhase(String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        [Self::Filling, Self::Live, Self::Retired]
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}

/// A build, what it is for, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub build: Build,
    /// Whether queries of its code version read it.
    pub active: bool,
    /// What it is for.
    pub phase: Phase,
    /// Whether secondary indexes are still to be made.
    pub is_bare: bool,
    /// Of every partition, in their order.
    pub positions: Vec<i64>,
    /// Aggregates that it could not take.
    pub parked: i64,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When queries read it first or again.
    pub activated_at: Option<Timestamp>,
    /// When another took its place.
    pub retired_at: Option<Timestamp>,
}

impl Standing {
    /// Of its slowest partition.
    pub fn position(&self) -> i64 {
        self.positions.iter().copied().min().unwrap_or(0)
    }
}

/// All builds of all code versions, or those of one projection, oldest first.
pub async fn standings(db: impl PgExecutor<'_>, projection: Option<&str>) -> sqlx::Result<Vec<Standing>> {
    let rows = sqlx::query!(
        r#"select projection, code_version, build, schema_name, partitions, active, phase,
             indexes is not null as "is_bare!", created_at, activated_at, retired_at,
             array_agg(position order by partition) as "positions!", sum(parked) as "parked!"
         from builds
         join checkpoints using (projection, code_version, build)
         where $1::text is null or projection = $1
         group by projection, code_version, build
         order by projection, code_version, build"#,
        projection
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Standing {
                active: row.active,
                phase: row
                    .phase
                    .parse()
                    .map_err(|error| sqlx::Error::Decode(Box::new(error) as _))?,
                is_bare: row.is_bare,
                positions: row.positions,
                parked: row.parked,
                created_at: row.created_at,
                activated_at: row.activated_at,
                retired_at: row.retired_at,
                build: Build {
                    projection: row.projection,
                    code_version: row.code_version,
                    build: row.build,
                    schema_name: row.schema_name,
                    partitions: row.partitions,
                    created_at: row.created_at,
                },
            })
        })
        .collect()
}

/// A new build beside the one that is read, with empty tables that have no secondary indexes yet.
pub async fn begin_filling(
    db: &PgPool,
    projection: &Registered,
    partitions: i16,
    now: Timestamp,
) -> sqlx::Result<Build> {
    let mut tx = db.begin().await?;
    one_at_a_time(&mut tx).await?;
    let build = create(&mut tx, projection, partitions, Phase::Filling, now).await?;
    tx.commit().await?;
    Ok(build)
}

/// Makes the indexes that a build was filled without, and has its tables' contents counted, without
/// which queries would be planned for empty ones. Again, it changes nothing.
pub async fn finish_indexes(db: &PgPool, build: &Build) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    let statements = sqlx::query_scalar!(
        "select indexes from builds where projection = $1 and code_version = $2 and build = $3 for no key update",
        build.projection,
        build.code_version,
        build.build
    )
    .fetch_one(&mut *tx)
    .await?;
    for statement in statements.unwrap_or_default() {
        tx.execute(statement.as_str()).await?;
    }
    let tables = sqlx::query_scalar!(
        r#"select format('analyze %I.%I', schemaname, tablename) as "statement!"
         from pg_catalog.pg_tables
         where schemaname = $1
         order by tablename"#,
        build.schema_name
    )
    .fetch_all(&mut *tx)
    .await?;
    for analyze in tables {
        tx.execute(analyze.as_str()).await?;
    }
    sqlx::query!(
        "update builds set indexes = null where projection = $1 and code_version = $2 and build = $3",
        build.projection,
        build.code_version,
        build.build
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Drops a build and all its rows. `false`, and nothing is changed, if it is one that this or another
/// version of the program reads (`even_active` passes over that), or is gone already.
pub async fn discard(db: &PgPool, build: &Build, even_active: bool) -> sqlx::Result<bool> {
    let mut tx = db.begin().await?;
    one_at_a_time(&mut tx).await?;
    let gone = sqlx::query!(
        "delete from builds where schema_name = $1 and (not active or $2)",
        build.schema_name,
        even_active
    )
    .execute(&mut *tx)
    .await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    let drop = format!(
        "set local client_min_messages = warning; drop schema if exists \"{}\" cascade",
        build.schema_name
    );
    tx.execute(drop.as_str()).await?;
    tx.commit().await?;
    Ok(true)
}
