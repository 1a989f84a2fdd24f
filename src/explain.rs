//! How an order came to be what it is: every command, who gave it, the events that it left, and what followed
//! from them.
//!
//! Nothing of this is kept for the purpose. The ids of what a process manager sends derive from the events
//! that cause it, so telling the pure [`Checkout`](jangbu_domain::Checkout) the order's events again gives
//! the ids of all that it ever sent, and the log says what came of each: also of what changed nothing, was
//! refused, or is still to come. Personal data stays sealed: events are told in the few words of `facts`.

mod facts;
mod gather;
mod text;

use chrono::SecondsFormat;
use jangbu_events::{Event, Metadata, OrderId, Recorded, StoreId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::{gather::explain, text::Told};
use crate::{clock::korean_time, executor::LoadError, log::Log};

/// How an order came to be what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Explanation {
    /// `ord_…`.
    pub order_id: String,
    /// `yymmdd-XXXXXXXX`; null for an imported order.
    pub number: Option<String>,
    /// As in the order itself.
    pub status: String,
    /// Of the last event that is told here.
    pub position: i64,
    /// Causes before what they cause.
    pub commands: Vec<Act>,
    /// Timers and refunds that were set, in the order in which they were.
    pub effects: Vec<Effect>,
}

/// A command: somebody's, or the process manager's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Act {
    /// A repeat has the same.
    pub command_id: Uuid,
    /// The event it follows from; null for what came from outside.
    pub caused_by: Option<Uuid>,
    /// What the process manager calls it (`hold:DRIVER-10.5`); null for what came from outside.
    pub step: Option<String>,
    /// For which aggregate: `stock_item/stk_…`.
    pub aggregate: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who gave it; null where it left no event to tell.
    pub by: Option<Who>,
    /// Whether it records what PortOne answered when the payment was read there again.
    pub re_read: bool,
    /// When it was recorded; null where it was not.
    pub recorded_at: Option<String>,
    /// What it left.
    pub events: Vec<Happened>,
}

/// What came of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It left events.
    Done,
    /// It was carried out and there was nothing to do.
    ChangedNothing,
    /// It could not be done; an operator has to look.
    Failed,
    /// It is not in the log yet.
    Pending,
}

/// Who gave a command, from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Who {
    /// `guest`, `member`, `admin`, `system`, `portone` …
    pub kind: String,
    /// A customer's or an admin's id, or what tells guests apart.
    pub id: Option<String>,
    /// `http`, `webhook`, `process`, `timer`, `reconciliation`, `import` …
    pub channel: String,
    /// Of the HTTP request, as in the log lines.
    pub request_id: Option<String>,
}

/// An event, without anything that names a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Happened {
    /// What others follow from.
    pub event_id: Uuid,
    /// `order.placed`.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// Whose: `ord_…`.
    pub aggregate_id: String,
    /// In its stream.
    pub sequence: i64,
    /// In the log.
    pub position: i64,
    /// When it happened.
    pub occurred_at: String,
    /// What it says, in few words.
    pub facts: String,
}

/// Something that is not a command: a timer, or money that is asked back for at PortOne.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Effect {
    /// `order_deadline`, `hold_backstop`, `close_account`, `refund`, `refund_again`.
    pub kind: String,
    /// The event that it follows from; null where another effect led to it.
    pub caused_by: Option<Uuid>,
    /// When it is, or was, to be done.
    pub due_at: String,
    /// Whether it is still to be done.
    pub state: EffectState,
    /// How often it was tried, while it is still to be done.
    pub attempts: i32,
    /// Why it was put off last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// How an effect stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectState {
    /// The process manager has not come so far.
    Pending,
    /// It is still to be done.
    Waiting,
    /// It was done, or there was nothing to do any more.
    Over,
    /// It was set anew later.
    Replaced,
}

/// Why an order cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is none of this id or number.
    #[error("there is no such order")]
    NotFound,
    /// The log cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<sqlx::Error> for ExplainError {
    fn from(error: sqlx::Error) -> Self {
        Self::Load(error.into())
    }
}

impl From<&Metadata> for Who {
    fn from(metadata: &Metadata) -> Self {
        Self {
            kind: metadata.actor_kind.clone(),
            id: metadata.actor_id.clone(),
            channel: metadata.channel.clone(),
            request_id: metadata.request_id.clone(),
        }
    }
}

impl From<&Recorded<Event>> for Happened {
    fn from(event: &Recorded<Event>) -> Self {
        Self {
            event_id: event.event_id,
            event_type: event.payload.name(),
            aggregate_id: event.aggregate_id.clone(),
            sequence: event.sequence,
            position: event.position,
            occurred_at: time(event.occurred_at),
            facts: facts::of(&event.payload),
        }
    }
}

/// RFC 3339 in Korean time.
fn time(at: Timestamp) -> String {
    korean_time(at).to_rfc3339_opts(SecondsFormat::Millis, false)
}

/// The order of this id (`ord_…`) or number, as people spell it.
pub async fn find(log: &Log, which: &str) -> Result<OrderId, ExplainError> {
    if let Ok(id) = which.trim().parse() {
        return Ok(id);
    }
    let number = crate::checkout::read_order_number(which);
    let owner = log.key_owner(StoreId::DEFAULT, "order_number", &number).await?;
    owner.and_then(|owner| owner.parse().ok()).ok_or(ExplainError::NotFound)
}
