//! The tables of endpoints, for admins. (What the runner keeps in them is `super::keeping`'s.)
//!
//! Every change raises `revision`, so that the runner begins anew from what is here.

use jangbu_events::Timestamp;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{Attempt, Delivery, Endpoint, EndpointId, NewEndpoint, Rotation, keeping::AttemptRow};
use crate::{as_of::exactly, feed::pages::Types};

struct EndpointRow {
    endpoint_id: Uuid,
    url: String,
    event_types: Vec<String>,
    enabled: bool,
    gone_at: Option<Timestamp>,
    position: i64,
    former_until: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    retrying: i64,
    parked: i64,
}

impl EndpointRow {
    fn told(self, now: Timestamp) -> Endpoint {
        Endpoint {
            id: EndpointId(self.endpoint_id).to_string(),
            url: self.url,
            event_types: self.event_types,
            status: match (self.enabled, self.gone_at) {
                (true, _) => "enabled",
                (false, None) => "disabled",
                (false, Some(_)) => "gone",
            },
            position: self.position,
            retrying: self.retrying,
            parked: self.parked,
            former_secret_until: self.former_until.filter(|until| *until > now).map(exactly),
            created_at: exactly(self.created_at),
            updated_at: exactly(self.updated_at),
        }
    }
}

/// Every endpoint, or one, the oldest first; at most `limit`.
pub async fn list(db: &PgPool, id: Option<EndpointId>, limit: i64, now: Timestamp) -> sqlx::Result<Vec<Endpoint>> {
    let rows = sqlx::query_as!(
        EndpointRow,
        r#"select e.endpoint_id, e.url, e.event_types, e.enabled, e.gone_at, e.position, e.former_until, e.created_at,
            e.updated_at,
            (select count(*) from webhook_held h where h.endpoint_id = e.endpoint_id and not h.parked) as "retrying!",
            (select count(*) from webhook_held h where h.endpoint_id = e.endpoint_id and h.parked) as "parked!"
        from webhook_endpoints e
        where $1::uuid is null or e.endpoint_id = $1
        order by e.created_at, e.endpoint_id
        limit $2"#,
        id.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.told(now)).collect())
}

/// How many there are.
pub async fn count(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from webhook_endpoints"#)
        .fetch_one(db)
        .await
}

/// Puts a new endpoint down; `false` if it is there.
pub async fn insert(
    db: &PgPool,
    id: EndpointId,
    new: &NewEndpoint,
    secret: &[u8],
    position: i64,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let inserted = sqlx::query!(
        "insert into webhook_endpoints
            (endpoint_id, url, event_types, enabled, secret, secret_of, request_hash, position, created_at, updated_at)
        values ($1, $2, $3, true, $4, $5, $6, $7, $8, $8)
        on conflict (endpoint_id) do nothing",
        id.0,
        new.url,
        &new.event_types,
        secret,
        new.request,
        new.request_hash.as_slice(),
        position,
        now,
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// The sealed secret, and which request made it.
#[derive(Debug)]
pub struct SecretRow {
    /// Sealed.
    pub secret: Vec<u8>,
    /// The request that made it.
    pub secret_of: Uuid,
    /// Of the request that made the endpoint.
    pub request_hash: Vec<u8>,
}

/// Of an endpoint, if it is there.
pub async fn secret(db: &PgPool, id: EndpointId) -> sqlx::Result<Option<SecretRow>> {
    sqlx::query_as!(
        SecretRow,
        "select secret, secret_of, request_hash from webhook_endpoints where endpoint_id = $1",
        id.0
    )
    .fetch_optional(db)
    .await
}

/// How the replacing of a secret ended.
#[derive(Debug)]
pub enum Replaced {
    /// There is a new one.
    Done,
    /// This request had replaced it before.
    Before {
        /// Sealed; `None` if another request replaced it since.
        secret: Option<Vec<u8>>,
    },
    /// The request had another body then.
    OtherRequest,
    /// There is no such endpoint.
    NotFound,
}

/// Puts a new secret in the place of the present one, once for each request.
pub async fn replace_secret(
    db: &PgPool,
    id: EndpointId,
    secret: &[u8],
    rotation: &Rotation,
    now: Timestamp,
) -> sqlx::Result<Replaced> {
    let mut tx = db.begin().await?;
    // Locked first: of two repeats at once the second sees what the first has made.
    let known = sqlx::query!(
        "select secret, secret_of from webhook_endpoints where endpoint_id = $1 for update",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(known) = known else {
        return Ok(Replaced::NotFound);
    };
    let before = sqlx::query_scalar!(
        "select request_hash from webhook_rotations where endpoint_id = $1 and request = $2",
        id.0,
        rotation.request,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let is_latest = known.secret_of == rotation.request;
    // What was rotated before there was a table of rotations is known by its secret alone.
    if before.is_some() || is_latest {
        if before.is_some_and(|hash| hash != rotation.request_hash) {
            return Ok(Replaced::OtherRequest);
        }
        let secret = is_latest.then_some(known.secret);
        return Ok(Replaced::Before { secret });
    }
    sqlx::query!(
        "insert into webhook_rotations (endpoint_id, request, request_hash) values ($1, $2, $3)",
        id.0,
        rotation.request,
        rotation.request_hash.as_slice(),
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "update webhook_endpoints
        set former_secret = secret, former_until = $4, secret = $2, secret_of = $3, revision = revision + 1, updated_at = $5
        where endpoint_id = $1",
        id.0,
        secret,
        rotation.request,
        rotation.former_until,
        now,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Replaced::Done)
}

/// What an admin changes; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Where we post.
    pub url: Option<String>,
    /// Only these.
    pub event_types: Option<Types>,
    /// Whether it is told anything.
    pub enabled: Option<bool>,
}

/// Changes an endpoint; `false` if there is none. What waits and is of no wanted type any more counts as
/// taken; enabled again, what waits is tried as if it had failed for the first time.
pub async fn change(db: &PgPool, id: EndpointId, change: &Change, now: Timestamp) -> sqlx::Result<bool> {
    let mut tx = db.begin().await?;
    // Locked first, as whoever keeps something of it does.
    let known = sqlx::query!(
        "select enabled from webhook_endpoints where endpoint_id = $1 for update",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(known) = known else { return Ok(false) };
    let names = change.event_types.as_ref().map(Types::names);
    sqlx::query!(
        "update webhook_endpoints
        set url = coalesce($2, url), event_types = coalesce($3, event_types), enabled = coalesce($4, enabled),
            gone_at = case when $4 is null then gone_at end, revision = revision + 1, updated_at = $5
        where endpoint_id = $1",
        id.0,
        change.url.as_deref(),
        names as _,
        change.enabled,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if let Some(types) = change.event_types.as_ref().filter(|types| !types.is_all()) {
        pass_over(&mut tx, id, types, now).await?;
    }
    if change.enabled == Some(true) && !known.enabled {
        // The time that it was disabled is no time in which it refused anything.
        sqlx::query!(
            "update webhook_held set attempts = 0, since = $2, next_at = $2 where endpoint_id = $1 and not parked",
            id.0,
            now,
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Takes what waits and is not of the types for taken: the aggregate waits before its next event that is,
/// or no more.
async fn pass_over(db: &mut PgConnection, id: EndpointId, types: &Types, now: Timestamp) -> sqlx::Result<()> {
    let stored = types.stored();
    // Beyond the endpoint's position everything is read anew in any case.
    sqlx::query!(
        "with unwanted as (
            select h.aggregate_type, h.aggregate_id, (
                select n.position from events n
                where n.aggregate_type = h.aggregate_type and n.aggregate_id = h.aggregate_id
                    and n.position > h.position and n.position <= w.position and n.event_type = any($2)
                order by n.sequence
                limit 1
            ) as next
            from webhook_held h
            join webhook_endpoints w using (endpoint_id)
            join events e on e.position = h.position
            where endpoint_id = $1 and e.event_type <> all($2)
        ), released as (
            delete from webhook_held h using unwanted u
            where h.endpoint_id = $1 and h.aggregate_type = u.aggregate_type and h.aggregate_id = u.aggregate_id
                and u.next is null
        )
        update webhook_held h
        set position = u.next, attempts = 0, since = $3, next_at = $3, parked = false, error = ''
        from unwanted u
        where h.endpoint_id = $1 and h.aggregate_type = u.aggregate_type and h.aggregate_id = u.aggregate_id
            and u.next is not null",
        id.0,
        stored as _,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes an endpoint and whatever waits for it; `false` if there is none.
pub async fn delete(db: &PgPool, id: EndpointId) -> sqlx::Result<bool> {
    let deleted = sqlx::query!("delete from webhook_endpoints where endpoint_id = $1", id.0)
        .execute(db)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

/// How a rewind ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewound {
    /// Everything after the position is told again, or what is between is left out.
    Done,
    /// There is no such endpoint.
    NotFound,
    /// Beyond the end of the log.
    BeyondHead {
        /// The last position there is.
        head: i64,
    },
}

/// Sets an endpoint to any position: everything after it is told, again or not. What waits from an
/// earlier position on still does.
pub async fn rewind(db: &PgPool, id: EndpointId, to: i64, now: Timestamp) -> sqlx::Result<Rewound> {
    let head = crate::feed::head(db).await?;
    if to > head {
        return Ok(Rewound::BeyondHead { head });
    }
    let mut tx = db.begin().await?;
    let moved = sqlx::query!(
        "update webhook_endpoints set position = $2, revision = revision + 1, updated_at = $3 where endpoint_id = $1",
        id.0,
        to,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(Rewound::NotFound);
    }
    sqlx::query!(
        "delete from webhook_held where endpoint_id = $1 and position > $2",
        id.0,
        to
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Rewound::Done)
}

/// Has what is parked tried again, from the first attempt on: of one aggregate, or of all. `None`: there is
/// no such endpoint; otherwise how many aggregates.
pub async fn retry(
    db: &PgPool,
    id: EndpointId,
    aggregate_id: Option<&str>,
    now: Timestamp,
) -> sqlx::Result<Option<u64>> {
    let mut tx = db.begin().await?;
    // Locked first, as whoever keeps something of it does.
    let known = sqlx::query!(
        "select revision from webhook_endpoints where endpoint_id = $1 for update",
        id.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    if known.is_none() {
        return Ok(None);
    }
    let retried = sqlx::query!(
        "update webhook_held set parked = false, attempts = 0, since = $3, next_at = $3
        where endpoint_id = $1 and parked and ($2::text is null or aggregate_id = $2)",
        id.0,
        aggregate_id,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if retried.rows_affected() > 0 {
        sqlx::query!(
            "update webhook_endpoints set revision = revision + 1, updated_at = $2 where endpoint_id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(Some(retried.rows_affected()))
}

/// What an endpoint did not take, the oldest first; only what is parked, only the rest, or both.
pub async fn deliveries(db: &PgPool, id: EndpointId, parked: Option<bool>, limit: i64) -> sqlx::Result<Vec<Delivery>> {
    let rows = sqlx::query!(
        "select aggregate_type, aggregate_id, position, attempts, since, next_at, parked, error
        from webhook_held
        where endpoint_id = $1 and ($2::boolean is null or parked = $2)
        order by position
        limit $3",
        id.0,
        parked,
        limit,
    )
    .fetch_all(db)
    .await?;
    let told = rows.into_iter().map(|row| Delivery {
        status: if row.parked { "parked" } else { "retrying" },
        aggregate_type: row.aggregate_type,
        aggregate_id: row.aggregate_id,
        position: row.position,
        attempts: row.attempts,
        since: exactly(row.since),
        next_at: (!row.parked).then(|| exactly(row.next_at)),
        error: row.error,
    });
    Ok(told.collect())
}

/// The latest attempts of an endpoint, the newest first.
pub async fn attempts(db: &PgPool, id: EndpointId, limit: i64) -> sqlx::Result<Vec<Attempt>> {
    let rows = sqlx::query_as!(
        AttemptRow,
        "select position, event_id, event_type, tried_at, milliseconds, status, error
        from webhook_attempts
        where endpoint_id = $1
        order by attempt desc
        limit $2",
        id.0,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Attempt::of).collect())
}
