//! The table of timers, as the statements in `src/timers.rs` treat it, and what is done when one is due:
//! the real decisions of `src/timers/core.rs`, one step at a time.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use jangbu_domain::{AnyCommand, OrderCommand, PaymentCommand, Refunding, payment::OpenRefund};
use jangbu_events::{OrderId, PaymentId, RefundReason, Timestamp};
use uuid::Uuid;

use super::{
    portone::{Answer, Paid, Request},
    purchase::{Said, World},
    shop::state,
};
use crate::timers::{
    Done, Work,
    core::{Deadline, Expiry, Memory, Refund as Next, TAKEN_FOR, Word, expiry, pause, taken_on, wished_again},
};

pub struct Row {
    order_id: OrderId,
    work: Work,
    pub due_at: Timestamp,
    attempts: i32,
}

/// A timer that was taken.
#[derive(Clone)]
pub struct Taken {
    timer_id: Uuid,
    order_id: OrderId,
    work: Work,
    attempts: i32,
    until: Timestamp,
}

#[derive(Default)]
pub struct Timers(pub BTreeMap<Uuid, Row>);

impl Timers {
    pub fn set(&mut self, order_id: OrderId, work: Work, due_at: Timestamp) {
        let row = Row {
            order_id,
            due_at,
            attempts: 0,
            work,
        };
        self.0.insert(row.work.timer_id(order_id), row);
    }

    /// The one that is due the longest.
    pub fn take(&mut self, now: Timestamp) -> Option<Taken> {
        let due = self.0.iter_mut().filter(|(_, row)| row.due_at <= now);
        let (timer_id, row) = due.min_by_key(|(_, row)| row.due_at)?;
        row.due_at = now + TAKEN_FOR;
        row.attempts += 1;
        Some(Taken {
            timer_id: *timer_id,
            order_id: row.order_id,
            work: row.work.clone(),
            attempts: row.attempts,
            until: row.due_at,
        })
    }

    fn own(&mut self, taken: &Taken) -> Option<&mut Row> {
        let row = self.0.get_mut(&taken.timer_id)?;
        ((row.due_at, row.attempts) == (taken.until, taken.attempts)).then_some(row)
    }

    fn remember(&mut self, taken: &Taken, work: Work) -> bool {
        self.own(taken).map(|row| row.work = work).is_some()
    }

    fn settle(&mut self, taken: &Taken, done: Done) {
        let Some(row) = self.own(taken) else { return };
        match done {
            Done::Finished => drop(self.0.remove(&taken.timer_id)),
            Done::Again { at, work, .. } => {
                row.due_at = at;
                row.work = work.unwrap_or_else(|| row.work.clone());
            }
        }
    }
}

/// A timer's work, between two steps of it.
pub struct Working {
    taken: Taken,
    stage: Stage,
    /// The payment as it was read, however long ago that is by now.
    seen: Option<Paid>,
}

enum Stage {
    Begin,
    /// PortOne was asked how the payment stands; what it said is not known to the shop yet.
    Read(PaymentId, Option<Said>),
    /// The shop knows what PortOne said, or that it said nothing.
    Known(Word),
    Expire,
    /// What was seen of the refund, as stale as it may be by now.
    Ask(Request, OpenRefund),
    Answered(Request, OpenRefund, Option<Answer>),
    Failed(PaymentId, OpenRefund),
    Record(PaymentId, OpenRefund),
    WishAgain(PaymentId, RefundReason),
    Settle(Done),
}

impl Working {
    pub const fn new(taken: Taken) -> Self {
        Self {
            taken,
            stage: Stage::Begin,
            seen: None,
        }
    }

    /// Whether it is about to ask PortOne for money back.
    pub const fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Ask(..))
    }

    /// The next step; `None` once all is done. `now` is by the clock of the process.
    pub fn step(self, world: &mut World, now: Timestamp) -> Option<Self> {
        let Self { taken, stage, mut seen } = self;
        let stage = match stage {
            Stage::Begin => {
                let stage = begin(&taken, world, now);
                if let Stage::Read(payment_id, _) = &stage {
                    seen = world.portone.payments.get(payment_id).cloned();
                }
                stage
            }
            Stage::Read(payment_id, said) => {
                world.observe(payment_id, said, now);
                Stage::Known(Word::Nothing)
            }
            Stage::Known(answer) => known(&taken, answer, seen.as_ref(), world, now),
            Stage::Expire => {
                let command = AnyCommand::Order(taken.order_id, OrderCommand::Expire { now });
                Stage::Settle(match world.shop.ask(&command, now) {
                    Ok(_) => Done::Finished,
                    Err(_) => again(now, TimeDelta::minutes(1)),
                })
            }
            Stage::Ask(request, open) => {
                let answer = world.cancel(&request);
                Stage::Answered(request, open, answer)
            }
            Stage::Answered(request, open, answer) => answered(&taken, &request, open, answer, world, now),
            Stage::Failed(payment_id, open) => {
                wish_again(&taken, payment_id, &open, world, now);
                Stage::Record(payment_id, open)
            }
            Stage::Record(payment_id, open) => {
                let command = PaymentCommand::RecordRefundFailure {
                    refund_id: open.refund_id,
                    code: "REFUSED".to_owned(),
                    pg_code: None,
                };
                _ = world.shop.ask(&AnyCommand::Payment(payment_id, command), now);
                Stage::Settle(Done::Finished)
            }
            Stage::WishAgain(payment_id, reason) => {
                let refund = PaymentCommand::RequestRefund {
                    payment_id,
                    refund: Refunding::Next,
                    amount: None,
                    reason,
                    account: None,
                };
                // An operator may have been faster.
                _ = world.shop.ask(&AnyCommand::Payment(payment_id, refund), now);
                Stage::Settle(Done::Finished)
            }
            Stage::Settle(done) => {
                world.timers.settle(&taken, done);
                return None;
            }
        };
        Some(Self { taken, stage, seen })
    }
}

fn again(now: Timestamp, after: TimeDelta) -> Done {
    Done::Again {
        at: now + after,
        why: String::new(),
        work: None,
    }
}

fn waits_longer(deadline: Deadline) -> Option<Stage> {
    match deadline {
        Deadline::Over => Some(Stage::Settle(Done::Finished)),
        Deadline::Until(at) => Some(Stage::Settle(Done::Again {
            at,
            why: String::new(),
            work: None,
        })),
        Deadline::Up => None,
    }
}

fn begin(taken: &Taken, world: &mut World, now: Timestamp) -> Stage {
    let payment_id = match &taken.work {
        Work::OrderDeadline { order_id, payment_id } => {
            if let Some(stage) = waits_longer(Deadline::of(&state(&world.shop.orders, *order_id), now)) {
                return stage;
            }
            *payment_id
        }
        Work::Refund { payment_id, .. } | Work::RefundAgain { payment_id, .. } => *payment_id,
        Work::HoldBackstop { order_id } => {
            let held = world
                .shop
                .stock
                .values()
                .any(|(stock, _)| stock.holds.contains_key(order_id));
            return Stage::Settle(if held {
                again(now, TimeDelta::days(1))
            } else {
                Done::Finished
            });
        }
        // Nobody here is given an account number.
        Work::CloseAccount { .. } => return Stage::Settle(Done::Finished),
    };
    match world.reread(payment_id) {
        Err(()) if matches!(taken.work, Work::OrderDeadline { .. }) => Stage::Known(Word::Silence),
        Err(()) => Stage::Settle(again(now, TimeDelta::seconds(10))),
        Ok(seen) => Stage::Read(payment_id, seen),
    }
}

fn known(taken: &Taken, answer: Word, seen: Option<&Paid>, world: &mut World, now: Timestamp) -> Stage {
    match &taken.work {
        Work::OrderDeadline { order_id, .. } => {
            if let Some(stage) = waits_longer(Deadline::of(&state(&world.shop.orders, *order_id), now)) {
                return stage;
            }
            match expiry(answer, now, taken.attempts) {
                Expiry::Later { after, .. } => Stage::Settle(again(now, after)),
                Expiry::Expire => Stage::Expire,
            }
        }
        Work::RefundAgain { payment_id, reason } => Stage::WishAgain(*payment_id, *reason),
        Work::Refund {
            payment_id, refund_id, ..
        } => refund(taken, *payment_id, refund_id, seen, world, now),
        Work::HoldBackstop { .. } | Work::CloseAccount { .. } => unreachable!("no payment is read for these"),
    }
}

/// As `Timers::refund`, from where the payment is known.
fn refund(
    taken: &Taken,
    payment_id: PaymentId,
    refund_id: &str,
    seen: Option<&Paid>,
    world: &mut World,
    now: Timestamp,
) -> Stage {
    let payment = state(&world.shop.payments, payment_id);
    let open = payment.money().and_then(|(_, returned)| returned.open.clone());
    let Some(open) = open.filter(|open| open.refund_id == refund_id) else {
        return Stage::Settle(Done::Finished);
    };
    let Some(paid) = seen else {
        return Stage::Settle(again(now, pause(taken.attempts)));
    };
    let (begun, asked_at) = memory_of(&taken.work);
    let memory = Memory { begun, asked_at };
    let request = Request {
        payment_id,
        key: refund_id.to_owned(),
        amount: open.amount,
        expected: open.cancellable,
    };
    match memory.next(&paid.seen(), open.cancellable, true, now, taken.attempts) {
        Next::Ask => Stage::Ask(request, open),
        Next::AskFirst => {
            let ours = world.timers.remember(taken, remembering(&taken.work, None, Some(now)));
            if ours {
                Stage::Ask(request, open)
            } else {
                Stage::Settle(again(now, pause(taken.attempts)))
            }
        }
        decided => carry_out(taken, payment_id, open, decided, now),
    }
}

fn answered(
    taken: &Taken,
    request: &Request,
    open: OpenRefund,
    answer: Option<Answer>,
    world: &mut World,
    now: Timestamp,
) -> Stage {
    let payment_id = request.payment_id;
    let reread = |world: &mut World| {
        if let Ok(seen) = world.reread(payment_id) {
            world.observe(payment_id, seen, now);
        }
    };
    match answer {
        None => Stage::Settle(again(now, pause(taken.attempts))),
        Some(Answer::Refused) => {
            reread(world);
            Stage::Failed(payment_id, open)
        }
        Some(Answer::TakenOn { id, how }) => {
            if let Some(decided) = taken_on(&id, how, taken.attempts) {
                return carry_out(taken, payment_id, open, decided, now);
            }
            reread(world);
            let payment = state(&world.shop.payments, payment_id);
            let open = payment.money().and_then(|(_, returned)| returned.open.as_ref());
            let still_open = open.is_some_and(|open| open.refund_id == request.key);
            Stage::Settle(if still_open {
                again(now, pause(taken.attempts))
            } else {
                Done::Finished
            })
        }
    }
}

fn carry_out(taken: &Taken, payment_id: PaymentId, open: OpenRefund, decided: Next, now: Timestamp) -> Stage {
    match decided {
        Next::Later { after, .. } => Stage::Settle(again(now, after)),
        Next::Begun { cancellation_id, after } => {
            let (_, asked_at) = memory_of(&taken.work);
            Stage::Settle(Done::Again {
                at: now + after,
                why: String::new(),
                work: Some(remembering(&taken.work, Some(cancellation_id), asked_at)),
            })
        }
        Next::Failed { .. } => Stage::Failed(payment_id, open),
        Next::Ask | Next::AskFirst => unreachable!("whoever asks has the answer"),
    }
}

/// The first half of `Timers::failed`.
fn wish_again(taken: &Taken, payment_id: PaymentId, open: &OpenRefund, world: &mut World, now: Timestamp) {
    let payment = state(&world.shop.payments, payment_id);
    let Some((_, returned)) = payment.money() else { return };
    let still_open = returned
        .open
        .as_ref()
        .is_some_and(|one| one.refund_id == open.refund_id);
    let reason = open.reason;
    if let Some(wait) = wished_again(reason.is_owed(), returned.requested.len()).filter(|_| still_open) {
        let work = Work::RefundAgain { payment_id, reason };
        world.timers.set(taken.order_id, work, now + wait);
    }
}

fn memory_of(work: &Work) -> (Option<&str>, Option<Timestamp>) {
    match work {
        Work::Refund {
            cancellation_id,
            asked_at,
            ..
        } => (cancellation_id.as_deref(), *asked_at),
        _ => (None, None),
    }
}

fn remembering(work: &Work, begun: Option<String>, asked: Option<Timestamp>) -> Work {
    match work.clone() {
        Work::Refund {
            payment_id, refund_id, ..
        } => Work::Refund {
            payment_id,
            refund_id,
            cancellation_id: begun,
            asked_at: asked,
        },
        other => other,
    }
}
