//! Webhooks to others: endpoints that are told what happens, by the rules of Standard Webhooks.
//!
//! [`core`] decides what is sent when, [`runner`] carries it out in whichever process holds the lease,
//! [`rows`] keeps it, [`target`] says where we post at all. (What PortOne posts to us is `http::webhook`.)

pub mod core;
mod keeping;
pub mod rows;
pub mod runner;
mod send;
pub mod target;

use std::{fmt, str::FromStr};

use jangbu_events::{RawEvent, Timestamp};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use self::rows::Replaced;
use crate::{
    as_of::exactly,
    clock::Surroundings,
    feed::{
        self,
        public::{PublicEvent, event_id},
    },
    sealing::Sealer,
    standard_webhooks,
};

/// Endpoints that there may be.
pub const ENDPOINTS_MAX: i64 = 100;
/// For how long a former secret signs too, in hours, unless something else is asked for, and at most.
pub const OVERLAP_HOURS: i64 = 24;
/// A week.
pub const OVERLAP_HOURS_MAX: i64 = 168;

/// Names an endpoint: `whk_` and 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId(pub Uuid);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whk_{}", self.0.simple())
    }
}

/// A text that names no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint is whk_ and 32 hex digits")]
pub struct EndpointIdError;

impl FromStr for EndpointId {
    type Err = EndpointIdError;

    fn from_str(text: &str) -> Result<Self, EndpointIdError> {
        let id = text
            .strip_prefix("whk_")
            .and_then(|hex| Uuid::try_parse(hex).ok())
            .map(Self);
        // Only the canonical spelling, as of every id.
        id.filter(|id| id.to_string() == text).ok_or(EndpointIdError)
    }
}

/// An endpoint, as JSON tells it. Its secret is told once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "whk_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f", "url": "https://books.example.com/jangbu",
    "event_types": ["order.confirmed", "order.cancelled"], "status": "enabled", "position": 7259,
    "retrying": 0, "parked": 0, "former_secret_until": null, "created_at": "2026-03-02T13:05:06.000000+09:00",
    "updated_at": "2026-03-02T13:05:06.000000+09:00"
}))]
pub struct Endpoint {
    /// `whk_…`.
    pub id: String,
    /// Where we post.
    pub url: String,
    /// Only these; empty is all.
    pub event_types: Vec<String>,
    /// `enabled`, `disabled`, or `gone` since it answered 410.
    pub status: &'static str,
    /// Every event up to here was taken, is of no interest, or belongs to an aggregate that waits.
    pub position: i64,
    /// Aggregates whose event was not taken and is tried again.
    pub retrying: i64,
    /// Aggregates that were given up after 72 hours, until `retry`.
    pub parked: i64,
    /// Until then the former secret signs too.
    pub former_secret_until: Option<String>,
    /// In Korean time.
    pub created_at: String,
    /// When it was last changed by somebody, in Korean time.
    pub updated_at: String,
}

/// An aggregate of which an endpoint did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// `retrying` or `parked`.
    pub status: &'static str,
    /// `order`.
    pub aggregate_type: String,
    /// `ord_…`.
    pub aggregate_id: String,
    /// The first event that was not taken; everything later of this aggregate waits behind it.
    pub position: i64,
    /// How often it was tried.
    pub attempts: i32,
    /// Since when, in Korean time.
    pub since: String,
    /// When it is tried next, in Korean time; null while it is parked.
    pub next_at: Option<String>,
    /// Why it was not taken the last time.
    pub error: String,
}

/// One request that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attempt {
    /// The event's, `evt_…`: the `webhook-id` of the request.
    pub event_id: String,
    /// `order.confirmed`.
    pub event_type: String,
    /// Of the event.
    pub position: i64,
    /// In Korean time.
    pub tried_at: String,
    /// How long it took.
    pub milliseconds: i32,
    /// Of the answer, if there was one.
    pub status: Option<i16>,
    /// Why it was not taken; null where it was.
    pub error: Option<String>,
}

/// What is posted: the event, and the time by the name that receivers of Standard Webhooks look for.
#[derive(Debug, Serialize)]
struct Message {
    timestamp: String,
    #[serde(flatten)]
    event: PublicEvent,
}

/// The id and the bytes of a message; the same for an event whenever it is sent.
fn message(event: &RawEvent) -> Result<(String, Vec<u8>), serde_json::Error> {
    let event = PublicEvent::of(event)?;
    let id = event.id.clone();
    let timestamp = event.occurred_at.clone();
    Ok((id, serde_json::to_vec(&Message { timestamp, event })?))
}

/// What a new endpoint is to be.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Where we post; [`target::check`] has passed it.
    pub url: String,
    /// Only these; empty is all.
    pub event_types: Vec<String>,
    /// Everything after it is told; the end of the log if not given.
    pub after: Option<i64>,
    /// Which request asks for it.
    pub request: Uuid,
    /// Of its body: a repeat has the same.
    pub request_hash: [u8; 32],
}

/// Why an endpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The same request with another body.
    #[error("the key was used for another request")]
    OtherRequest,
    /// There are [`ENDPOINTS_MAX`] already.
    #[error("there are {ENDPOINTS_MAX} endpoints already")]
    TooMany,
    /// Beyond the end of the log.
    #[error("the log ends at {head}")]
    BeyondHead {
        /// The last position there is.
        head: i64,
    },
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A secret was made, or had been by the same request.
#[derive(Debug)]
pub struct Made {
    /// Which endpoint's.
    pub id: EndpointId,
    /// `whsec_…`; `None` if it was replaced since.
    pub secret: Option<String>,
    /// The request had been answered before.
    pub repeated: bool,
}

/// Makes an endpoint and its secret. The same request makes one.
pub async fn create(db: &PgPool, sealer: &Sealer, at: &Surroundings, new: &NewEndpoint) -> Result<Made, CreateError> {
    let id = EndpointId(Uuid::new_v5(&new.request, b"endpoint"));
    let head = feed::head(db).await?;
    if new.after.is_some_and(|after| after > head) {
        return Err(CreateError::BeyondHead { head });
    }
    let full = rows::count(db).await? >= ENDPOINTS_MAX;
    if full && rows::secret(db, id).await?.is_none() {
        return Err(CreateError::TooMany);
    }
    let secret = standard_webhooks::secret(&at.bytes());
    let stored = sealer.seal_secret(at, id.0, &secret);
    if rows::insert(db, id, new, &stored, new.after.unwrap_or(head), at.now()).await? {
        let secret = Some(secret);
        return Ok(Made {
            id,
            secret,
            repeated: false,
        });
    }
    let Some(known) = rows::secret(db, id).await? else {
        // It was made, deleted, and asked for again: a repeat does not bring it back.
        return Err(CreateError::OtherRequest);
    };
    if known.request_hash != new.request_hash {
        return Err(CreateError::OtherRequest);
    }
    let secret = (known.secret_of == new.request).then(|| sealer.open_secret(id.0, &known.secret));
    Ok(Made {
        id,
        secret: secret.flatten(),
        repeated: true,
    })
}

/// Which secret is to be replaced, and how.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Until then the former secret signs too.
    pub former_until: Timestamp,
    /// Which request asks for it.
    pub request: Uuid,
    /// Of its body: a repeat has the same.
    pub request_hash: [u8; 32],
}

/// Why there is no new secret.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// There is no such endpoint.
    #[error("there is no such endpoint")]
    NotFound,
    /// The same request with another body.
    #[error("the key was used for another request")]
    OtherRequest,
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Gives an endpoint a new secret. The same request makes one, whatever others made since.
pub async fn rotate(
    db: &PgPool,
    sealer: &Sealer,
    at: &Surroundings,
    id: EndpointId,
    rotation: &Rotation,
) -> Result<Made, RotateError> {
    let secret = standard_webhooks::secret(&at.bytes());
    let stored = sealer.seal_secret(at, id.0, &secret);
    let (secret, repeated) = match rows::replace_secret(db, id, &stored, rotation, at.now()).await? {
        Replaced::Done => (Some(secret), false),
        Replaced::Before { secret } => (secret.and_then(|sealed| sealer.open_secret(id.0, &sealed)), true),
        Replaced::OtherRequest => return Err(RotateError::OtherRequest),
        Replaced::NotFound => return Err(RotateError::NotFound),
    };
    Ok(Made { id, secret, repeated })
}

impl Attempt {
    fn of(row: keeping::AttemptRow) -> Self {
        Self {
            event_id: event_id(row.event_id),
            event_type: row.event_type,
            position: row.position,
            tried_at: exactly(row.tried_at),
            milliseconds: row.milliseconds,
            status: row.status,
            error: row.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing;

    #[test]
    fn an_endpoint_has_one_name() {
        let id = EndpointId(Uuid::from_u128(0xabc));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "whk_",
            "whk_0000000000000000000000000000ABCD",
            "ord_00000000000000000000000000000abc",
        ] {
            assert_eq!(wrong.parse::<EndpointId>(), Err(EndpointIdError), "{wrong}");
        }
    }

    #[test]
    fn a_message_is_the_event_and_always_the_same_bytes() {
        let event = testing::event(7, 3, r#"{"type":"cart.cleared"}"#);
        let (id, body) = message(&event).expect("JSON");
        assert_eq!(id, format!("evt_{:032x}", 7));
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (&json["type"], &json["timestamp"]),
            (&"cart.cleared".into(), &json["occurred_at"])
        );
        assert_eq!(message(&event).expect("JSON").1, body);
    }
}
