//! Why aggregates are not loaded and commands not carried out.

use jangbu_events::DecodeError;

use crate::log::AppendError;

/// Why a stream could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database did not answer.
    #[error("the log cannot be read: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// It holds an event that this version cannot read.
    #[error("{stream} cannot be folded")]
    Undecodable {
        /// `order/ord_…`.
        stream: String,
        /// Which event.
        #[source]
        source: DecodeError,
    },
    /// It holds an event of another aggregate type.
    #[error("{stream} holds a foreign event {event_type}")]
    Foreign {
        /// `order/ord_…`.
        stream: String,
        /// Which event.
        event_type: &'static str,
    },
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error + 'static> {
    /// The aggregate says no.
    #[error(transparent)]
    Refused(E),
    /// `If-Match` named another version.
    #[error("the aggregate is at version {current}")]
    Stale {
        /// Its last sequence.
        current: i64,
    },
    /// Others were faster each time.
    #[error("others changed the aggregate at the same time, it is at version {current}")]
    Conflict {
        /// Its last sequence.
        current: i64,
    },
    /// The command id was used for another request.
    #[error("this key was used for another request")]
    KeyReused,
    /// A unique value belongs to somebody else.
    #[error("the {scope} is taken")]
    KeyTaken {
        /// Which kind of value.
        scope: &'static str,
    },
    /// Nothing was recorded; try again later.
    #[error("the log is busy")]
    Busy,
    /// It may be recorded or not; try again with the same command id.
    #[error("it is not known whether the command was recorded")]
    OutcomeUnknown,
    /// The stream could not be folded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The database does not take these events.
    #[error("the log refused the events: {0}")]
    Rejected(String),
}

impl<E: std::error::Error> From<sqlx::Error> for ExecuteError<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Load(LoadError::Unavailable(error))
    }
}

impl<E: std::error::Error> From<AppendError> for ExecuteError<E> {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy => Self::Busy,
            AppendError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}
