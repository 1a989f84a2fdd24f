//! What outsiders see of an event: the log's row without what is ours alone.
//!
//! The payload goes out as it was stored, but for personal data: what is sealed or hashed in the log is not
//! even sent as ciphertext or hash, and the hash of a guest's token and the columns that an import kept are left out.
//! This works on the JSON itself, so an event of a newer version is as safe as one that this version
//! knows: [`Sealed`](jangbu_events::Sealed) has one form for ever.

use jangbu_events::{AggregateId as _, OrderId, RawEvent};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::as_of::exactly;

/// An event as the feed and webhooks tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "evt_5d2c1b0a9f8e5d7c8b6a594837261504", "type": "product.repriced", "version": "1", "position": 7259,
    "aggregate": {"type": "product", "id": "prd_c8157681036353a4becd60cf5409d4dd", "sequence": 3},
    "occurred_at": "2026-03-02T13:05:06.123456+09:00", "recorded_at": "2026-03-02T13:05:06.123456+09:00",
    "data": {"type": "product.repriced", "price": {"amount": 39000, "currency": "KRW"}},
    "metadata": {"actor": {"kind": "admin", "id": "kim"}, "channel": "http"}
}))]
pub struct PublicEvent {
    /// `evt_` and 32 hex digits: the same for ever, so that who has seen it knows it again.
    pub id: String,
    /// `order.placed`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Of the type: the shape of `data`.
    pub version: String,
    /// Place in the whole log: dense from 1.
    pub position: i64,
    /// Whose event it is.
    pub aggregate: PublicAggregate,
    /// Business time, to the microsecond, in Korean time.
    pub occurred_at: String,
    /// When the log learnt it; never runs backwards along positions.
    pub recorded_at: String,
    /// What happened. Personal data is `{"sealed": true}`.
    #[schema(value_type = Object)]
    pub data: Value,
    /// Who caused it.
    pub metadata: PublicMetadata,
}

/// The stream of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PublicAggregate {
    /// `cart`, `customer`, `order`, `payment`, `product` or `stock_item`.
    #[serde(rename = "type")]
    pub aggregate_type: String,
    /// `ord_…`, as everywhere else.
    pub id: String,
    /// Place of the event in the stream: dense from 1.
    pub sequence: i64,
}

/// Who caused an event, from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PublicMetadata {
    /// By whose doing.
    pub actor: PublicActor,
    /// `http`, `webhook`, `process`, `timer`, `import` or `cli`.
    pub channel: String,
    /// The event that led to this one, `evt_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// The order that this belongs to, `ord_…`, whichever aggregate's event it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// Somebody or something that acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PublicActor {
    /// `guest`, `member`, `admin`, `system`, `portone` …
    pub kind: String,
    /// Tells actors of a kind apart; never a person's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The public id of an event.
pub fn event_id(id: Uuid) -> String {
    format!("evt_{}", id.simple())
}

impl PublicEvent {
    /// The public form of a row. Fails only where the stored payload is no JSON, which the column does
    /// not allow.
    pub fn of(event: &RawEvent) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: event_id(event.event_id),
            data: without_personal(serde_json::from_str(&event.payload.payload)?),
            event_type: event.payload.event_type.clone(),
            version: event.payload.event_version.clone(),
            position: event.position,
            aggregate: PublicAggregate {
                aggregate_type: event.aggregate_type.clone(),
                id: event.aggregate_id.clone(),
                sequence: event.sequence,
            },
            occurred_at: exactly(event.occurred_at),
            recorded_at: exactly(event.recorded_at),
            metadata: PublicMetadata {
                actor: PublicActor {
                    kind: event.metadata.actor_kind.clone(),
                    id: event.metadata.actor_id.clone(),
                },
                channel: event.metadata.channel.clone(),
                causation_id: event.causation_id.map(event_id),
                correlation_id: event.correlation_id.map(|id| OrderId::from_uuid(id).to_string()),
            },
        })
    }
}

/// What is left out wherever it stands: the hash of a guest's token, and the columns of another system that an imported
/// order has kept, which may be anything, names included.
const OURS_ALONE: [&str; 3] = ["token_hash", "external_customer", "external_reference"];

/// The same value with nothing of a person in it.
fn without_personal(value: Value) -> Value {
    match value {
        Value::Object(map) if is_sealed(&map) => json!({"sealed": true}),
        Value::Object(map) => map
            .into_iter()
            .filter(|(name, _)| !OURS_ALONE.contains(&name.as_str()))
            .map(|(name, value)| (name, without_personal(value)))
            .collect(),
        Value::Array(values) => values.into_iter().map(without_personal).collect(),
        plain => plain,
    }
}

/// Whether this is a [`Sealed`](jangbu_events::Sealed) or a [`Hashed`](jangbu_events::Hashed). One of the names is enough: nothing else has them.
fn is_sealed(map: &Map<String, Value>) -> bool {
    map.contains_key("ciphertext") || map.contains_key("key_id")
}

#[cfg(test)]
mod tests {
    use jangbu_events::{Event, Sealed, samples};

    use super::*;
    use crate::feed::testing;

    #[test]
    fn an_event_is_told_without_what_is_ours_alone() {
        let mut event = testing::event(7, 3, r#"{"type":"cart.cleared"}"#);
        event.metadata.actor_kind = "guest".into();
        event.metadata.ip_hash = Some("0123456789abcdef".into());
        event.metadata.request_id = Some("from-the-proxy.1".into());
        event.causation_id = Some(Uuid::from_u128(6));
        let told = serde_json::to_value(PublicEvent::of(&event).expect("JSON")).expect("JSON");
        assert_eq!(
            told,
            json!({
                "id": format!("evt_{:032x}", 7), "type": "cart.cleared", "version": "1", "position": 7,
                "aggregate": {"type": "cart", "id": samples::cart_id().to_string(), "sequence": 7},
                "occurred_at": exactly(samples::moment()), "recorded_at": exactly(samples::moment()),
                "data": {"type": "cart.cleared"},
                "metadata": {"actor": {"kind": "guest"}, "channel": "", "causation_id": format!("evt_{:032x}", 6)},
            })
        );
    }

    /// Of every event there is, in the form that the log keeps.
    #[test]
    fn nothing_sealed_and_no_token_leaves_the_house() {
        let mut sealed = 0;
        for sample in samples::all() {
            let stored = serde_json::to_string(&payload(&sample)).expect("JSON");
            sealed += stored.matches("ciphertext").count();
            let told = without_personal(serde_json::from_str(&stored).expect("JSON")).to_string();
            for forbidden in [
                "ciphertext",
                "key_id",
                "keyed_hash",
                "token_hash",
                "external_customer",
                "external_reference",
                "c2VhbGVk",
            ] {
                assert!(!told.contains(forbidden), "{forbidden} in {told}");
            }
            assert_eq!(
                told.matches(r#"{"sealed":true}"#).count(),
                stored.matches("ciphertext").count() + stored.matches("keyed_hash").count()
            );
        }
        assert!(sealed > 3, "the samples have sealed fields");
        // As an event of a newer version would have it, wherever it stands.
        let deep = json!({"a": [{"b": Sealed::<String>::new(Uuid::nil(), "x".into())}], "key": 1});
        assert_eq!(
            without_personal(deep),
            json!({"a": [{"b": {"sealed": true}}], "key": 1})
        );
    }

    fn payload(event: &Event) -> Value {
        let value = match event {
            Event::Cart(event) => serde_json::to_value(event),
            Event::Customer(event) => serde_json::to_value(event),
            Event::Order(event) => serde_json::to_value(event),
            Event::Payment(event) => serde_json::to_value(event),
            Event::Product(event) => serde_json::to_value(event),
            Event::Stock(event) => serde_json::to_value(event),
        };
        value.expect("events serialise")
    }
}
