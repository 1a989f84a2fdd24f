//! Collects everything about one order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cqrs_es::Aggregate;
use jangbu_domain::{Action, Cart, Checkout, Order, Payment, command_id};
use jangbu_events::{CartEvent, Event, OrderEvent, OrderId, PaymentEvent, PaymentId, RawEvent, Recorded, Timestamp};
use uuid::Uuid;

use super::{Act, Effect, EffectState, ExplainError, Explanation, Outcome, Who, time};
use crate::{
    executor::LoadError,
    log::{CommandRow, Log, reading},
    processes,
    timers::Work,
};

/// What is known so far, and what is still to be told to the checkout.
struct Gathering<'a> {
    log: &'a Log,
    order_id: OrderId,
    checkout: Checkout,
    /// By position: each is told once, after everything before it.
    waiting: BTreeMap<i64, Vec<Recorded<Event>>>,
    events: BTreeMap<i64, Vec<Recorded<Event>>>,
    /// What the checkout sent or is to send.
    sent: Vec<Sent>,
    effects: Vec<Set>,
}

/// A command of the checkout.
struct Sent {
    command_id: Uuid,
    step: String,
    aggregate: String,
    /// The event upon which it was seen here.
    caused_by: Uuid,
    row: Option<CommandRow>,
}

/// Something that the checkout set.
struct Set {
    work: Work,
    due_at: Timestamp,
    caused_by: Uuid,
    /// Of the event.
    position: i64,
}

/// A row of `timers`.
struct TimerRow {
    timer_id: Uuid,
    kind: String,
    due_at: Timestamp,
    attempts: i32,
    last_error: Option<String>,
}

/// Explains an order from the log, the checkout's failures and the timers that wait.
pub async fn explain(log: &Log, order_id: OrderId) -> Result<Explanation, ExplainError> {
    let mut gathering = Gathering {
        log,
        order_id,
        checkout: Checkout::default(),
        waiting: BTreeMap::new(),
        events: BTreeMap::new(),
        sent: Vec::new(),
        effects: Vec::new(),
    };
    let order = gathering.begin().await?;
    gathering.follow().await?;
    let failures = failures(log, order_id).await?;
    let runner = processes::position(log.pool()).await?;
    let timers = timers(log, order_id).await?;
    let (status, number) = (order.status(), order.details());
    Ok(Explanation {
        order_id: order_id.to_string(),
        number: number.map(|details| details.order_number.clone()),
        status: status.ok_or(ExplainError::NotFound)?.as_str().to_owned(),
        position: gathering.events.keys().next_back().copied().unwrap_or(0),
        effects: gathering.effects(runner, timers),
        commands: gathering.acts(&failures),
    })
}

impl Gathering<'_> {
    /// The order's own stream, those of its payments, and what its cart says of it.
    async fn begin(&mut self) -> Result<Order, ExplainError> {
        let events = self.stream(Order::TYPE, &self.order_id.to_string()).await?;
        let mut order = Order::default();
        let mut payments: BTreeSet<PaymentId> = [PaymentId::of(self.order_id, 1)].into();
        let mut cart = None;
        for event in &events {
            let Event::Order(event) = &event.payload else { continue };
            order.apply(event.clone());
            match event {
                OrderEvent::Placed { cart_id, .. } => cart = Some(*cart_id),
                OrderEvent::AwaitingPayment { payment_id, .. }
                | OrderEvent::Confirmed { payment_id, .. }
                | OrderEvent::PaymentRejected { payment_id, .. }
                | OrderEvent::Refunded { payment_id, .. } => {
                    payments.insert(*payment_id);
                }
                OrderEvent::DeadlineExtended { .. }
                | OrderEvent::Cancelled { .. }
                | OrderEvent::Refused { .. }
                | OrderEvent::Expired {}
                | OrderEvent::Imported { .. } => {}
            }
        }
        if events.is_empty() {
            return Err(ExplainError::NotFound);
        }
        self.know(events);
        for payment in payments {
            let events = self.stream(Payment::TYPE, &payment.to_string()).await?;
            self.know(events);
        }
        if let Some(cart) = cart {
            let mut events = self.stream(Cart::TYPE, &cart.to_string()).await?;
            // What went into the cart before, and other orders made of it, are other stories.
            events.retain(|event| match &event.payload {
                Event::Cart(CartEvent::CheckedOut { order_id, .. } | CartEvent::Reopened { order_id, .. }) => {
                    *order_id == self.order_id
                }
                _ => false,
            });
            self.know(events);
        }
        Ok(order)
    }

    async fn stream(&self, aggregate_type: &str, aggregate_id: &str) -> Result<Vec<Recorded<Event>>, ExplainError> {
        decoded(&self.log.stream(aggregate_type, aggregate_id, 0).await?)
    }

    fn know(&mut self, events: Vec<Recorded<Event>>) {
        let mut news: BTreeMap<i64, Vec<Recorded<Event>>> = BTreeMap::new();
        for event in events {
            news.entry(event.position).or_default().push(event);
        }
        news.retain(|position, _| !self.events.contains_key(position));
        self.waiting.extend(news);
    }

    /// Tells the checkout every event in the order of the log, and finds what it sent upon each.
    async fn follow(&mut self) -> Result<(), ExplainError> {
        while let Some((position, events)) = self.waiting.pop_first() {
            let mut asked = Vec::new();
            for event in &events {
                for action in self.checkout.react(event) {
                    match action {
                        Action::Execute { step, source, command } => asked.push(Sent {
                            command_id: command_id(source, &step),
                            step,
                            aggregate: processes::aggregate(&command),
                            caused_by: event.event_id,
                            row: None,
                        }),
                        Action::Schedule { timer, due_at } => self.effects.push(Set {
                            work: timer.into(),
                            due_at,
                            caused_by: event.event_id,
                            position,
                        }),
                        Action::Refund { payment_id, refund_id } => self.effects.push(Set {
                            work: Work::Refund {
                                payment_id,
                                refund_id,
                                cancellation_id: None,
                                asked_at: None,
                            },
                            due_at: event.recorded_at,
                            caused_by: event.event_id,
                            position,
                        }),
                    }
                }
            }
            self.events.insert(position, events);
            self.look_up(asked).await?;
        }
        Ok(())
    }

    /// What came of the commands, and the events they left elsewhere: on the stock.
    async fn look_up(&mut self, mut asked: Vec<Sent>) -> Result<(), ExplainError> {
        let known: BTreeSet<Uuid> = self.sent.iter().map(|sent| sent.command_id).collect();
        asked.retain(|sent| !known.contains(&sent.command_id));
        if asked.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = asked.iter().map(|sent| sent.command_id).collect();
        let mut rows = self.log.commands(&ids).await?;
        for mut sent in asked {
            sent.row = rows.remove(&sent.command_id);
            if let Some(row) = &sent.row {
                let before = row.sequence - i64::from(row.events);
                let (kind, id) = (&row.aggregate_type, &row.aggregate_id);
                let raw = reading::stream(self.log.pool(), kind, id, before, row.sequence).await?;
                self.know(decoded(&raw)?);
            }
            self.sent.push(sent);
        }
        Ok(())
    }

    /// Every command, by the place in the log at which it was carried out; what was not, at the end.
    fn acts(self, failures: &HashMap<Uuid, String>) -> Vec<Act> {
        let mut left: HashMap<Uuid, Vec<Recorded<Event>>> = HashMap::new();
        for event in self.events.into_values().flatten() {
            left.entry(event.command_id).or_default().push(event);
        }
        let mut acts: Vec<(i64, Act)> = Vec::new();
        for sent in self.sent {
            let events = left.remove(&sent.command_id).unwrap_or_default();
            let error = failures.get(&sent.command_id).cloned();
            let outcome = match (&sent.row, &error) {
                (Some(row), _) if row.events > 0 => Outcome::Done,
                (Some(_), _) => Outcome::ChangedNothing,
                (None, Some(_)) => Outcome::Failed,
                (None, None) => Outcome::Pending,
            };
            let first = events.first();
            let at = first
                .map(|event| event.position)
                .or(sent.row.as_ref().map(|row| row.position));
            acts.push((
                at.unwrap_or(i64::MAX),
                Act {
                    command_id: sent.command_id,
                    caused_by: first.and_then(|event| event.causation_id).or(Some(sent.caused_by)),
                    step: Some(sent.step),
                    aggregate: sent.aggregate,
                    outcome,
                    error,
                    by: first.map(|event| Who::from(&event.metadata)),
                    re_read: false,
                    recorded_at: sent.row.map(|row| time(row.recorded_at)),
                    events: events.iter().map(Into::into).collect(),
                },
            ));
        }
        acts.extend(left.into_values().filter_map(|events| {
            let first = events.first()?;
            Some((first.position, from_outside(first, &events)))
        }));
        // Commands that changed nothing share the place of the event before them: that one comes first.
        acts.sort_by_key(|(position, act)| (*position, act.events.is_empty()));
        acts.into_iter().map(|(_, act)| act).collect()
    }

    /// Timers that wait, and how far the runner had come before they were read.
    fn effects(&self, runner: i64, timers: Vec<TimerRow>) -> Vec<Effect> {
        let mut waiting: HashMap<Uuid, TimerRow> = timers.into_iter().map(|row| (row.timer_id, row)).collect();
        let mut effects = Vec::new();
        // From the last on: a timer that was set again is the later one.
        let mut seen = BTreeSet::new();
        for set in self.effects.iter().rev() {
            let id = set.work.timer_id(self.order_id);
            // Timers are set by the runner alone, whoever was faster with the commands.
            let is_set = set.position <= runner;
            let row = if is_set { waiting.remove(&id) } else { None };
            let state = if !is_set {
                EffectState::Pending
            } else if !seen.insert(id) {
                EffectState::Replaced
            } else if row.is_some() {
                EffectState::Waiting
            } else {
                EffectState::Over
            };
            effects.push(Effect {
                kind: set.work.kind().to_owned(),
                caused_by: Some(set.caused_by),
                due_at: time(row.as_ref().map_or(set.due_at, |row| row.due_at)),
                state,
                attempts: row.as_ref().map_or(0, |row| row.attempts),
                last_error: row.and_then(|row| row.last_error),
            });
        }
        effects.reverse();
        let mut others: Vec<TimerRow> = waiting.into_values().collect();
        others.sort_by_key(|row| (row.due_at, row.timer_id));
        effects.extend(others.into_iter().map(|row| Effect {
            kind: row.kind,
            caused_by: None,
            due_at: time(row.due_at),
            state: EffectState::Waiting,
            attempts: row.attempts,
            last_error: row.last_error,
        }));
        effects
    }
}

/// A command that the checkout did not send.
fn from_outside(first: &Recorded<Event>, events: &[Recorded<Event>]) -> Act {
    Act {
        command_id: first.command_id,
        caused_by: first.causation_id,
        step: None,
        aggregate: format!("{}/{}", first.aggregate_type, first.aggregate_id),
        outcome: Outcome::Done,
        error: None,
        by: Some((&first.metadata).into()),
        re_read: events.iter().any(is_observed),
        recorded_at: Some(time(first.recorded_at)),
        events: events.iter().map(Into::into).collect(),
    }
}

/// Whether only PortOne can have said so. Webhook, browser return, timer and reconciliation all ask it.
const fn is_observed(event: &Recorded<Event>) -> bool {
    matches!(
        event.payload,
        Event::Payment(
            PaymentEvent::VirtualAccountIssued { .. }
                | PaymentEvent::Confirmed { .. }
                | PaymentEvent::Failed { .. }
                | PaymentEvent::Refused { .. }
                | PaymentEvent::Cancelled { .. }
        )
    )
}

fn decoded(raw: &[RawEvent]) -> Result<Vec<Recorded<Event>>, ExplainError> {
    let mut events = Vec::with_capacity(raw.len());
    for raw in raw {
        let decoded = raw.decode().map_err(|source| LoadError::Undecodable {
            stream: format!("{}/{}", raw.aggregate_type, raw.aggregate_id),
            source,
        })?;
        events.extend(decoded);
    }
    Ok(events)
}

/// Steps that could not be done, by command.
async fn failures(log: &Log, order_id: OrderId) -> sqlx::Result<HashMap<Uuid, String>> {
    let rows = sqlx::query!(
        "select command_id, error from process_failures where key = $1",
        order_id.to_string()
    )
    .fetch_all(log.pool())
    .await?;
    Ok(rows.into_iter().map(|row| (row.command_id, row.error)).collect())
}

/// What is still to be done for the order.
async fn timers(log: &Log, order_id: OrderId) -> sqlx::Result<Vec<TimerRow>> {
    sqlx::query_as!(
        TimerRow,
        "select timer_id, kind, due_at, attempts, last_error from timers where key = $1",
        order_id.to_string()
    )
    .fetch_all(log.pool())
    .await
}
