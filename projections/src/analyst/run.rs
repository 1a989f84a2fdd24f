//! Telling a projection in SQL events: as JSON, many at once, to the function that its schema has.

use std::time::Duration;

use chrono::SecondsFormat;
use jangbu_events::{Event, Recorded, Timestamp};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::Analyst;

/// How long a projection may take over one call, of at most `AT_ONCE` events.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// So few that the patience is for a slow file and not for a long batch.
const AT_ONCE: usize = 64;

/// An event as statements see it; see `shape::ENVELOPE`.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    position: i64,
    partition: i16,
    sequence: i64,
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    event_id: Uuid,
    event_type: &'static str,
    occurred_at: String,
    recorded_at: String,
    payload: &'a Event,
}

impl<'a> Told<'a> {
    pub fn of(partition: i16, event: &'a Recorded<Event>) -> Self {
        Self {
            position: event.position,
            partition,
            sequence: event.sequence,
            aggregate_type: &event.aggregate_type,
            aggregate_id: &event.aggregate_id,
            event_id: event.event_id,
            event_type: event.payload.name(),
            occurred_at: moment(event.occurred_at),
            recorded_at: moment(event.recorded_at),
            payload: &event.payload,
        }
    }
}

/// As exactly as PostgreSQL keeps it.
fn moment(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Analyst {
    /// Tells events of one partition, in order, in the caller's transaction; the search path leads to
    /// the schema.
    pub(crate) async fn tell(
        &self,
        db: &mut PgConnection,
        partition: i16,
        batch: &[Recorded<Event>],
    ) -> sqlx::Result<()> {
        // For what is left of the transaction, which is little; the caller's statements are short.
        sqlx::query("select set_config('statement_timeout', $1, true)")
            .bind(self.patience.as_millis().to_string())
            .execute(&mut *db)
            .await?;
        for some in batch.chunks(AT_ONCE) {
            let told: Vec<Told<'_>> = some.iter().map(|event| Told::of(partition, event)).collect();
            sqlx::query("select jangbu_apply($1, $2)")
                .bind(partition)
                .bind(Json(told))
                .execute(&mut *db)
                .await?;
        }
        Ok(())
    }
}
