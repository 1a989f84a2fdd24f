//! Which builds there are, and dropping those that nobody needs.

use jangbu_events::Timestamp;
use jangbu_projections::builds::{self, Build, Standing};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, PgPool};

use super::{let_go, lock, watch};
use crate::feed;

/// A build, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Of which projection.
    pub projection: String,
    /// Of its code.
    pub code_version: i32,
    /// Its number within the code version.
    pub build: i32,
    /// Where its tables are.
    pub schema: String,
    /// Into how many it is cut.
    pub partitions: i16,
    /// `filling`, `live` or `retired`.
    pub phase: &'static str,
    /// Whether queries of its code version read it.
    pub active: bool,
    /// Of its slowest partition.
    pub position: i64,
    /// How many positions the log is further.
    pub lag: i64,
    /// Aggregates that it could not take.
    pub parked: i64,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When queries read it first or again.
    pub activated_at: Option<Timestamp>,
    /// When another took its place.
    pub retired_at: Option<Timestamp>,
}

/// All builds of all code versions, by projection and age.
pub async fn list(db: &PgPool) -> sqlx::Result<Vec<Entry>> {
    let standings = builds::standings(db, None).await?;
    // After them: none of them is then said to be further than the log.
    let head = feed::head(db).await?;
    Ok(standings.into_iter().map(|standing| entry(standing, head)).collect())
}

fn entry(standing: Standing, head: i64) -> Entry {
    let position = standing.position();
    Entry {
        projection: standing.build.projection,
        code_version: standing.build.code_version,
        build: standing.build.build,
        schema: standing.build.schema_name,
        partitions: standing.build.partitions,
        phase: standing.phase.as_str(),
        active: standing.active,
        position,
        lag: (head - position).max(0),
        parked: standing.parked,
        created_at: standing.created_at,
        activated_at: standing.activated_at,
        retired_at: standing.retired_at,
    }
}

/// Why a build is not dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// There is no such build.
    #[error("there is no build {0}; `jangbu builds` lists them")]
    Unknown(String),
    /// Queries read it.
    #[error("{0} is what queries read; `jangbu rebuild` puts another in its place")]
    Active(String),
    /// Queries of another version of the program read it.
    #[error("{0} is what queries of that version of the program read; --old-version drops it nevertheless")]
    OfOtherVersion(String),
    /// A rebuild is at it.
    #[error("a rebuild of {0} is under way")]
    UnderWay(String),
    /// A process has not noticed yet that it is read no more, or goes on reading it.
    #[error("a process still uses {0}; try again in a moment, or stop it")]
    InUse(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl DropError {
    /// Whether the name makes no sense, as opposed to something that stands in the way.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Drops the build in `schema`. One that queries read only with `old_version`, and only if they are of
/// another code version than this program's.
pub async fn drop(db: &PgPool, schema: &str, old_version: bool) -> Result<(), DropError> {
    let standing = builds::standings(db, None)
        .await?
        .into_iter()
        .find(|standing| standing.build.schema_name == schema)
        .ok_or_else(|| DropError::Unknown(schema.to_owned()))?;
    let build = standing.build;
    if standing.active && is_ours(&build) {
        return Err(DropError::Active(schema.to_owned()));
    }
    if standing.active && !old_version {
        return Err(DropError::OfOtherVersion(schema.to_owned()));
    }
    let mut guard = PgConnection::connect_with(&db.connect_options()).await?;
    if !lock(&mut guard, &build.projection).await? {
        return Err(DropError::UnderWay(build.projection));
    }
    if !watch::is_unused(db, &build).await? {
        return Err(DropError::InUse(schema.to_owned()));
    }
    let dropped = builds::discard(db, &build, old_version && !is_ours(&build)).await?;
    let_go(guard).await;
    if dropped {
        Ok(())
    } else {
        Err(DropError::Active(schema.to_owned()))
    }
}

fn is_ours(build: &Build) -> bool {
    jangbu_projections::all()
        .iter()
        .any(|known| (known.name, known.code_version) == (build.projection.as_str(), build.code_version))
}
