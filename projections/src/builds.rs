//! Builds: one materialisation each of a projection's code version, in a schema of its own, with a
//! checkpoint per partition. Queries never name a schema: the search path of their pool chooses.

mod proof;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jangbu_events::Timestamp;
use sqlx::{Executor, PgConnection, PgPool, Postgres, Transaction};

use crate::{Registered, all};

pub use proof::table_hash;
pub use step::{AdvanceError, Advanced, advance};

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

/// The newest build of this projection, code version and number of partitions; made, with empty
/// tables and checkpoints at 0, if there is none. The first build of a code version is active at
/// once; one for another number of partitions waits for [`activate`]. Any number of processes may
/// call this at the same time.
pub async fn ensure(db: &PgPool, projection: &Registered, partitions: i16, now: Timestamp) -> sqlx::Result<Build> {
    if let Some(build) = newest(&mut *db.acquire().await?, projection, partitions).await? {
        return Ok(build);
    }
    let mut tx = db.begin().await?;
    // One at a time in the whole database: `create schema if not exists` and friends still collide.
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('jangbu builds', 0))")
        .fetch_one(&mut *tx)
        .await?;
    if let Some(build) = newest(&mut tx, projection, partitions).await? {
        return Ok(build);
    }
    let build = create(&mut tx, projection, partitions, now).await?;
    tx.commit().await?;
    tracing::info!(
        projection = projection.name,
        schema = build.schema_name,
        partitions,
        "created a build"
    );
    Ok(build)
}

async fn newest(db: &mut PgConnection, projection: &Registered, partitions: i16) -> sqlx::Result<Option<Build>> {
    sqlx::query_as!(
        Build,
        "select projection, code_version, build, schema_name, partitions
         from builds
         where projection = $1 and code_version = $2 and partitions = $3
         order by build desc
         limit 1",
        projection.name,
        projection.code_version,
        partitions
    )
    .fetch_optional(db)
    .await
}

async fn create(
    tx: &mut Transaction<'static, Postgres>,
    projection: &Registered,
    partitions: i16,
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
    sqlx::query!(
        "insert into builds (projection, code_version, build, schema_name, partitions, active, created_at)
         values ($1, $2, $3, $4, $5, $3 = 1, $6)",
        name,
        code_version,
        build,
        schema_name,
        partitions,
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
    // Texts without arguments: several statements may stand in one. Names of schemas are made of
    // constants and numbers above, never of anything from outside.
    let create_schema = format!("create schema {schema_name}");
    tx.execute(create_schema.as_str()).await?;
    choose_schema(tx, &schema_name).await?;
    tx.execute(projection.schema).await?;
    Ok(Build {
        projection: name.to_owned(),
        code_version,
        build,
        schema_name,
        partitions,
    })
}

/// Until the transaction ends, unqualified names mean this build's tables.
async fn choose_schema(tx: &mut Transaction<'static, Postgres>, schema_name: &str) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        "select set_config('search_path', $1, true)",
        format!("{schema_name}, public")
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(())
}

/// Makes a build the one that queries read, in place of the one that is. `false`, and nothing is
/// changed, while it is behind that one in any partition. Pools that were opened with
/// [`active_search_path`] read the old build until they are opened anew.
pub async fn activate(db: &PgPool, build: &Build) -> sqlx::Result<bool> {
    let mut tx = db.begin().await?;
    // Locked, the old checkpoints cannot run ahead of the comparison.
    let checkpoints = sqlx::query!(
        "select build, position
         from checkpoints
         where projection = $1 and code_version = $2
           and build in (
               select build from builds
               where projection = $1 and code_version = $2 and (active or build = $3))
         order by build, partition
         for update",
        build.projection,
        build.code_version,
        build.build
    )
    .fetch_all(&mut *tx)
    .await?;
    let (new, old): (Vec<_>, Vec<_>) = checkpoints
        .iter()
        .partition(|checkpoint| checkpoint.build == build.build);
    // The two may have other partitions, so the slowest new one must have passed the fastest old one.
    let reached = new.iter().map(|checkpoint| checkpoint.position).min();
    let wanted = old.iter().map(|checkpoint| checkpoint.position).max();
    if reached.is_none() || reached < wanted {
        return Ok(false);
    }
    // Off before on: the index of active builds holds after every statement.
    for (build_number, active) in [(None, false), (Some(build.build), true)] {
        sqlx::query!(
            "update builds
             set active = $4
             where projection = $1 and code_version = $2 and ($3::integer is null or build = $3) and active <> $4",
            build.projection,
            build.code_version,
            build_number,
            active
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// For the connections of a pool that runs this crate's queries: the active builds of this binary's
/// code versions. A projection that was never [`ensure`]d is missing, and its queries fail.
pub async fn active_search_path(db: &PgPool) -> sqlx::Result<String> {
    let (names, versions) = registered();
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
    all()
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
