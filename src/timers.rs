//! Work that is due at a time: deadlines of orders, refunds, the alarm for forgotten holds.
//!
//! A timer is a row. Whoever takes it pushes its `due_at` a while ahead, so that a process that dies
//! over it leaves it to the next; done, it is deleted. Doing it twice is harmless.

mod work;

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use jangbu_domain::Timer;
use jangbu_events::{AggregateId, OrderId, PaymentId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

pub use self::work::Timers;

/// How long whoever took a timer has for it before another may take it.
const TAKEN_FOR: TimeDelta = TimeDelta::seconds(120);
/// Timers taken at once.
const TAKEN_MAX: i64 = 32;

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
    },
}

impl From<Timer> for Work {
    fn from(timer: Timer) -> Self {
        match timer {
            Timer::OrderDeadline { order_id, payment_id } => Self::OrderDeadline { order_id, payment_id },
            Timer::HoldBackstop { order_id } => Self::HoldBackstop { order_id },
        }
    }
}

impl Work {
    /// As in the `kind` column.
    const fn kind(&self) -> &'static str {
        match self {
            Self::OrderDeadline { .. } => "order_deadline",
            Self::HoldBackstop { .. } => "hold_backstop",
            Self::Refund { .. } => "refund",
        }
    }

    /// The same work of an order has the same timer.
    fn timer_id(&self, order_id: OrderId) -> Uuid {
        let name = match self {
            Self::OrderDeadline { .. } | Self::HoldBackstop { .. } => self.kind().to_owned(),
            Self::Refund { refund_id, .. } => format!("refund:{refund_id}"),
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
    /// Takes what is due and does it; gives how many there were.
    pub async fn round(&self, now: Timestamp) -> sqlx::Result<usize> {
        let taken = self.take(now).await?;
        let count = taken.len();
        join_all(taken.into_iter().map(|timer| async move {
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
        }))
        .await
        .into_iter()
        .collect::<sqlx::Result<Vec<()>>>()?;
        Ok(count)
    }

    /// How long until the next timer is due, at most `most`.
    pub async fn next_due(&self, now: Timestamp, most: Duration) -> sqlx::Result<Duration> {
        let due = sqlx::query_scalar!("select min(due_at) from timers")
            .fetch_one(self.db())
            .await?;
        Ok(due.map_or(most, |due| (due - now).to_std().unwrap_or_default().min(most)))
    }

    async fn take(&self, now: Timestamp) -> sqlx::Result<Vec<Taken>> {
        let until = now + TAKEN_FOR;
        let rows = sqlx::query!(
            "update timers set due_at = $2, attempts = attempts + 1
            where timer_id in (
                select timer_id from timers
                where due_at <= $1
                order by due_at
                limit $3
                for update skip locked
            )
            returning timer_id, payload, attempts",
            now,
            until,
            TAKEN_MAX,
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
            Done::Again { at, why } => {
                sqlx::query!(
                    "update timers set due_at = $4, last_error = $5
                    where timer_id = $1 and due_at = $2 and attempts = $3",
                    timer.timer_id,
                    timer.until,
                    timer.attempts,
                    at,
                    why,
                )
                .execute(self.db())
                .await?;
            }
        }
        Ok(())
    }
}
