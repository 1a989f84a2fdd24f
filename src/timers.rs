//! Work that is due at a time: deadlines of orders, refunds, the alarm for forgotten holds.
//!
//! A timer is a row. Whoever takes it pushes its `due_at` a while ahead, so that a process that dies
//! over it leaves it to the next; done, it is deleted. Doing it twice is harmless. What is decided stands
//! in `core.rs`, what is done in `work.rs`.

pub mod core;
mod work;

use futures_util::future::join_all;
use jangbu_domain::Timer;
use jangbu_events::{AggregateId, OrderId, PaymentId, RefundReason, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use self::core::TAKEN_FOR;
pub use self::{core::WAITS_FOR_ACCOUNT, work::Timers};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Re-read the payment of an order whose time is up; expire the order unless it was paid.
    OrderDeadline {
        /// Which order.
        order_id: OrderId,
        /// The payment it waits for.
        payment_id: PaymentId,
    },
    /// Alarm if the order still holds stock.
    HoldBackstop {
        /// Which order.
        order_id: OrderId,
    },
    /// Ask PortOne to give money back.
    Refund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Which request: PortOne's `Idempotency-Key`.
        refund_id: String,
        /// PortOne's id of it, once it has begun and is not done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancellation_id: Option<String>,
        /// When PortOne was first asked under this key; written before it is asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked_at: Option<Timestamp>,
    },
    /// Wish again for a refund that the shop owes and PortOne refused.
    RefundAgain {
        /// Of which payment.
        payment_id: PaymentId,
        /// Why the shop owes it.
        reason: RefundReason,
    },
    /// Close an account number that nobody should pay into any more.
    CloseAccount {
        /// Which payment.
        payment_id: PaymentId,
    },
}

/// Kinds that are done apart from each other, so that slow ones hold up only their like.
pub const KINDS: [&[&str]; 2] = [
    &["order_deadline", "hold_backstop", "close_account"],
    &["refund", "refund_again"],
];

impl From<Timer> for Work {
    fn from(timer: Timer) -> Self {
        match timer {
            Timer::OrderDeadline { order_id, payment_id } => Self::OrderDeadline { order_id, payment_id },
            Timer::HoldBackstop { order_id } => Self::HoldBackstop { order_id },
            Timer::CloseAccount { payment_id, .. } => Self::CloseAccount { payment_id },
        }
    }
}

impl Work {
    /// As in the `kind` column.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::OrderDeadline { .. } => "order_deadline",
            Self::HoldBackstop { .. } => "hold_backstop",
            Self::Refund { .. } => "refund",
            Self::RefundAgain { .. } => "refund_again",
            Self::CloseAccount { .. } => "close_account",
        }
    }

    /// The same work of an order has the same timer.
    pub fn timer_id(&self, order_id: OrderId) -> Uuid {
        let name = match self {
            Self::Refund { refund_id, .. } => format!("refund:{refund_id}"),
            Self::RefundAgain { payment_id, .. } => format!("refund_again:{payment_id}"),
            Self::OrderDeadline { .. } | Self::HoldBackstop { .. } | Self::CloseAccount { .. } => {
                self.kind().to_owned()
            }
        };
        Uuid::new_v5(&order_id.uuid(), name.as_bytes())
    }
}

/// A timer that was taken.
#[derive(Debug)]
pub struct Taken {
    /// Which.
    pub timer_id: Uuid,
    /// What is to be done.
    pub work: Work,
    /// How often it was taken, this time included.
    pub attempts: i32,
    /// Until when it is ours.
    until: Timestamp,
}

/// What became of a timer.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// It is over.
    Finished,
    /// Try again at a time.
    Again {
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
        /// What is to be done then, if it is not the same.
        work: Option<Work>,
    },
}

/// Sets a timer in somebody's transaction; one that is set already is set anew.
pub async fn set(db: &mut PgConnection, order_id: OrderId, work: &Work, due_at: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into timers (timer_id, kind, key, payload, due_at) values ($1, $2, $3, $4, $5)
        on conflict (timer_id) do update set payload = excluded.payload, due_at = excluded.due_at, attempts = 0",
        work.timer_id(order_id),
        work.kind(),
        order_id.to_string(),
        serde_json::to_value(work).expect("work serialises"),
        due_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

impl Timers {
    /// Takes what is due and does it; gives how many there were. For tests: a process takes timers
    /// one by one as it has room ([`Timers::take`]).
    pub async fn round(&self, now: Timestamp) -> sqlx::Result<usize> {
        let mut count = 0;
        for kinds in KINDS {
            let taken = self.take(now, kinds, 32).await?;
            count += taken.len();
            join_all(taken.into_iter().map(|timer| self.carry_out(timer)))
                .await
                .into_iter()
                .collect::<sqlx::Result<Vec<()>>>()?;
        }
        Ok(count)
    }

    /// Does the work of a timer that was taken, and deletes the timer or puts it off.
    pub async fn carry_out(&self, timer: Taken) -> sqlx::Result<()> {
        let done = self.perform(&timer).await;
        if let Done::Again { why, .. } = &done {
            tracing::warn!(
                timer = timer.work.kind(),
                attempts = timer.attempts,
                why,
                "a timer is put off"
            );
        }
        self.settle(&timer, done).await
    }

    /// Takes up to `limit` timers of some kinds that are due.
    pub async fn take(&self, now: Timestamp, kinds: &[&str], limit: usize) -> sqlx::Result<Vec<Taken>> {
        let until = now + TAKEN_FOR;
        let rows = sqlx::query!(
            "update timers set due_at = $2, attempts = attempts + 1
            where timer_id in (
                select timer_id from timers
                where due_at <= $1 and kind = any($3)
                order by due_at
                limit $4
                for update skip locked
            )
            returning timer_id, payload, attempts",
            now,
            until,
            kinds as _,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .fetch_all(self.db())
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| match serde_json::from_value(row.payload) {
                Ok(work) => Some(Taken {
                    timer_id: row.timer_id,
                    work,
                    attempts: row.attempts,
                    until,
                }),
                Err(error) => {
                    tracing::error!(timer.id = %row.timer_id, %error, "a timer of an unknown kind is left alone");
                    None
                }
            })
            .collect())
    }

    /// Writes down, before anything else is done, what is to be done if this process dies over it;
    /// `false` if the timer is no longer its own.
    async fn remember(&self, timer: &Taken, work: &Work) -> sqlx::Result<bool> {
        let done = sqlx::query!(
            "update timers set payload = $4 where timer_id = $1 and due_at = $2 and attempts = $3",
            timer.timer_id,
            timer.until,
            timer.attempts,
            serde_json::to_value(work).expect("work serialises"),
        )
        .execute(self.db())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Deletes or puts off a timer, unless it was set anew or taken over in the meantime.
    async fn settle(&self, timer: &Taken, done: Done) -> sqlx::Result<()> {
        match done {
            Done::Finished => {
                sqlx::query!(
                    "delete from timers where timer_id = $1 and due_at = $2 and attempts = $3",
                    timer.timer_id,
                    timer.until,
                    timer.attempts,
                )
                .execute(self.db())
                .await?;
            }
            Done::Again { at, why, work } => {
                sqlx::query!(
                    "update timers set due_at = $4, last_error = $5, payload = coalesce($6, payload)
                    where timer_id = $1 and due_at = $2 and attempts = $3",
                    timer.timer_id,
                    timer.until,
                    timer.attempts,
                    at,
                    why,
                    work.map(|work| serde_json::to_value(work).expect("work serialises")),
                )
                .execute(self.db())
                .await?;
            }
        }
        Ok(())
    }
}
