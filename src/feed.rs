//! Reading the log in order: what the relay, the projection workers and the process managers share.
//!
//! Positions are dense and in commit order, so "everything after n" needs no tricks, and a missing
//! event can be proven.

pub mod pages;
pub mod public;

use std::{ops::RangeInclusive, time::Duration};

use jangbu_events::{RawEvent, Slot};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use crate::clock::Surroundings;
pub use crate::log::reading::{read, read_slots};

/// What every role of the fan-out needs. Cannot be printed: the broker's address has a password.
#[derive(Clone)]
pub struct Context {
    /// The database that holds the log. Its pool is shared: nobody keeps a connection while idle.
    pub db: PgPool,
    /// Clock and ids.
    pub surroundings: Surroundings,
    /// Where RabbitMQ is; without it everyone reads the log.
    pub amqp_url: Option<String>,
    /// Partitions of the log, 1 to 256.
    pub partitions: i16,
    /// The highest committed position that this process knows of, if anything feeds it.
    pub head: Option<watch::Receiver<i64>>,
    /// Term of the leases, usually [`crate::leases::TTL`].
    pub lease_ttl: Duration,
}

/// Waits until a moment; at once if it has come. (A timer rounds up to whole milliseconds and waits
/// for the next turn of the driver even then.)
pub(crate) async fn until(moment: Instant) {
    if moment > Instant::now() {
        sleep_until(moment).await;
    }
}

/// Which log this is: part of every queue name and message, renewed after a restore.
pub async fn log_id(db: &PgPool) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!("select log_id from log_identity")
        .fetch_one(db)
        .await
}

/// The highest position; 0 while the log is empty.
pub async fn head(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select coalesce(max(position), 0) as "position!" from events"#)
        .fetch_one(db)
        .await
}

/// A checkpoint that the log has not reached.
#[derive(Debug, thiserror::Error)]
pub enum AheadOfLog {
    /// Whoever goes on from there would skip what the log gets next.
    #[error(
        "the checkpoint {checkpoint} is ahead of the log, which ends at {head}: after a restore, run `jangbu log fence`"
    )]
    Ahead {
        /// What is said to be done.
        checkpoint: i64,
        /// The last position there is.
        head: i64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Makes sure that a checkpoint is of this history of the log.
pub async fn check_not_ahead(db: &PgPool, checkpoint: i64) -> Result<(), AheadOfLog> {
    let head = head(db).await?;
    if checkpoint > head {
        Err(AheadOfLog::Ahead { checkpoint, head })
    } else {
        Ok(())
    }
}

/// The slots of a partition, out of `partitions` (1 to 256) nearly equal ranges: the inverse of
/// [`Slot::partition`].
pub fn slots(partition: i16, partitions: i16) -> RangeInclusive<i16> {
    let partitions = i32::from(partitions);
    let first_of = |p: i32| (p * i32::from(Slot::COUNT) + partitions - 1) / partitions;
    let column = |slot: i32| i16::try_from(slot).expect("slots are 0 to 256");
    column(first_of(i32::from(partition)))..=column(first_of(i32::from(partition) + 1) - 1)
}

/// The partition of an event, out of `partitions` (1 to 256).
pub fn partition(event: &RawEvent, partitions: i16) -> i16 {
    let partitions = u16::try_from(partitions).expect("there are 1 to 256 partitions");
    i16::try_from(event.slot.partition(partitions)).expect("partitions are below 256")
}

#[cfg(test)]
pub(crate) mod testing {
    use jangbu_events::{AggregateId as _, Metadata, Recorded, StoreId, envelope::Stored, samples};
    use rand::{Rng as _, rngs::StdRng};
    use uuid::Uuid;

    use super::*;

    /// An event with nothing remarkable about it.
    pub fn event(position: i64, slot: i16, payload: &str) -> RawEvent {
        Recorded {
            position,
            slot: Slot::from_column(slot).unwrap(),
            store_id: StoreId::from_uuid(Uuid::nil()),
            event_id: Uuid::from_u128(u128::try_from(position).unwrap()),
            aggregate_type: "cart".into(),
            aggregate_id: samples::cart_id().to_string(),
            sequence: position,
            command_id: Uuid::nil(),
            causation_id: None,
            correlation_id: None,
            occurred_at: samples::moment(),
            recorded_at: samples::moment(),
            metadata: Metadata::default(),
            payload: Stored {
                event_type: "cart.cleared".into(),
                event_version: "1".into(),
                payload: payload.into(),
            },
        }
    }

    /// A log of so many events, from position 1, in random slots.
    pub fn log(random: &mut StdRng, events: i64) -> Vec<RawEvent> {
        (1..=events)
            .map(|position| event(position, random.random_range(0..256), "{}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_of_a_partition_are_those_that_fall_into_it() {
        for partitions in 1..=256_i16 {
            for slot in 0..=255_i16 {
                let of = Slot::from_column(slot)
                    .unwrap()
                    .partition(u16::try_from(partitions).unwrap());
                for partition in 0..partitions {
                    let inside = slots(partition, partitions).contains(&slot);
                    assert_eq!(
                        inside,
                        i32::from(of) == i32::from(partition),
                        "{slot} of {partition}/{partitions}"
                    );
                }
            }
        }
    }
}
