//! What the runner keeps in the tables of endpoints.
//!
//! It writes only under the revision and the epoch that it began with, so neither a late process nor a
//! late answer undoes what somebody decided.

use jangbu_events::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::core::{Held, Lane, Snapshot};

/// Attempts of an endpoint that are kept.
const ATTEMPTS_KEPT: i64 = 200;

/// One request that was made.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub(super) position: i64,
    pub(super) event_id: Uuid,
    pub(super) event_type: String,
    pub(super) tried_at: Timestamp,
    pub(super) milliseconds: i32,
    pub(super) status: Option<i16>,
    pub(super) error: Option<String>,
}

/// Endpoints that are to be served, and their revisions.
pub async fn revisions(db: &PgPool) -> sqlx::Result<Vec<(Uuid, i64)>> {
    let rows = sqlx::query!("select endpoint_id, revision from webhook_endpoints where enabled")
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.endpoint_id, row.revision)).collect())
}

/// What the runner begins with.
#[derive(Debug)]
pub struct Claimed {
    pub(super) url: String,
    pub(super) event_types: Vec<String>,
    pub(super) secret: Vec<u8>,
    pub(super) former_secret: Option<Vec<u8>>,
    pub(super) former_until: Option<Timestamp>,
    pub(super) position: i64,
    pub(super) revision: i64,
}

/// Takes an endpoint over under an epoch, with what waits of it; `None` if it is gone, disabled, or served
/// under a newer epoch.
pub async fn claim(db: &PgPool, id: Uuid, epoch: i64) -> sqlx::Result<Option<(Claimed, Vec<(Lane, Held)>)>> {
    let mut tx = db.begin().await?;
    let claimed = sqlx::query_as!(
        Claimed,
        "update webhook_endpoints set epoch = $2
        where endpoint_id = $1 and epoch <= $2 and enabled
        returning url, event_types, secret, former_secret, former_until, position, revision",
        id,
        epoch,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(claimed) = claimed else { return Ok(None) };
    let rows = sqlx::query!(
        "select aggregate_type, aggregate_id, position, attempts, since, next_at, parked, error
        from webhook_held
        where endpoint_id = $1",
        id,
    )
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let held = rows.into_iter().map(|row| {
        let lane = Lane {
            aggregate_type: row.aggregate_type,
            aggregate_id: row.aggregate_id,
        };
        let held = Held {
            position: row.position,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            since: row.since,
            next_at: row.next_at,
            parked: row.parked,
            error: row.error,
        };
        (lane, held)
    });
    Ok(Some((claimed, held.collect())))
}

/// Under what the runner writes.
#[derive(Debug, Clone, Copy)]
pub struct Fence {
    /// Which endpoint.
    pub endpoint: Uuid,
    /// The lease's.
    pub epoch: i64,
    /// The endpoint's, as it was claimed.
    pub revision: i64,
}

/// Keeps a snapshot whole, and the attempts made since the last; `false` if somebody else has the
/// endpoint, or it was changed.
pub async fn save(
    db: &PgPool,
    fence: Fence,
    snapshot: Option<&Snapshot>,
    attempts: &[AttemptRow],
) -> sqlx::Result<bool> {
    let mut tx = db.begin().await?;
    let moved = sqlx::query!(
        "update webhook_endpoints set position = coalesce($4, position)
        where endpoint_id = $1 and epoch = $2 and revision = $3 and enabled",
        fence.endpoint,
        fence.epoch,
        fence.revision,
        snapshot.map(|snapshot| snapshot.cursor),
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(snapshot) = snapshot {
        release(&mut tx, fence.endpoint, snapshot).await?;
        hold(&mut tx, fence.endpoint, snapshot).await?;
    }
    record(&mut tx, fence.endpoint, attempts).await?;
    tx.commit().await?;
    Ok(true)
}

async fn release(db: &mut PgConnection, endpoint: Uuid, snapshot: &Snapshot) -> sqlx::Result<()> {
    let free = snapshot.lanes.iter().filter(|(_, held)| held.is_none());
    let (types, ids): (Vec<&str>, Vec<&str>) = free
        .map(|(lane, _)| (lane.aggregate_type.as_str(), lane.aggregate_id.as_str()))
        .unzip();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "delete from webhook_held
        using unnest($2::text[], $3::text[]) as t (aggregate_type, aggregate_id)
        where endpoint_id = $1 and webhook_held.aggregate_type = t.aggregate_type
            and webhook_held.aggregate_id = t.aggregate_id",
        endpoint,
        types as _,
        ids as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn hold(db: &mut PgConnection, endpoint: Uuid, snapshot: &Snapshot) -> sqlx::Result<()> {
    for (lane, held) in snapshot
        .lanes
        .iter()
        .filter_map(|(lane, held)| Some((lane, held.as_ref()?)))
    {
        sqlx::query!(
            "insert into webhook_held
                (endpoint_id, aggregate_type, aggregate_id, position, attempts, since, next_at, parked, error)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (endpoint_id, aggregate_type, aggregate_id) do update
            set position = excluded.position, attempts = excluded.attempts, since = excluded.since,
                next_at = excluded.next_at, parked = excluded.parked, error = excluded.error",
            endpoint,
            lane.aggregate_type,
            lane.aggregate_id,
            held.position,
            i32::try_from(held.attempts).unwrap_or(i32::MAX),
            held.since,
            held.next_at,
            held.parked,
            held.error,
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

async fn record(db: &mut PgConnection, endpoint: Uuid, attempts: &[AttemptRow]) -> sqlx::Result<()> {
    // Of many, the last are all that would be kept.
    let kept = usize::try_from(ATTEMPTS_KEPT).unwrap_or(0);
    for attempt in &attempts[attempts.len().saturating_sub(kept)..] {
        sqlx::query!(
            "insert into webhook_attempts
                (endpoint_id, position, event_id, event_type, tried_at, milliseconds, status, error)
            values ($1, $2, $3, $4, $5, $6, $7, $8)",
            endpoint,
            attempt.position,
            attempt.event_id,
            attempt.event_type,
            attempt.tried_at,
            attempt.milliseconds,
            attempt.status,
            attempt.error,
        )
        .execute(&mut *db)
        .await?;
    }
    if !attempts.is_empty() {
        sqlx::query!(
            "delete from webhook_attempts
            where endpoint_id = $1 and attempt <= (
                select attempt from webhook_attempts where endpoint_id = $1 order by attempt desc offset $2 limit 1
            )",
            endpoint,
            ATTEMPTS_KEPT,
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// The receiver wants nothing more: `false` if somebody else has the endpoint, or it was changed.
pub async fn disable(db: &PgPool, fence: Fence, now: Timestamp) -> sqlx::Result<bool> {
    let disabled = sqlx::query!(
        "update webhook_endpoints set enabled = false, gone_at = $4, revision = revision + 1
        where endpoint_id = $1 and epoch = $2 and revision = $3",
        fence.endpoint,
        fence.epoch,
        fence.revision,
        now,
    )
    .execute(db)
    .await?;
    Ok(disabled.rows_affected() > 0)
}

/// The first event of an aggregate in `(after, through]` that is of the types (none is all).
pub async fn next_of(db: &PgPool, lane: &Lane, after: i64, through: i64, types: &[&str]) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "select position from events
        where aggregate_type = $1 and aggregate_id = $2 and position > $3 and position <= $4
            and (cardinality($5::text[]) = 0 or event_type = any($5))
        order by sequence
        limit 1",
        lane.aggregate_type,
        lane.aggregate_id,
        after,
        through,
        types as _,
    )
    .fetch_optional(db)
    .await
}
