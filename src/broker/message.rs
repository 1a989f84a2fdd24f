//! What travels through the broker: a stretch of one partition of the log.

use jangbu_events::{Metadata, RawEvent, Recorded, Slot, StoreId, Timestamp, envelope::Stored, ids::AggregateId as _};
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::value::RawValue;
use uuid::Uuid;

/// All events of one partition with `prev < position <= through`: without a hole, so a reader who
/// is at `prev` or beyond is at `through` after it, also when there are no events in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which log: another log's messages mean nothing here.
    pub log: Uuid,
    /// Which partition, counted from 0 …
    pub partition: i16,
    /// … out of how many. A reader that counts otherwise must not believe `through`.
    pub partitions: i16,
    /// Everything up to here was in earlier messages.
    pub prev: i64,
    /// Complete up to here.
    pub through: i64,
    /// In position order.
    pub events: Vec<RawEvent>,
}

#[derive(Serialize, Deserialize)]
struct WireMessage<'a> {
    log: Uuid,
    partition: i16,
    partitions: i16,
    prev: i64,
    through: i64,
    #[serde(borrow)]
    events: Vec<WireEvent<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireEvent<'a> {
    position: i64,
    slot: i16,
    store_id: Uuid,
    event_id: Uuid,
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    event_version: String,
    /// Byte for byte as the log keeps it.
    #[serde(borrow)]
    payload: &'a RawValue,
    metadata: Metadata,
    command_id: Uuid,
    causation_id: Option<Uuid>,
    correlation_id: Option<Uuid>,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
}

impl Message {
    /// As JSON. Fails only on an event whose payload is not JSON, which the log cannot hold.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let events = self
            .events
            .iter()
            .map(WireEvent::try_from)
            .collect::<serde_json::Result<_>>()?;
        serde_json::to_vec(&WireMessage {
            log: self.log,
            partition: self.partition,
            partitions: self.partitions,
            prev: self.prev,
            through: self.through,
            events,
        })
    }

    /// Reads what [`Message::to_json`] wrote.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        let wire: WireMessage = serde_json::from_slice(json)?;
        Ok(Self {
            log: wire.log,
            partition: wire.partition,
            partitions: wire.partitions,
            prev: wire.prev,
            through: wire.through,
            events: wire
                .events
                .into_iter()
                .map(RawEvent::try_from)
                .collect::<serde_json::Result<_>>()?,
        })
    }
}

impl<'a> TryFrom<&'a RawEvent> for WireEvent<'a> {
    type Error = serde_json::Error;

    fn try_from(event: &'a RawEvent) -> serde_json::Result<Self> {
        Ok(Self {
            position: event.position,
            slot: event.slot.column(),
            store_id: event.store_id.uuid(),
            event_id: event.event_id,
            aggregate_type: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id.clone(),
            sequence: event.sequence,
            event_type: event.payload.event_type.clone(),
            event_version: event.payload.event_version.clone(),
            payload: serde_json::from_str(&event.payload.payload)?,
            metadata: event.metadata.clone(),
            command_id: event.command_id,
            causation_id: event.causation_id,
            correlation_id: event.correlation_id,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
        })
    }
}

impl TryFrom<WireEvent<'_>> for RawEvent {
    type Error = serde_json::Error;

    fn try_from(wire: WireEvent<'_>) -> serde_json::Result<Self> {
        let slot = Slot::from_column(wire.slot).ok_or_else(|| serde_json::Error::custom("slots are 0 to 255"))?;
        Ok(Recorded {
            position: wire.position,
            slot,
            store_id: StoreId::from_uuid(wire.store_id),
            event_id: wire.event_id,
            aggregate_type: wire.aggregate_type,
            aggregate_id: wire.aggregate_id,
            sequence: wire.sequence,
            command_id: wire.command_id,
            causation_id: wire.causation_id,
            correlation_id: wire.correlation_id,
            occurred_at: wire.occurred_at,
            recorded_at: wire.recorded_at,
            metadata: wire.metadata,
            payload: Stored {
                event_type: wire.event_type,
                event_version: wire.event_version,
                payload: wire.payload.get().to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use jangbu_events::{CartId, samples};

    use super::*;

    fn message(payload: &str) -> Message {
        let event = RawEvent {
            position: 7,
            slot: Slot::of(samples::cart_id().uuid()),
            store_id: StoreId::from_uuid(Uuid::from_u128(1)),
            event_id: Uuid::from_u128(2),
            aggregate_type: "cart".into(),
            aggregate_id: samples::cart_id().to_string(),
            sequence: 3,
            command_id: Uuid::from_u128(4),
            causation_id: None,
            correlation_id: Some(Uuid::from_u128(5)),
            occurred_at: samples::moment(),
            recorded_at: samples::moment() + chrono::Duration::microseconds(123_456),
            metadata: Metadata {
                actor_kind: "guest".into(),
                channel: "http".into(),
                ..Metadata::default()
            },
            payload: Stored {
                event_type: "cart.cleared".into(),
                event_version: "1".into(),
                payload: payload.into(),
            },
        };
        Message {
            log: Uuid::from_u128(9),
            partition: 2,
            partitions: 4,
            prev: 5,
            through: 11,
            events: vec![event],
        }
    }

    #[test]
    fn a_message_survives_the_journey_byte_for_byte() {
        // Not how serde would write it: the broker's readers must see the very bytes of the log.
        for payload in ["{}", r#"{ "b" : 1.0e2, "a":"한\u0041", "b":2 }"#] {
            let sent = message(payload);
            let received = Message::parse(&sent.to_json().unwrap()).unwrap();
            assert_eq!(received, sent);
            assert_eq!(received.events[0].id::<CartId>().unwrap(), samples::cart_id());
        }
    }

    #[test]
    fn the_fields_on_the_wire_are_pinned() {
        let json: serde_json::Value = serde_json::from_slice(&message("{}").to_json().unwrap()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            keys(&json),
            ["events", "log", "partition", "partitions", "prev", "through"]
        );
        assert_eq!(
            keys(&json["events"][0]),
            [
                "aggregate_id",
                "aggregate_type",
                "causation_id",
                "command_id",
                "correlation_id",
                "event_id",
                "event_type",
                "event_version",
                "metadata",
                "occurred_at",
                "payload",
                "position",
                "recorded_at",
                "sequence",
                "slot",
                "store_id"
            ]
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        for json in ["", "[]", r#"{"log":"x"}"#, "\u{0}"] {
            assert!(Message::parse(json.as_bytes()).is_err(), "{json:?}");
        }
    }
}
