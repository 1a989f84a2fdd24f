//! Sends any command to the aggregate it is for.

use std::time::Duration;

use jangbu_domain::{AnyCommand, Cart, Checkout, Decide, Order, Payment, StockItem};
use jangbu_events::{AggregateId, Event, Recorded};
use uuid::Uuid;

use crate::executor::{CommandEnvelope, Committed, ExecuteError, Executor, LoadError};

/// Tries of a command that nobody can be told of a conflict.
const TRIES: u32 = 100;

/// Why a command of a process manager did not go through.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    reason: String,
    may_pass: bool,
}

impl SendError {
    /// Whether the same command may go through later.
    pub const fn may_pass(&self) -> bool {
        self.may_pass
    }
}

/// Which aggregate a command is for: `order/ord_…`.
pub fn aggregate(command: &AnyCommand) -> String {
    match command {
        AnyCommand::Cart(id, _) => format!("cart/{id}"),
        AnyCommand::Order(id, _) => format!("order/{id}"),
        AnyCommand::Payment(id, _) => format!("payment/{id}"),
        AnyCommand::Stock(id, _) => format!("stock_item/{id}"),
    }
}

/// Sends a command that follows from an event. It happens in the name of whoever caused the event,
/// at the time of the event, and answers with the events it made, now or when it was sent first.
pub async fn send(
    executor: &Executor,
    command: AnyCommand,
    command_id: Uuid,
    cause: &Recorded<Event>,
) -> Result<Vec<Recorded<Event>>, SendError> {
    let mut metadata = cause.metadata.clone();
    "process".clone_into(&mut metadata.channel);
    let mut envelope = CommandEnvelope::new(command_id, metadata, cause.occurred_at);
    envelope.causation_id = Some(cause.event_id);
    envelope.correlation_id = Checkout::key(cause)
        .map(|order_id| order_id.uuid())
        .or(cause.correlation_id);
    envelope.deadline = Duration::from_secs(30);
    envelope.tries = TRIES;
    match command {
        AnyCommand::Cart(id, command) => events(executor.execute::<Cart>(id, command, envelope).await),
        AnyCommand::Order(id, command) => events(executor.execute::<Order>(id, command, envelope).await),
        AnyCommand::Payment(id, command) => events(executor.execute::<Payment>(id, command, envelope).await),
        AnyCommand::Stock(id, command) => events(executor.execute::<StockItem>(id, command, envelope).await),
    }
}

fn events<A: Decide>(result: Result<Committed<A>, ExecuteError<A::Error>>) -> Result<Vec<Recorded<Event>>, SendError> {
    match result {
        Ok(committed) => Ok(committed
            .events
            .into_iter()
            .map(|event| {
                let payload = event.payload.clone().into();
                event.with(payload)
            })
            .collect()),
        Err(error) => {
            // A row that cannot be read as it stands will not be readable later either.
            let unreadable = matches!(
                &error,
                ExecuteError::Load(LoadError::Unavailable(
                    sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }
                ))
            );
            let may_pass = !unreadable
                && matches!(
                    error,
                    ExecuteError::Conflict { .. }
                        | ExecuteError::Busy
                        | ExecuteError::OutcomeUnknown
                        | ExecuteError::Load(LoadError::Unavailable(_))
                );
            Err(SendError {
                reason: format!("{}: {error}", A::TYPE),
                may_pass,
            })
        }
    }
}
