//! Reading the log: whole, by slots, and one stream.

use std::ops::RangeInclusive;

use jangbu_events::{AggregateId, Metadata, RawEvent, Recorded, Slot, StoreId, Timestamp, envelope::Stored};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

/// A row as sqlx reads it.
struct Row {
    position: i64,
    slot: i16,
    store_id: Uuid,
    event_id: Uuid,
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    event_version: String,
    payload: String,
    metadata: String,
    command_id: Uuid,
    causation_id: Option<Uuid>,
    correlation_id: Option<Uuid>,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
}

impl TryFrom<Row> for RawEvent {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let metadata: Metadata =
            serde_json::from_str(&row.metadata).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let slot = Slot::from_column(row.slot)
            .ok_or_else(|| sqlx::Error::Decode(format!("slot {} is out of range", row.slot).into()))?;
        Ok(Recorded {
            position: row.position,
            slot,
            store_id: StoreId::from_uuid(row.store_id),
            event_id: row.event_id,
            aggregate_type: row.aggregate_type,
            aggregate_id: row.aggregate_id,
            sequence: row.sequence,
            command_id: row.command_id,
            causation_id: row.causation_id,
            correlation_id: row.correlation_id,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            metadata,
            payload: Stored {
                event_type: row.event_type,
                event_version: row.event_version,
                payload: row.payload,
            },
        })
    }
}

fn events(rows: Vec<Row>) -> sqlx::Result<Vec<RawEvent>> {
    rows.into_iter().map(RawEvent::try_from).collect()
}

/// Up to `limit` events after a position, in position order.
pub async fn read(db: &PgPool, after: i64, limit: i64) -> sqlx::Result<Vec<RawEvent>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, slot, store_id, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload::text as "payload!", metadata::text as "metadata!", command_id, causation_id, correlation_id,
            occurred_at, recorded_at
        from events
        where position > $1
        order by position
        limit $2"#,
        after,
        limit,
    )
    .fetch_all(db)
    .await?;
    events(rows)
}

/// Up to `limit` events of a range of slots in `(after, through]`, in position order.
pub async fn read_slots(
    db: impl PgExecutor<'_>,
    after: i64,
    through: i64,
    slots: RangeInclusive<i16>,
    limit: i64,
) -> sqlx::Result<Vec<RawEvent>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, slot, store_id, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload::text as "payload!", metadata::text as "metadata!", command_id, causation_id, correlation_id,
            occurred_at, recorded_at
        from events
        where position > $1 and position <= $2 and slot between $3 and $4
        order by position
        limit $5"#,
        after,
        through,
        *slots.start(),
        *slots.end(),
        limit,
    )
    .fetch_all(db)
    .await?;
    events(rows)
}

/// Events of one stream in `(after, through]`, in sequence order.
pub async fn stream(
    db: impl PgExecutor<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
    after: i64,
    through: i64,
) -> sqlx::Result<Vec<RawEvent>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, slot, store_id, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload::text as "payload!", metadata::text as "metadata!", command_id, causation_id, correlation_id,
            occurred_at, recorded_at
        from events
        where aggregate_type = $1 and aggregate_id = $2 and sequence > $3 and sequence <= $4
        order by sequence"#,
        aggregate_type,
        aggregate_id,
        after,
        through,
    )
    .fetch_all(db)
    .await?;
    events(rows)
}

/// Events in `(after, through]` in position order, but those whose type and version (`order.placed 1`) are
/// among `passed_over`.
pub async fn read_but(
    db: impl PgExecutor<'_>,
    after: i64,
    through: i64,
    passed_over: &[String],
) -> sqlx::Result<Vec<RawEvent>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, slot, store_id, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload::text as "payload!", metadata::text as "metadata!", command_id, causation_id, correlation_id,
            occurred_at, recorded_at
        from events
        where position > $1 and position <= $2 and event_type || ' ' || event_version <> all ($3)
        order by position"#,
        after,
        through,
        passed_over,
    )
    .fetch_all(db)
    .await?;
    events(rows)
}

/// How many events there are in `(after, through]`: fewer than positions is damage.
pub async fn count(db: impl PgExecutor<'_>, after: i64, through: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from events where position > $1 and position <= $2"#,
        after,
        through
    )
    .fetch_one(db)
    .await
}

/// Newer events of several streams of one type at once: each after the sequence known of it.
pub async fn streams(db: &PgPool, aggregate_type: &str, known: &[(String, i64)]) -> sqlx::Result<Vec<RawEvent>> {
    let (ids, after): (Vec<&str>, Vec<i64>) = known.iter().map(|(id, after)| (id.as_str(), *after)).unzip();
    let rows = sqlx::query_as!(
        Row,
        r#"select e.position, e.slot, e.store_id, e.event_id, e.aggregate_type, e.aggregate_id, e.sequence,
            e.event_type, e.event_version, e.payload::text as "payload!", e.metadata::text as "metadata!",
            e.command_id, e.causation_id, e.correlation_id, e.occurred_at, e.recorded_at
        from unnest($2::text[], $3::bigint[]) as t (aggregate_id, after)
        cross join lateral (
            select *
            from events
            where aggregate_type = $1 and aggregate_id = t.aggregate_id and sequence > t.after
            order by sequence
        ) as e
        order by e.aggregate_id, e.sequence"#,
        aggregate_type,
        ids as _,
        &after,
    )
    .fetch_all(db)
    .await?;
    events(rows)
}

/// Up to `limit` events of some types in `(after, through]`, in position order.
pub async fn read_types(
    db: &PgPool,
    after: i64,
    through: i64,
    types: &[&str],
    limit: i64,
) -> sqlx::Result<Vec<RawEvent>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select position, slot, store_id, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
            payload::text as "payload!", metadata::text as "metadata!", command_id, causation_id, correlation_id,
            occurred_at, recorded_at
        from events
        where position > $1 and position <= $2 and event_type = any($3)
        order by position
        limit $4"#,
        after,
        through,
        types as _,
        limit,
    )
    .fetch_all(db)
    .await?;
    events(rows)
}
