//! Builds: one materialisation each of a projection's code version, in a schema of its own, with a
//! checkpoint per partition. Queries never name a schema: the search path of their pool chooses.

pub mod bulk;
pub mod parking;
mod phases;
pub mod proof;
mod replay;
mod step;
mod switch;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jangbu_events::Timestamp;
use sqlx::{Executor, PgConnection, PgPool, Postgres, Transaction};

use crate::{Registered, all, built_in};

pub use phases::{Phase, Standing, begin_filling, discard, finish_indexes, standings};
pub use proof::table_hash;
pub use replay::Replay;
pub use step::{AdvanceError, Advanced, Fed, advance, advance_or_park};
pub use switch::{Begun, Poison, Switch};

/// Which build, and where its tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// [`Registered::name`].
    pub projection: String,
    /// [`Registered::code_version`].
    pub code_version: i32,
    /// Counts the builds of this code version from 1.
    pub build: i32,
    /// `<projection>_v<code version>_b<build>`.
    pub schema_name: String,
    /// How many equal ranges of slots it is fed in.
    pub partitions: i16,
    /// Since when it is there. What was recorded before is told to it while nobody depends on it yet.
    pub created_at: Timestamp,
}

/// How far one partition of a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// From 0.
    pub partition: i16,
    /// Everything up to here is in the tables.
    pub position: i64,
    /// Of the lease under which it may move.
    pub epoch: i64,
}

/// The build of this projection and code version that queries read; made, with empty tables and
/// checkpoints at 0, if there is none. `partitions` is for one that is made: one that is there keeps
/// its own until [`begin_filling`] and [`Switch`] have put another in its place. Any number of
/// processes may call this at the same time.
pub async fn ensure(db: &PgPool, projection: &Registered, partitions: i16, now: Timestamp) -> sqlx::Result<Build> {
    if let Some(build) = active(&mut *db.acquire().await?, projection).await? {
        return Ok(build);
    }
    let mut tx = db.begin().await?;
    one_at_a_time(&mut tx).await?;
    if let Some(build) = active(&mut tx, projection).await? {
        return Ok(build);
    }
    let build = create(&mut tx, projection, partitions, Phase::Live, now).await?;
    sqlx::query!(
        "update builds set active = true, activated_at = $4
         where projection = $1 and code_version = $2 and build = $3",
        build.projection,
        build.code_version,
        build.build,
        now
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    tracing::info!(
        projection = projection.name,
        schema = build.schema_name,
        partitions,
        "created a build"
    );
    Ok(build)
}

/// Who makes or drops builds waits for others that do, in the whole database: `create schema if not
/// exists` and friends still collide.
async fn one_at_a_time(tx: &mut Transaction<'static, Postgres>) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('jangbu builds', 0))")
        .fetch_one(&mut **tx)
        .await?;
    Ok(())
}

async fn active(db: &mut PgConnection, projection: &Registered) -> sqlx::Result<Option<Build>> {
    sqlx::query_as!(
        Build,
        "select projection, code_version, build, schema_name, partitions, created_at
         from builds
         where projection = $1 and code_version = $2 and active",
        projection.name,
        projection.code_version
    )
    .fetch_optional(db)
    .await
}

/// A new build with empty tables, which nobody reads yet. One to be filled is without secondary
/// indexes until [`finish_indexes`].
async fn create(
    tx: &mut Transaction<'static, Postgres>,
    projection: &Registered,
    partitions: i16,
    phase: Phase,
    now: Timestamp,
) -> sqlx::Result<Build> {
    let (name, code_version) = (projection.name, projection.code_version);
    let build = sqlx::query_scalar!(
        r#"select coalesce(max(build), 0) + 1 as "build!" from builds where projection = $1 and code_version = $2"#,
        name,
        code_version
    )
    .fetch_one(&mut **tx)
    .await?;
    let schema_name = format!("{name}_v{code_version}_b{build}");
    // Texts without arguments: several statements may stand in one. Names of schemas are made of
    // constants and numbers above, never of anything from outside.
    let create_schema = format!("create schema {schema_name}");
    tx.execute(create_schema.as_str()).await?;
    let indexes = if phase == Phase::Filling {
        Some(bulk::create_bare_tables(tx, projection, &schema_name).await?)
    } else {
        choose_schema(tx, &schema_name).await?;
        tx.execute(projection.schema).await?;
        None
    };
    sqlx::query!(
        "insert into builds (projection, code_version, build, schema_name, partitions, phase, indexes, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        name,
        code_version,
        build,
        schema_name,
        partitions,
        phase.as_str(),
        indexes.as_deref(),
        now
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "insert into checkpoints (projection, code_version, build, partition, updated_at)
         select $1, $2, $3, partition, $5
         from generate_series(0, $4::smallint - 1) as partition",
        name,
        code_version,
        build,
        partitions,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(Build {
        projection: name.to_owned(),
        code_version,
        build,
        schema_name,
        partitions,
        created_at: now,
    })
}

/// Under which unqualified names mean a build's tables.
fn search_path(schema_name: &str) -> String {
    format!("{schema_name}, public")
}

/// Until the transaction ends, unqualified names mean this build's tables.
async fn choose_schema(tx: &mut Transaction<'_, Postgres>, schema_name: &str) -> sqlx::Result<()> {
    sqlx::query_scalar!("select set_config('search_path', $1, true)", search_path(schema_name))
        .fetch_one(&mut **tx)
        .await?;
    Ok(())
}

/// For the connections of a pool that runs this crate's queries: the active builds of this binary's
/// code versions, without those of analysts, whose tables may be called like any. A projection that was
/// never [`ensure`]d is missing, and its queries fail. What is active later needs another pool.
pub async fn active_search_path(db: &PgPool) -> sqlx::Result<String> {
    let (names, versions) = named(built_in());
    let mut schemas = sqlx::query_scalar!(
        "select schema_name
         from builds
         join unnest($1::text[], $2::integer[]) as mine (projection, code_version) using (projection, code_version)
         where active
         order by projection",
        &names as &[&str],
        &versions
    )
    .fetch_all(db)
    .await?;
    schemas.push("public".to_owned());
    Ok(schemas.join(", "))
}

fn registered() -> (Vec<&'static str>, Vec<i32>) {
    named(all())
}

fn named(projections: &'static [Registered]) -> (Vec<&'static str>, Vec<i32>) {
    projections
        .iter()
        .map(|projection| (projection.name, projection.code_version))
        .unzip()
}

/// Of every partition, in their order.
pub async fn checkpoints(db: &PgPool, build: &Build) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as!(
        Checkpoint,
        "select partition, position, epoch
         from checkpoints
         where projection = $1 and code_version = $2 and build = $3
         order by partition",
        build.projection,
        build.code_version,
        build.build
    )
    .fetch_all(db)
    .await
}

/// How far a build is in its slowest partition; 0 for one that is gone.
pub async fn position(db: &PgPool, build: &Build) -> sqlx::Result<i64> {
    let checkpoints = checkpoints(db, build).await?;
    let positions = checkpoints.iter().map(|checkpoint| checkpoint.position);
    Ok(positions.min().unwrap_or(0))
}

/// How far the active build of each named projection is in its slowest partition; 0 for one that has
/// no build yet. What a reader of these projections can rely on having seen.
pub async fn positions(db: &PgPool, names: &[&str]) -> sqlx::Result<BTreeMap<String, i64>> {
    let (known, versions) = registered();
    let rows = sqlx::query!(
        r#"select projection, min(position) as "position!"
         from builds
         join checkpoints using (projection, code_version, build)
         join unnest($1::text[], $2::integer[]) as mine (projection, code_version) using (projection, code_version)
         where active and projection = any($3)
         group by projection"#,
        &known as &[&str],
        &versions,
        names as &[&str]
    )
    .fetch_all(db)
    .await?;
    let mut positions: BTreeMap<String, i64> = names.iter().map(|name| ((*name).to_owned(), 0)).collect();
    positions.extend(rows.into_iter().map(|row| (row.projection, row.position)));
    Ok(positions)
}

/// Puts a partition under the epoch of a lease just taken, so that steps begun under older leases
/// find nothing to move. Gives the position to go on from; `None` if a newer lease stands already.
pub async fn take_over(
    db: &PgPool,
    build: &Build,
    partition: i16,
    epoch: i64,
    now: Timestamp,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "update checkpoints
         set epoch = $5, updated_at = $6
         where projection = $1 and code_version = $2 and build = $3 and partition = $4 and epoch <= $5
         returning position",
        build.projection,
        build.code_version,
        build.build,
        partition,
        epoch,
        now
    )
    .fetch_optional(db)
    .await
}
