//! What goes into the log, and what comes back.

use jangbu_events::{Slot, StoreId, Timestamp};
use uuid::Uuid;

/// One command to append: all of its events or none, at its expected place in its stream.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// A repeat of it is answered with the first result.
    pub command_id: Uuid,
    /// Whose log.
    pub store_id: StoreId,
    /// `order`.
    pub aggregate_type: &'static str,
    /// `ord_…`.
    pub aggregate_id: String,
    /// Partition of the stream, the same for all its events.
    pub slot: Slot,
    /// The last sequence of the stream that the decision was made on; 0 for a new stream. The stream
    /// must stand exactly there, after the commands that were queued before this one.
    pub expected_sequence: i64,
    /// In order; may be empty: a keyed command that changes nothing still leaves its row.
    pub events: Vec<NewEvent>,
    /// JSON of [`jangbu_events::Metadata`], the same for all events.
    pub metadata: String,
    /// The event or request that made the command.
    pub causation_id: Option<Uuid>,
    /// The business transaction it belongs to.
    pub correlation_id: Option<Uuid>,
    /// Business time of its events.
    pub occurred_at: Timestamp,
    /// SHA-256 of the request.
    pub body_hash: Option<[u8; 32]>,
    /// Claimed in the same append; taken ones refuse the command.
    pub unique_keys: Vec<UniqueKey>,
    /// Written in the same append.
    pub personal_keys: Vec<NewPersonalKey>,
    /// Changed in the same append.
    pub beside: Beside,
}

/// What few commands change besides, with their events or not at all. None of it may be in an event.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Keys that their owner gives back. A command that does is the first of its batch, so that nobody
    /// claims there what is given back only later.
    pub released_keys: Vec<UniqueKey>,
    /// The hash of a customer's password.
    pub password: Option<PasswordRow>,
    /// Sessions that end.
    pub ended_sessions: Option<EndedSessions>,
}

impl Beside {
    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.released_keys.is_empty() && self.password.is_none() && self.ended_sessions.is_none()
    }
}

/// A row of `credentials`.
#[derive(Clone)]
pub struct PasswordRow {
    /// `cus_…`.
    pub customer_id: String,
    /// PHC string; `None` takes the row away.
    pub hash: Option<String>,
}

impl std::fmt::Debug for PasswordRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordRow({})", self.customer_id)
    }
}

/// Rows of `sessions` that end.
#[derive(Debug, Clone)]
pub struct EndedSessions {
    /// Whose.
    pub customer_id: String,
    /// The one that goes on.
    pub except: Option<Uuid>,
    /// `password_changed` or `closed`.
    pub reason: &'static str,
}

/// One event to append.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// `order.placed`.
    pub event_type: String,
    /// `1`.
    pub event_version: String,
    /// JSON text, kept byte for byte.
    pub payload: String,
    /// Its own business time, where it differs from the command's.
    pub occurred_at: Option<Timestamp>,
}

/// A value that may be used once in a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UniqueKey {
    /// `order_number` …
    pub scope: &'static str,
    /// The value, hashed if personal.
    pub value: String,
    /// Who has it: an aggregate id.
    pub owner: String,
}

/// The data key of sealed personal data, wrapped twice.
#[derive(Clone)]
pub struct NewPersonalKey {
    /// As in [`jangbu_events::Sealed`].
    pub key_id: Uuid,
    /// The customer, or for a guest the order.
    pub person_id: String,
    /// `RET_CONTRACT` …
    pub retention_class: &'static str,
    /// Under the live key.
    pub live: Vec<u8>,
    /// Under the hold key.
    pub hold: Vec<u8>,
    /// Keyed hash of the phone, for a guest's look-up.
    pub phone_hash: Option<Vec<u8>>,
}

impl std::fmt::Debug for NewPersonalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewPersonalKey({})", self.key_id)
    }
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of the last event; 0 for an empty log.
    pub position: i64,
    /// Of the last event; `None` for an empty log.
    pub recorded_at: Option<Timestamp>,
}

/// What became of an appended command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of the stream, after it.
    pub sequence: i64,
    /// Of its last event; for a command without events, the head when it was recorded.
    pub position: i64,
    /// When the log learnt it.
    pub recorded_at: Timestamp,
}

impl Appended {
    /// Whether a row of the log says just this.
    pub fn is(&self, row: &CommandRow) -> bool {
        (self.sequence, self.position, self.recorded_at) == (row.sequence, row.position, row.recorded_at)
    }
}

/// A row of `commands`: what came of a command that was carried out before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// Which.
    pub command_id: Uuid,
    /// `order`.
    pub aggregate_type: String,
    /// `ord_…`.
    pub aggregate_id: String,
    /// Of the stream, after it.
    pub sequence: i64,
    /// Of its last event.
    pub position: i64,
    /// How many events it made.
    pub events: i32,
    /// SHA-256 of the request.
    pub body_hash: Option<Vec<u8>>,
    /// When the log learnt it.
    pub recorded_at: Timestamp,
}

/// The log's answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Appended(Appended),
    /// It was in the log already.
    Duplicate(CommandRow),
    /// The stream does not stand where the decision was made.
    Conflict {
        /// Its last sequence.
        current: i64,
    },
    /// A command that it was decided on was not appended: it has to be decided anew.
    Unfounded,
    /// Another owner has a unique key it claims.
    KeyTaken {
        /// Which kind of key.
        scope: &'static str,
    },
    /// PostgreSQL does not take it, whatever comes before or after: a bug, or U+0000.
    Rejected {
        /// For the log file, not for clients.
        reason: String,
    },
}

impl NewCommand {
    /// How much it weighs in a batch, in bytes of JSON.
    pub fn weight(&self) -> usize {
        self.events
            .iter()
            .map(|event| event.payload.len() + self.metadata.len())
            .sum()
    }

    /// Whether a row may be of this very command: the same id may have been used for another stream, or
    /// decided to something else.
    pub fn made(&self, row: &CommandRow) -> bool {
        (self.aggregate_type, self.aggregate_id.as_str()) == (row.aggregate_type.as_str(), row.aggregate_id.as_str())
            && i32::try_from(self.events.len()) == Ok(row.events)
    }

    /// The id of its n-th event, counted from 0.
    pub fn event_id(&self, index: usize) -> Uuid {
        event_id(self.command_id, index)
    }

    /// PostgreSQL's `json` stores U+0000 and then fails on every read of that document.
    pub fn has_null_character(&self) -> bool {
        self.events.iter().any(|event| has_null_escape(&event.payload)) || has_null_escape(&self.metadata)
    }
}

/// The id of the n-th event of a command: the same however often it is sent.
pub fn event_id(command_id: Uuid, index: usize) -> Uuid {
    Uuid::new_v5(&command_id, &(index as u64).to_be_bytes())
}

/// Whether JSON text holds the escape of U+0000: a `u0000` after an odd number of backslashes.
fn has_null_escape(json: &str) -> bool {
    json.match_indices("\\u0000")
        .any(|(at, _)| json.as_bytes()[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_null_escape_is_one() {
        for (json, found) in [
            (r#""\u0000""#, true),
            (r#""a\\\u0000""#, true),
            (r#""\\u0000""#, false),
            (r#""u0000""#, false),
        ] {
            assert_eq!(has_null_escape(json), found, "{json}");
        }
    }
}
