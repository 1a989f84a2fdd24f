//! The read side of a moment of the past: a projection's own code, told the log up to there, in tables of
//! their own. For a question over HTTP they are temporary; for analysts they are a schema, which is there
//! whole or not at all.
//!
//! Nothing else looks at such a schema, and nothing here writes anywhere else. What is sealed in the log is
//! sealed in the tables.

mod fill;
mod schema;

use std::collections::BTreeMap;

use jangbu_projections::{
    Registered,
    analyst::{self, Refusal},
    builds::bulk,
};
use serde::Serialize;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

pub use self::{
    fill::{FillError, fill},
    schema::{NameError, SchemaName},
};
use crate::{
    as_of::{AsOf, Moment, ResolveError},
    clock::Surroundings,
    rebuild::copy::{Job, Without},
};

/// What to make, and for whom.
#[derive(Debug, Clone)]
pub struct Order {
    /// Name of the projection.
    pub projection: String,
    /// Of which moment.
    pub as_of: AsOf,
    /// Where.
    pub into: SchemaName,
    /// Roles that may read it.
    pub grant: Vec<String>,
    /// Whether an earlier replay there may go.
    pub replace: bool,
    /// As builds count them.
    pub partitions: i16,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Of which projection.
    pub projection: &'static str,
    /// Its code.
    pub code_version: i32,
    /// Where.
    pub schema: String,
    /// What the moment came to.
    pub as_of: Moment,
    /// Events that the projection wanted.
    pub events: u64,
    /// Rows of each table.
    pub rows: BTreeMap<String, i64>,
    /// Roles that may read it.
    pub granted: Vec<String>,
    /// Whether an earlier replay went.
    pub replaced: bool,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such projection.
    #[error("there is no projection {0}; there are {names}", names = names())]
    UnknownProjection(String),
    /// The moment comes to no position.
    #[error("--as-of: {0}")]
    Moment(#[from] ResolveError),
    /// SQL needs the word for itself.
    #[error("--into: {0} is a word of SQL; choose another name")]
    Keyword(String),
    /// There is no such role.
    #[error("--grant: the database has no role {0:?}")]
    UnknownRole(String),
    /// The schema holds something else.
    #[error("the schema {0} is there and was not made by `jangbu replay`; choose another name")]
    Foreign(String),
    /// The schema holds a replay.
    #[error("the schema {schema} holds {projection} as of position {position}; --replace makes it anew")]
    Exists {
        /// Which.
        schema: String,
        /// What it holds.
        projection: String,
        /// As of when.
        position: i64,
    },
    /// Somebody has built on the schema.
    #[error("the schema {schema} cannot be replaced, since something else is in it or rests on it: {reason}")]
    InUse {
        /// Which.
        schema: String,
        /// What PostgreSQL says.
        reason: String,
    },
    /// Another replay makes it at this moment.
    #[error("another replay is under way into the schema {0}")]
    UnderWay(String),
    /// It is one in SQL, and cannot be run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The tables could not be filled.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// The database did not answer, or does not let us make schemas.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl ReplayError {
    /// Whether an argument makes no sense, as opposed to something that failed.
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::UnknownProjection(_)
            | Self::UnknownRole(_)
            | Self::Keyword(_)
            | Self::Moment(ResolveError::BeyondHead { .. } | ResolveError::Future) => true,
            Self::Moment(_)
            | Self::Foreign(_)
            | Self::Exists { .. }
            | Self::InUse { .. }
            | Self::UnderWay(_)
            | Self::Refused(_)
            | Self::Fill(_)
            | Self::Database(_) => false,
        }
    }
}

fn names() -> String {
    let names: Vec<&str> = jangbu_projections::all()
        .iter()
        .map(|projection| projection.name)
        .collect();
    names.join(", ")
}

fn projection(name: &str) -> Result<&'static Registered, ReplayError> {
    jangbu_projections::all()
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| ReplayError::UnknownProjection(name.to_owned()))
}

/// What is needed to make tables.
#[derive(Clone)]
pub struct Workshop {
    /// Of at least two connections; more are used.
    pub db: PgPool,
    /// Clock and ids.
    pub surroundings: Surroundings,
    /// Cancelled, it stops and leaves nothing.
    pub stop: CancellationToken,
}

/// Makes the tables, fills them and lets the roles read them. They are made in a schema of another name and
/// get their own in the last transaction: who is stopped leaves nothing, and who reads the schema that is
/// replaced reads it to the end. `progress` is told how many positions are done, and how many there
/// are. `None` if it was stopped.
pub async fn replay(
    workshop: &Workshop,
    order: &Order,
    progress: impl FnMut(i64, i64),
) -> Result<Option<Replayed>, ReplayError> {
    let Workshop { db, surroundings, .. } = workshop;
    let projection = projection(&order.projection)?;
    let moment = order.as_of.resolve(db, surroundings.now()).await?;
    if let Some(in_sql) = projection.analyst() {
        analyst::check(db, in_sql).await?;
    }
    // Held as long as its connection.
    let mut guard = PgConnection::connect_with(&db.connect_options()).await?;
    schema::require_no_keyword(&mut guard, &order.into).await?;
    schema::lock(&mut guard, &order.into).await?;
    for role in &order.grant {
        schema::require_role(&mut guard, role).await?;
    }
    let earlier = schema::earlier(&mut guard, &order.into).await?;
    if let Some(earlier) = &earlier
        && !order.replace
    {
        return Err(ReplayError::Exists {
            schema: order.into.to_string(),
            projection: earlier.projection.clone(),
            position: earlier.position,
        });
    }
    let building = order.into.scratch();
    // What one that was killed has left.
    schema::discard(&mut guard, &building).await?;
    let made = make(workshop, order, projection, moment, earlier.as_ref(), progress).await;
    if !matches!(made, Ok(Some(_)))
        && let Err(error) = schema::discard(&mut guard, &building).await
    {
        tracing::warn!(%error, schema = building.as_str(), "what was begun is left; the next replay drops it");
    }
    guard.close().await?;
    made
}

async fn make(
    workshop: &Workshop,
    order: &Order,
    projection: &'static Registered,
    moment: Moment,
    earlier: Option<&schema::Earlier>,
    progress: impl FnMut(i64, i64),
) -> Result<Option<Replayed>, ReplayError> {
    let Workshop { db, surroundings, stop } = workshop;
    let building = order.into.scratch();
    let mut tx = db.begin().await?;
    schema::create(&mut tx, &building).await?;
    let indexes = bulk::create_bare_tables(&mut tx, projection, building.as_str()).await?;
    tx.commit().await?;
    let job = Job {
        projection,
        schema: building.to_string(),
        partitions: order.partitions,
        from: vec![0; usize::from(order.partitions.unsigned_abs())],
        up_to: vec![moment.position; usize::from(order.partitions.unsigned_abs())],
        build: None,
        without: Without::default(),
        events_per_second_max: None,
    };
    let events = tokio::select! {
        told = fill::tell(workshop, job, progress) => told?,
        () = stop.cancelled() => return Ok(None),
    };
    let mut tx = db.begin().await?;
    for index in indexes {
        tx.execute(index.as_str()).await?;
    }
    let rows = schema::finish(
        &mut tx,
        &building,
        projection,
        order.partitions,
        moment,
        surroundings.now(),
    )
    .await?;
    if let Some(earlier) = earlier {
        schema::drop(&mut tx, &order.into, earlier).await?;
    }
    schema::rename(&mut tx, &building, &order.into).await?;
    for role in &order.grant {
        schema::grant(&mut tx, &order.into, role).await?;
    }
    tx.commit().await?;
    Ok(Some(Replayed {
        projection: projection.name,
        code_version: projection.code_version,
        schema: order.into.to_string(),
        as_of: moment,
        events,
        rows,
        granted: order.grant.clone(),
        replaced: earlier.is_some(),
    }))
}
