//! Steps of a checkout that could not be done, listed and done again.
//!
//! A failed step is kept by its id alone. What it was to do is found again by telling a new
//! [`Checkout`] what the failed one had been told, so a corrected program does the corrected thing.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use jangbu_domain::{Action, AnyCommand, Checkout, command_id};
use jangbu_events::{Event, OrderId, RawEvent, Recorded, Timestamp};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{CHECKOUT, RunError, send};
use crate::{clock::korean_time, executor::Executor};

/// The most that is done again by one call.
pub const RETRY_MAX: i64 = 100;

/// A step that could not be done, as JSON tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FailedStep {
    /// Whose step; today always `checkout`.
    pub process: String,
    /// The command it was to send, which names it.
    pub command_id: Uuid,
    /// Of which order, `ord_…`.
    pub order_id: String,
    /// Of the event that it follows from.
    pub position: i64,
    /// `commit:SKU`.
    pub step: String,
    /// What stood in the way the last time.
    pub error: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it failed first, in Korean time.
    pub failed_at: String,
}

/// Which of the failed steps; what is `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this order, `ord_…`.
    pub order_id: Option<String>,
    /// This one.
    pub command_id: Option<Uuid>,
}

/// How a retry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The step is done, or was by now.
    Done,
    /// It cannot be done yet.
    Failed,
    /// This program takes no such step. It stays in the list until [`dismiss`] takes it out.
    Obsolete,
}

/// What a retry did with one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StepAttempt {
    /// How it ended.
    pub outcome: StepOutcome,
    /// As it was, or is now.
    #[serde(flatten)]
    pub failure: FailedStep,
}

/// Failed steps; at most `limit`, those first that were tried the longest ago.
pub async fn list(db: &PgPool, which: &Which, limit: i64) -> sqlx::Result<Vec<FailedStep>> {
    let rows = sqlx::query!(
        "select process, command_id, key, position, step, error, attempts, failed_at
        from process_failures
        where ($1::text is null or key = $1) and ($2::uuid is null or command_id = $2)
        order by coalesce(tried_at, failed_at), position, command_id
        limit $3",
        which.order_id,
        which.command_id,
        limit,
    )
    .fetch_all(db)
    .await?;
    let time = |at: Timestamp| korean_time(at).to_rfc3339_opts(SecondsFormat::Millis, false);
    Ok(rows
        .into_iter()
        .map(|row| FailedStep {
            process: row.process,
            command_id: row.command_id,
            order_id: row.key,
            position: row.position,
            step: row.step,
            error: row.error,
            attempts: row.attempts,
            failed_at: time(row.failed_at),
        })
        .collect())
}

/// Does failed steps again, one after the other, at most [`RETRY_MAX`] of them. The ids of their commands
/// are the same, so whoever does a step twice does it once. Stops where the database does not answer;
/// what was done before it stays done.
pub async fn retry(executor: &Executor, which: &Which) -> Result<Vec<StepAttempt>, RunError> {
    let db = executor.log().pool();
    let mut attempts = Vec::new();
    for mut failure in list(db, which, RETRY_MAX).await? {
        let outcome = match recall(executor, &failure).await {
            Err(error @ RunError::Undecodable { .. }) => {
                // The steps of other orders do not wait for it.
                failure.error = error.to_string();
                StepOutcome::Failed
            }
            Err(error) => return Err(error),
            // Perhaps a newer program does: whoever knows better says so.
            Ok(None) => StepOutcome::Obsolete,
            Ok(Some((command, cause))) => match send(executor, command, failure.command_id, &cause).await {
                Ok(_) => StepOutcome::Done,
                Err(error) if error.may_pass() => return Err(RunError::Sending(error)),
                Err(error) => {
                    failure.error = error.to_string();
                    StepOutcome::Failed
                }
            },
        };
        match outcome {
            StepOutcome::Done => _ = dismiss(db, failure.command_id).await?,
            StepOutcome::Obsolete | StepOutcome::Failed => failure.attempts = note(executor, &failure).await?,
        }
        let (order, step) = (&failure.order_id, &failure.step);
        tracing::info!(order.id = order, step, ?outcome, "a failed step was tried again");
        attempts.push(StepAttempt { outcome, failure });
    }
    Ok(attempts)
}

/// Takes a step out of the list without doing it; false if it was not there.
pub async fn dismiss(db: &PgPool, command_id: Uuid) -> sqlx::Result<bool> {
    let gone = sqlx::query!("delete from process_failures where command_id = $1", command_id)
        .execute(db)
        .await?;
    Ok(gone.rows_affected() > 0)
}

/// The command of a step, and the event it follows from; `None` if nothing like it follows today.
async fn recall(executor: &Executor, failure: &FailedStep) -> Result<Option<(AnyCommand, Recorded<Event>)>, RunError> {
    let Ok(order_id) = failure.order_id.parse::<OrderId>() else {
        return Ok(None);
    };
    let told = told(executor, order_id, failure.position).await?;
    let mut checkout = Checkout::default();
    for event in told.into_values().flatten() {
        for action in checkout.react(&event) {
            if let Action::Execute { step, source, command } = action
                && command_id(source, &step) == failure.command_id
            {
                return Ok(Some((*command, event)));
            }
        }
    }
    Ok(None)
}

/// What the order's checkout was told up to a position, by position: what stands there, the order's own,
/// and the answers to its holds.
async fn told(
    executor: &Executor,
    order_id: OrderId,
    through: i64,
) -> Result<BTreeMap<i64, Vec<Recorded<Event>>>, RunError> {
    let log = executor.log();
    let mut raw = log.read(through - 1, 1).await?;
    raw.extend(log.stream("order", &order_id.to_string(), 0).await?);
    let mut told = BTreeMap::new();
    keep(&mut told, raw, order_id, through)?;
    // A throw-away checkout says under which ids the stock was asked.
    let mut holds = Checkout::default();
    let ids: Vec<Uuid> = told
        .values()
        .flatten()
        .filter(|event| event.payload.name() == "order.placed")
        .flat_map(|event| holds.react(event))
        .filter_map(|action| match action {
            Action::Execute { step, source, .. } => Some(command_id(source, &step)),
            Action::Schedule { .. } | Action::Refund { .. } => None,
        })
        .collect();
    let mut answers = Vec::new();
    for row in log.commands(&ids).await?.into_values() {
        let count = i64::from(row.events);
        answers.extend(log.read(row.position - count, count).await?);
    }
    keep(&mut told, answers, order_id, through)?;
    Ok(told)
}

fn keep(
    told: &mut BTreeMap<i64, Vec<Recorded<Event>>>,
    raw: Vec<RawEvent>,
    order_id: OrderId,
    through: i64,
) -> Result<(), RunError> {
    for event in raw {
        let position = event.position;
        let decoded = event
            .decode()
            .map_err(|source| RunError::Undecodable { position, source })?;
        // What one stored event means today is told together.
        if position <= through {
            let own = decoded
                .into_iter()
                .filter(|event| Checkout::key(event) == Some(order_id));
            told.insert(position, own.collect());
        }
    }
    Ok(())
}

/// Keeps why it failed again, and gives how often it has.
async fn note(executor: &Executor, failure: &FailedStep) -> sqlx::Result<i32> {
    metrics::counter!("jangbu_process_failures", "process" => CHECKOUT).increment(1);
    let attempts = sqlx::query_scalar!(
        "update process_failures
        set error = $2, attempts = attempts + 1, tried_at = $3
        where command_id = $1
        returning attempts",
        failure.command_id,
        failure.error,
        executor.log().surroundings().now(),
    )
    .fetch_optional(executor.log().pool())
    .await?;
    Ok(attempts.unwrap_or(failure.attempts + 1))
}
