//! A projection's tables made once more, for one question about the past: they are gone with the transaction.

use std::collections::BTreeMap;

use jangbu_events::{RawEvent, event::CURRENT_VERSIONS};
use sqlx::{Executor, PgConnection};

use super::{AdvanceError, step::understood};
use crate::Registered;

/// Tables of a projection that nobody feeds but the caller, in one transaction.
#[derive(Clone, Copy)]
pub struct Replay {
    projection: &'static Registered,
    partitions: i16,
}

impl Replay {
    /// As builds have it that are fed in so many partitions.
    pub const fn new(projection: &'static Registered, partitions: i16) -> Self {
        Self { projection, partitions }
    }

    /// Makes the tables, empty, in a schema that is there (`pg_temp` makes them temporary), and has
    /// unqualified names mean them until the transaction ends.
    pub async fn create(&self, db: &mut PgConnection, schema_name: &str) -> sqlx::Result<()> {
        let quoted = format!("\"{}\"", schema_name.replace('"', "\"\""));
        sqlx::query_scalar!(
            "select set_config('search_path', $1, true)",
            format!("{quoted}, public")
        )
        .fetch_one(&mut *db)
        .await?;
        db.execute(self.projection.schema).await?;
        Ok(())
    }

    /// Types and versions (`order.placed 1`) that it passes over. Those that this version of the program does
    /// not know are not among them: they must be shown to it, and stop it.
    pub fn passed_over(&self) -> Vec<String> {
        let wanted = self.projection.event_types;
        CURRENT_VERSIONS
            .iter()
            .filter(|(event_type, _)| !wanted.contains(event_type))
            .map(|(event_type, event_version)| format!("{event_type} {event_version}"))
            .collect()
    }

    /// Applies the next events of the log, of all partitions and in position order.
    pub async fn apply(&self, db: &mut PgConnection, events: &[RawEvent]) -> Result<(), AdvanceError> {
        let mut batches: BTreeMap<i16, Vec<_>> = BTreeMap::new();
        for event in events {
            let partition = event.slot.partition(self.partitions.unsigned_abs());
            let partition = i16::try_from(partition).expect("there are at most 256 partitions");
            batches
                .entry(partition)
                .or_default()
                .extend(understood(self.projection, event)?);
        }
        for (partition, batch) in batches {
            if !batch.is_empty() {
                self.projection.apply(db, partition, &batch).await?;
            }
        }
        Ok(())
    }
}
