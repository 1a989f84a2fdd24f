//! Runs the checkout: reads the log in position order under one lease, lets the pure
//! [`Checkout`] react, sends what follows, and moves its checkpoint together with what it
//! remembers and with the timers it set.
//!
//! Everything it sends has an id derived from the event that caused it, so a crash between any two
//! steps, or an HTTP handler that was faster, changes nothing: the same command again is answered
//! with its first result.

mod dispatch;
pub mod retry;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::future::join_all;
use jangbu_domain::{Action, AnyCommand, Checkout, command_id};
use jangbu_events::{
    DecodeError, Event, OrderId, Recorded, Timestamp,
    upcast::{UPCASTERS, stored_types},
};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::dispatch::{SendError, aggregate, send};
use crate::{
    executor::Executor,
    log::reading,
    timers::{self, Work},
};

/// The checkout's name in the process tables, and of its lease.
pub const CHECKOUT: &str = "checkout";
/// Events in one round.
const ROUND: i64 = 500;

/// Why a round of the runner did not go through.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database did not answer, or the log could not be appended to; the round is done again.
    #[error(transparent)]
    Unavailable(#[from] sqlx::Error),
    /// A command may be recorded or not; the round is done again.
    #[error("a command could not be sent: {0}")]
    Sending(SendError),
    /// An event that this version cannot read: never skipped.
    #[error("the event at {position} cannot be read")]
    Undecodable {
        /// Where it stands.
        position: i64,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// Another runner has taken over.
    #[error("another process has taken the checkout over")]
    Fenced,
    /// What is remembered of an order does not decode.
    #[error("the state of {order_id} does not decode")]
    State {
        /// Which order.
        order_id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Reacts to one event and all that follows from it, at once, without waiting for the runner: what
/// an HTTP handler does so that its answer says how it ended. Timers and refunds are left to the
/// runner, which finds the commands done. Gives every event that followed, in causal order.
pub async fn drive(
    executor: &Executor,
    first: Vec<Recorded<Event>>,
    deadline: Duration,
) -> Result<Vec<Recorded<Event>>, SendError> {
    let until = Instant::now() + deadline;
    let mut checkout = Checkout::default();
    let mut followed: Vec<Recorded<Event>> = Vec::new();
    let mut news = first;
    while !news.is_empty() {
        // Commands to one aggregate go one after the other: a later one may rest on an earlier one.
        let mut sends: BTreeMap<String, Vec<Caused<'_>>> = BTreeMap::new();
        for event in &news {
            for action in checkout.react(event) {
                if let Action::Execute { step, source, command } = action {
                    let id = command_id(source, &step);
                    sends
                        .entry(dispatch::aggregate(&command))
                        .or_default()
                        .push((id, *command, event));
                }
            }
        }
        let sending = join_all(sends.into_values().map(|sends| async {
            let mut events = Vec::new();
            for (id, command, cause) in sends {
                events.extend(send(executor, command, id, cause).await?);
            }
            Ok::<_, SendError>(events)
        }));
        // What is given up here is on its way or not: the runner finds out.
        let Ok(sent) = tokio::time::timeout_at(until, sending).await else {
            break;
        };
        news = sent.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        followed.extend(news.iter().cloned());
    }
    Ok(followed)
}

/// One round of the runner: handles up to 500 events at or below the position `ripe` and gives
/// how many it saw; 0 means that it has caught up. `epoch` is of the lease it runs under.
pub async fn round(executor: &Executor, epoch: i64, ripe: i64) -> Result<usize, RunError> {
    let db = executor.log().pool();
    let from = position(db).await?;
    let (events, through) = read(db, from, ripe).await?;
    if through == from {
        return Ok(0);
    }
    let mut states = load_states(db, &events).await?;
    let mut sends: BTreeMap<OrderId, Vec<(Uuid, Send)>> = BTreeMap::new();
    let mut work = Vec::new();
    for event in &events {
        let Some(order_id) = Checkout::key(event) else { continue };
        for action in states.entry(order_id).or_default().react(event) {
            match action {
                Action::Execute { step, source, command } => {
                    let id = command_id(source, &step);
                    sends.entry(order_id).or_default().push((
                        id,
                        Send {
                            step,
                            command: *command,
                            cause: event.clone(),
                        },
                    ));
                }
                Action::Schedule { timer, due_at } => work.push((order_id, Work::from(timer), due_at)),
                Action::Refund { payment_id, refund_id } => {
                    work.push((
                        order_id,
                        Work::Refund {
                            payment_id,
                            refund_id,
                            cancellation_id: None,
                            asked_at: None,
                        },
                        event.recorded_at,
                    ));
                }
            }
        }
    }
    let ids: Vec<Uuid> = sends.values().flatten().map(|(id, _)| *id).collect();
    let known = executor.log().commands(&ids).await?;
    let failures = join_all(sends.into_iter().map(|(order_id, sends)| {
        let known = &known;
        async move {
            let mut failures = Vec::new();
            for (id, send_it) in sends {
                if known.contains_key(&id) {
                    continue;
                }
                if let Err(error) = send(executor, send_it.command, id, &send_it.cause).await {
                    if error.may_pass() {
                        return Err(RunError::Sending(error));
                    }
                    failures.push((id, order_id, send_it.cause.position, send_it.step, error.to_string()));
                }
            }
            Ok(failures)
        }
    }))
    .await;
    let failures = failures.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    save(executor, epoch, from, through, &states, &work, &failures).await?;
    metrics::gauge!("jangbu_process_position", "process" => CHECKOUT).set(f64_of(through));
    Ok(events.len().max(1))
}

/// A command under its id, and the event that caused it.
type Caused<'a> = (Uuid, AnyCommand, &'a Recorded<Event>);

/// A command to send, and why.
struct Send {
    step: String,
    command: AnyCommand,
    cause: Recorded<Event>,
}

/// How far the runner has read the log.
pub async fn position(db: &PgPool) -> sqlx::Result<i64> {
    let position = sqlx::query_scalar!("select position from process_checkpoints where process = $1", CHECKOUT)
        .fetch_optional(db)
        .await?;
    Ok(position.unwrap_or(0))
}

/// The next events the checkout wants to see, and up to where they are complete.
async fn read(db: &PgPool, from: i64, ripe: i64) -> Result<(Vec<Recorded<Event>>, i64), RunError> {
    if ripe <= from {
        return Ok((Vec::new(), from));
    }
    // Also under the names that they had before.
    let types = stored_types(UPCASTERS, Checkout::EVENT_TYPES);
    let raw = reading::read_types(db, from, ripe, &types, ROUND).await?;
    // A full round may have left more behind its last event; a shorter one has seen everything.
    let full = i64::try_from(raw.len()).is_ok_and(|read| read == ROUND);
    let through = if full {
        raw.last().map_or(from, |event| event.position)
    } else {
        ripe
    };
    let mut events = Vec::with_capacity(raw.len());
    for event in raw {
        let position = event.position;
        events.extend(
            event
                .decode()
                .map_err(|source| RunError::Undecodable { position, source })?,
        );
    }
    Ok((events, through))
}

async fn load_states(db: &PgPool, events: &[Recorded<Event>]) -> Result<HashMap<OrderId, Checkout>, RunError> {
    let keys: Vec<String> = events
        .iter()
        .filter_map(Checkout::key)
        .map(|id| id.to_string())
        .collect();
    let rows = sqlx::query!(
        r#"select key, state::text as "state!" from process_states where process = $1 and key = any($2)"#,
        CHECKOUT,
        &keys,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .filter_map(|row| Some((row.key.parse().ok()?, row)))
        .map(|(order_id, row)| {
            let state = serde_json::from_str(&row.state).map_err(|source| RunError::State {
                order_id: row.key,
                source,
            })?;
            Ok((order_id, state))
        })
        .collect()
}

/// Writes what was learnt in one transaction, which only the holder of the lease can, and only from
/// where this round began.
async fn save(
    executor: &Executor,
    epoch: i64,
    from: i64,
    through: i64,
    states: &HashMap<OrderId, Checkout>,
    work: &[(OrderId, Work, Timestamp)],
    failures: &[(Uuid, OrderId, i64, String, String)],
) -> Result<(), RunError> {
    let mut tx = executor.log().pool().begin().await?;
    let moved = sqlx::query!(
        "insert into process_checkpoints (process, position, epoch) values ($1, $2, $3)
        on conflict (process) do update set position = $2, epoch = $3
        where process_checkpoints.position = $4 and process_checkpoints.epoch <= $3",
        CHECKOUT,
        through,
        epoch,
        from,
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 0 {
        return Err(RunError::Fenced);
    }
    let (keys, json): (Vec<String>, Vec<String>) = states
        .iter()
        .map(|(order_id, state)| {
            (
                order_id.to_string(),
                serde_json::to_string(state).expect("a process state serialises"),
            )
        })
        .unzip();
    sqlx::query!(
        "insert into process_states (process, key, state)
        select $1, key, state::jsonb from unnest($2::text[], $3::text[]) as t (key, state)
        on conflict (process, key) do update set state = excluded.state",
        CHECKOUT,
        &keys,
        &json,
    )
    .execute(&mut *tx)
    .await?;
    for (order_id, work, due_at) in work {
        timers::set(&mut tx, *order_id, work, *due_at).await?;
    }
    for (command_id, order_id, position, step, error) in failures {
        tracing::error!(order.id = %order_id, step, error, "the checkout could not get a command through");
        metrics::counter!("jangbu_process_failures", "process" => CHECKOUT).increment(1);
        sqlx::query!(
            "insert into process_failures (command_id, process, key, position, step, error, failed_at)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (command_id) do nothing",
            command_id,
            CHECKOUT,
            order_id.to_string(),
            position,
            step,
            error,
            executor.log().surroundings().now(),
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// For gauges, which count in floating point.
#[expect(clippy::cast_precision_loss, reason = "a gauge shows about 15 digits")]
const fn f64_of(position: i64) -> f64 {
    position as f64
}
