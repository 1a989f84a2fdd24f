//! What the log keeps around every event.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AggregateId, Slot, StoreId, ids::IdError};

/// A moment, kept in UTC; shown in Korean time (`+09:00`) at the edge.
pub type Timestamp = DateTime<Utc>;

/// Who caused an event, from where. A flat map of texts, so that any reader of the table, cqrs-es
/// among them, can decode it; absent keys are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `guest`, `member`, `admin`, `system`, `portone` …
    pub actor_kind: String,
    /// The actor's id, or what stands for it; never personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<String>,
    /// `http`, `webhook`, `process`, `timer`, `import`, `cli`.
    pub channel: String,
    /// Of the HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Keyed hash of the peer's address, 16 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_hash: Option<String>,
}

/// One row of the log with its payload `E` decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<E> {
    /// Place in the whole log: dense from 1, in commit order.
    pub position: i64,
    /// Partition of the log.
    pub slot: Slot,
    /// Whose log.
    pub store_id: StoreId,
    /// `UUIDv5` of (command, index): the same command always makes the same event ids.
    pub event_id: Uuid,
    /// `cart`, `customer`, `order`, `payment`, `product`, `stock_item`.
    pub aggregate_type: String,
    /// The stream's id in its text form (`ord_…`).
    pub aggregate_id: String,
    /// Place in the stream: dense from 1.
    pub sequence: i64,
    /// The command that made it.
    pub command_id: Uuid,
    /// The event or request that made that command, if any.
    pub causation_id: Option<Uuid>,
    /// What the whole business transaction goes by, if known.
    pub correlation_id: Option<Uuid>,
    /// Business time: an imported order of 2017 occurred in 2017.
    pub occurred_at: Timestamp,
    /// When the log learnt it; never runs backwards along positions.
    pub recorded_at: Timestamp,
    /// Who caused it.
    pub metadata: Metadata,
    /// What happened.
    pub payload: E,
}

impl<E> Recorded<E> {
    /// The stream's id, typed.
    pub fn id<I: AggregateId>(&self) -> Result<I, IdError> {
        self.aggregate_id.parse()
    }

    /// The same envelope around something else.
    pub fn with<F>(self, payload: F) -> Recorded<F> {
        Recorded {
            position: self.position,
            slot: self.slot,
            store_id: self.store_id,
            event_id: self.event_id,
            aggregate_type: self.aggregate_type,
            aggregate_id: self.aggregate_id,
            sequence: self.sequence,
            command_id: self.command_id,
            causation_id: self.causation_id,
            correlation_id: self.correlation_id,
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            metadata: self.metadata,
            payload,
        }
    }
}

/// A payload as the log keeps it, not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// `order.placed`.
    pub event_type: String,
    /// `1`.
    pub event_version: String,
    /// JSON text, byte for byte.
    pub payload: String,
}

/// One row of the log, not decoded yet.
pub type RawEvent = Recorded<Stored>;
