//! Whether the log holds exactly what the clients were told: nothing lost, doubled or out of order.

use std::{collections::HashMap, fmt, ops::AddAssign};

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

/// What one client was told of one command.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// Which command.
    pub command_id: Uuid,
    /// Of its last event.
    pub position: i64,
    /// Of its stream, after it.
    pub sequence: i64,
    /// How many events it made.
    pub events: i64,
}

/// All three are 0, or something is badly wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Acknowledged and not in the log as acknowledged, or a hole in the log.
    pub lost: u64,
    /// In the log and never acknowledged, or there twice.
    pub duplicated: u64,
    /// Against its stream's order, its client's order or time.
    pub reordered: u64,
}

impl Verdict {
    /// Whether there is nothing to complain about.
    pub fn is_clean(self) -> bool {
        self == Self::default()
    }

    /// Compares everything behind `after` with the receipts of every client, each in the order it got them.
    pub async fn of(db: &PgPool, after: i64, clients: &[Vec<Receipt>]) -> anyhow::Result<Self> {
        let mut verdict = Self::of_log_behind(db, after).await?;
        let rows: Vec<(Uuid, i64, i64, i32)> =
            sqlx::query_as("select command_id, position, sequence, events from commands where position > $1")
                .bind(after)
                .fetch_all(db)
                .await?;
        let mut found: HashMap<Uuid, (i64, i64, i64)> = rows
            .into_iter()
            .map(|(id, position, sequence, events)| (id, (position, sequence, i64::from(events))))
            .collect();
        let mut acknowledged = 0;
        for receipts in clients {
            let mut before = 0;
            for receipt in receipts {
                acknowledged += receipt.events;
                if found.remove(&receipt.command_id) != Some((receipt.position, receipt.sequence, receipt.events)) {
                    verdict.lost += 1;
                }
                if receipt.position <= before {
                    verdict.reordered += 1;
                }
                before = receipt.position;
            }
        }
        verdict.duplicated += found.len() as u64;
        let events: i64 = sqlx::query_scalar("select count(*) from events where position > $1")
            .bind(after)
            .fetch_one(db)
            .await?;
        verdict.lost += u64::try_from(acknowledged - events).unwrap_or(0);
        verdict.duplicated += u64::try_from(events - acknowledged).unwrap_or(0);
        Ok(verdict)
    }

    /// What the log says about itself: positions and sequences dense, times monotonic, every event its own.
    pub async fn of_log(db: &PgPool) -> anyhow::Result<Self> {
        Self::of_log_behind(db, 0).await
    }

    /// The same of what came behind a position, if every stream there began there.
    async fn of_log_behind(db: &PgPool, after: i64) -> anyhow::Result<Self> {
        let (holes, disorder, inversions, twins): (i64, i64, i64, i64) = sqlx::query_as(
            "select count(*) filter (where position <> $1 + nth),
                count(*) filter (where sequence <> nth_of_stream),
                count(*) filter (where recorded_at < recorded_before),
                count(*) - count(distinct event_id)
            from (
                select position, sequence, recorded_at, event_id,
                    row_number() over (order by position) as nth,
                    row_number() over (partition by aggregate_type, aggregate_id order by position) as nth_of_stream,
                    lag(recorded_at) over (order by position) as recorded_before
                from events
                where position > $1
            ) as e",
        )
        .bind(after)
        .fetch_one(db)
        .await?;
        let orphans: i64 = sqlx::query_scalar(
            "select count(*) from commands c
            where c.position > $1 and c.events <> (select count(*) from events e
                where e.position > c.position - c.events and e.position <= c.position
                    and e.command_id = c.command_id)",
        )
        .bind(after)
        .fetch_one(db)
        .await?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Self {
            lost: count(holes) + count(orphans),
            duplicated: count(twins),
            reordered: count(disorder) + count(inversions),
        })
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            f.write_str("0 / 0 / 0")
        } else {
            write!(
                f,
                "**{} lost / {} duplicated / {} reordered**",
                self.lost, self.duplicated, self.reordered
            )
        }
    }
}
