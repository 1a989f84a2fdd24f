//! Aggregates that a projection cannot take: told to whoever watches, listed, and told again.

use jangbu_events::Timestamp;
use jangbu_projections::{
    Registered,
    builds::{
        AdvanceError,
        parking::{self, ParkedAggregate, Retried, Retry},
    },
};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::{
    clock::{Surroundings, korean_time},
    log::reading,
};

/// The most that is told again by one call.
pub const RETRY_MAX: i64 = 100;
/// Events that are told again at once.
const CHUNK: i64 = 500;
/// Chunks that are told while the partition waits, before it may go on in between.
const CHUNKS_HELD: usize = 4;

/// Counts what is parked in a partition, and says what has just come to it.
pub fn report(projection: &str, partition: i16, parked: i32, newly: &[ParkedAggregate]) {
    let labels = [
        ("projection", projection.to_owned()),
        ("partition", partition.to_string()),
    ];
    metrics::gauge!("jangbu_parked_aggregates", &labels).set(parked);
    for one in newly {
        metrics::counter!("jangbu_parked_total", &labels).increment(1);
        tracing::error!(
            projection,
            aggregate = one.aggregate_id,
            position = one.position,
            error = one.error,
            "this aggregate is parked, everything else goes on; `jangbu parked list` has it"
        );
    }
}

/// A parked aggregate, as JSON tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ParkedEntry {
    /// `order_history`.
    pub projection: String,
    /// Which build of it, `v1_b1`.
    pub build: String,
    /// `order`.
    pub aggregate_type: String,
    /// `ord_…`.
    pub aggregate_id: String,
    /// The first event that is missing from the tables.
    pub position: i64,
    /// What is wrong with it, without personal data.
    pub error: String,
    /// How often it was tried.
    pub attempts: i32,
    /// Since when, in Korean time.
    pub parked_at: String,
    /// When last, in Korean time.
    pub tried_at: String,
}

impl From<ParkedAggregate> for ParkedEntry {
    fn from(parked: ParkedAggregate) -> Self {
        let time = |at: Timestamp| korean_time(at).to_rfc3339_opts(chrono::SecondsFormat::Millis, false);
        Self {
            projection: parked.projection,
            build: format!("v{}_b{}", parked.code_version, parked.build),
            aggregate_type: parked.aggregate_type,
            aggregate_id: parked.aggregate_id,
            position: parked.position,
            error: parked.error,
            attempts: parked.attempts,
            parked_at: time(parked.parked_at),
            tried_at: time(parked.tried_at),
        }
    }
}

/// Which of the parked aggregates; what is `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this projection.
    pub projection: Option<String>,
    /// With this id.
    pub aggregate_id: Option<String>,
}

/// How a retry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParkedOutcome {
    /// It is in the tables, up to date.
    Applied,
    /// It cannot be applied yet.
    Parked,
    /// It is of a build that this program does not feed; the program that does must try.
    OtherVersion,
    /// Somebody else was faster, or the build is gone.
    NotParked,
}

/// What a retry did with one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ParkedAttempt {
    /// How it ended.
    pub outcome: ParkedOutcome,
    /// As it is parked now, or was.
    #[serde(flatten)]
    pub entry: ParkedEntry,
}

/// What is parked; at most `limit`, those first that were tried the longest ago.
pub async fn list(db: &PgPool, which: &Which, limit: i64) -> sqlx::Result<Vec<ParkedEntry>> {
    let parked = parking::parked(
        db,
        which.projection.as_deref(),
        which.aggregate_id.as_deref(),
        None,
        limit,
    )
    .await?;
    Ok(parked.into_iter().map(ParkedEntry::from).collect())
}

/// Tells parked aggregates again, one after the other, at most [`RETRY_MAX`] of them: those that were
/// tried the longest ago. Doing it again changes nothing that is well. Stops at a failure of the
/// database; what was told before it stays told.
pub async fn retry(
    db: &PgPool,
    projections: impl IntoIterator<Item = &'static Registered>,
    which: &Which,
    surroundings: &Surroundings,
) -> Result<Vec<ParkedAttempt>, AdvanceError> {
    let (projection, aggregate_id) = (which.projection.as_deref(), which.aggregate_id.as_deref());
    let projections: Vec<_> = projections.into_iter().collect();
    // Of many, what only another version of the program can tell again would always be the first. Who asks
    // for one aggregate hears of it.
    let ours: Vec<_> = projections
        .iter()
        .map(|ours| (ours.name.to_owned(), ours.code_version))
        .collect();
    let versions = aggregate_id.is_none().then_some(ours.as_slice());
    let mut attempts = Vec::new();
    for parked in parking::parked(db, projection, aggregate_id, versions, RETRY_MAX).await? {
        let (outcome, now) = match retry_one(db, &projections, &parked, surroundings).await {
            // One stream that this program cannot read must not keep the others waiting.
            Err(error @ AdvanceError::Undecodable { .. }) => {
                let noted = parking::note_attempt(db, &parked, &error.reason(), surroundings.now()).await?;
                (ParkedOutcome::Parked, noted)
            }
            ended => ended?,
        };
        let entry = now.unwrap_or(parked).into();
        attempts.push(ParkedAttempt { outcome, entry });
    }
    Ok(attempts)
}

async fn retry_one(
    db: &PgPool,
    projections: &[&'static Registered],
    parked: &ParkedAggregate,
    surroundings: &Surroundings,
) -> Result<(ParkedOutcome, Option<ParkedAggregate>), AdvanceError> {
    let ours = projections
        .iter()
        .find(|ours| ours.name == parked.projection && ours.code_version == parked.code_version);
    let Some(projection) = ours else {
        return Ok((ParkedOutcome::OtherVersion, None));
    };
    let (aggregate_type, aggregate_id) = (&parked.aggregate_type, &parked.aggregate_id);
    let told = loop {
        let retry = parking::begin_retry(db, projection, parked.build, aggregate_type, aggregate_id).await?;
        let Some(retry) = retry else {
            return Ok((ParkedOutcome::NotParked, None));
        };
        if let Some(told) = tell_some(retry, surroundings).await? {
            break told;
        }
    };
    Ok(match told.finish(surroundings.now()).await? {
        Retried::Applied { left } => {
            report(&parked.projection, parked.partition, left, &[]);
            tracing::info!(
                projection = parked.projection,
                aggregate = aggregate_id,
                "is parked no more"
            );
            (ParkedOutcome::Applied, None)
        }
        Retried::Parked(still) => (ParkedOutcome::Parked, Some(still)),
    })
}

/// Tells an aggregate what it missed, up to [`CHUNKS_HELD`] chunks; `None` if there is more, and the retry was put down
/// so that its partition can go on.
async fn tell_some(mut retry: Retry, surroundings: &Surroundings) -> Result<Option<Retry>, AdvanceError> {
    let (aggregate_type, aggregate_id) = {
        let parked = retry.parked();
        (parked.aggregate_type.clone(), parked.aggregate_id.clone())
    };
    let through = retry.through();
    let mut after = retry.parked().sequence - 1;
    for chunk in 0.. {
        let stream = reading::stream(retry.log().await?, &aggregate_type, &aggregate_id, after, after + CHUNK);
        let mut events = stream.await?;
        let read = events.len();
        // What the checkpoint has not reached, a worker will tell.
        events.retain(|event| event.position <= through);
        if chunk == CHUNKS_HELD
            && let Some(next) = events.first()
        {
            let (position, sequence) = (next.position, next.sequence);
            retry.put_down(position, sequence).await?;
            return Ok(None);
        }
        let go_on = retry.tell(&events, surroundings.now()).await?;
        if !go_on || events.len() < read || i64::try_from(read).is_ok_and(|read| read < CHUNK) {
            break;
        }
        after += CHUNK;
    }
    Ok(Some(retry))
}
