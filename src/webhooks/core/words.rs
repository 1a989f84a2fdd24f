//! What goes into the core and comes out of it.

use jangbu_events::Timestamp;

/// Whose events keep their order among each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// `order`.
    pub aggregate_type: String,
    /// `ord_…`.
    pub aggregate_id: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Taken.
    Delivered,
    /// Not taken, and why: no value that came from outside but a status.
    Failed {
        /// For people.
        error: String,
        /// The receiver asked for a pause of so many seconds.
        retry_after: Option<u32>,
    },
    /// The receiver wants nothing more, ever.
    Gone,
}

/// A lane that does not go on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The first event that was not taken.
    pub position: i64,
    /// How often it was tried; 0 for the next one of a lane that recovers.
    pub attempts: u32,
    /// When it failed first.
    pub since: Timestamp,
    /// When it is tried next.
    pub next_at: Timestamp,
    /// Given up until somebody wants it tried again.
    pub parked: bool,
    /// Why it was not taken the last time.
    pub error: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read up to `limit` events after a position, and say so with [`super::Core::fed`].
    Read {
        /// The last position that was read.
        after: i64,
        /// More than these would not fit.
        limit: i64,
    },
    /// Send an event, and say what came of it with [`super::Core::sent`].
    Send {
        /// Which.
        position: i64,
        /// Of which lane.
        lane: Lane,
    },
    /// Find the first event of a lane in `(after, through]`, and say so with [`super::Core::found`].
    Find {
        /// Which lane.
        lane: Lane,
        /// The last event of it that was taken.
        after: i64,
        /// As far as the log was read.
        through: i64,
    },
}

/// What to keep, all at once or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every event up to here was taken, is of no interest, or belongs to a held lane.
    pub cursor: i64,
    /// Lanes that changed; `None` is held no more.
    pub lanes: Vec<(Lane, Option<Held>)>,
}
