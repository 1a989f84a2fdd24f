//! Leases: who may do what only one may do at a time.
//!
//! A lease is a row with an epoch. It is taken when it is free or has run out by the database's
//! clock, so the clocks of the nodes do not matter; taking it raises the epoch, and everything done
//! under it is fenced by that epoch. A holder that hears nothing for a whole term stops by itself.

pub mod core;

use std::time::Duration;

use sqlx::{PgPool, postgres::types::PgInterval};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use self::core::{Answer, Ask, Core};

/// The usual term: what a killed process held is free again after this long.
pub const TTL: Duration = Duration::from_secs(2);

/// Holds what it can get of a set of leases, and renews them until it is closed.
#[derive(Debug)]
pub struct Keeper {
    orders: mpsc::UnboundedSender<Order>,
    epochs: Vec<(String, watch::Receiver<Option<i64>>)>,
}

#[derive(Debug)]
enum Order {
    GiveUp { name: String, pause: Duration },
    Close { done: oneshot::Sender<()> },
}

/// The right to know about one lease and to give it up.
#[derive(Debug, Clone)]
pub struct Lease {
    name: String,
    epoch: watch::Receiver<Option<i64>>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Keeper {
    /// Starts to compete for `names` as `holder`, which must be another for every process start.
    /// `ttl` is the term of a lease, renewed at a third of it.
    pub fn start(db: PgPool, holder: Uuid, ttl: Duration, names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (senders, epochs) = names
            .iter()
            .map(|name| {
                let (sender, receiver) = watch::channel(None);
                ((name.clone(), sender), (name.clone(), receiver))
            })
            .unzip();
        let work = Work {
            db,
            holder,
            ttl,
            core: Core::new(ttl, names),
            epochs: senders,
            started: Instant::now(),
        };
        tokio::spawn(work.run(inbox));
        Self { orders, epochs }
    }

    /// One of the leases that it was started with.
    pub fn lease(&self, name: &str) -> Option<Lease> {
        let (name, epoch) = self.epochs.iter().find(|(n, _)| n == name)?;
        Some(Lease {
            name: name.clone(),
            epoch: epoch.clone(),
            orders: self.orders.clone(),
        })
    }

    /// Releases everything, so that others need not wait for the terms to end.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.orders.send(Order::Close { done }).is_ok() {
            // An error means that the task is gone: then there is nothing left to release.
            let _ = closed.await;
        }
    }
}

impl Lease {
    /// Its name in the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The epoch it is held under right now, if it is held.
    pub fn epoch(&self) -> Option<i64> {
        *self.epoch.borrow()
    }

    /// Waits until it is held and gives the epoch.
    pub async fn held(&mut self) -> i64 {
        loop {
            if let Some(epoch) = *self.epoch.borrow_and_update() {
                return epoch;
            }
            if self.epoch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it is no longer held under `epoch`.
    pub async fn lost(&mut self, epoch: i64) {
        while *self.epoch.borrow_and_update() == Some(epoch) {
            if self.epoch.changed().await.is_err() {
                return;
            }
        }
    }

    /// Releases it for others and does not ask for it again before `pause` is over.
    pub fn give_up(&self, pause: Duration) {
        // An error means that the keeper is closed: then it was released already.
        let _ = self.orders.send(Order::GiveUp {
            name: self.name.clone(),
            pause,
        });
    }
}

struct Work {
    db: PgPool,
    holder: Uuid,
    ttl: Duration,
    core: Core,
    epochs: Vec<(String, watch::Sender<Option<i64>>)>,
    started: Instant,
}

impl Work {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        loop {
            let next_at = self
                .core
                .next_at()
                .map_or_else(|| Instant::now() + self.ttl, |at| self.started + at);
            tokio::select! {
                order = inbox.recv() => match order {
                    None => return self.release(self.core.held()).await,
                    Some(Order::Close { done }) => {
                        self.release(self.core.held()).await;
                        // Nobody waits any more: nothing to tell.
                        let _ = done.send(());
                        return;
                    }
                    Some(Order::GiveUp { name, pause }) => {
                        let held = self.core.epoch(&name).map(|epoch| (name.clone(), epoch));
                        self.core.give_up(&name, self.started.elapsed() + pause);
                        self.tell();
                        self.release(held.into_iter().collect()).await;
                    }
                },
                () = sleep_until(next_at) => {
                    let ask = self.core.ask(self.started.elapsed());
                    // Before asking: what has run out is lost even if the database hangs.
                    self.tell();
                    if let Some(ask) = ask {
                        self.carry_out(&ask).await;
                        self.tell();
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self, ask: &Ask) {
        match timeout(self.ttl / 4, self.query(ask)).await {
            Ok(Ok(answer)) => self.core.answered(ask, &answer),
            Ok(Err(error)) => tracing::warn!(%error, "cannot renew leases"),
            Err(_) => tracing::warn!("cannot renew leases in time"),
        }
    }

    async fn query(&self, ask: &Ask) -> sqlx::Result<Answer> {
        let mut answer = Answer::default();
        if !ask.renew.is_empty() {
            answer.renewed = self.renew(&ask.renew).await?;
        }
        if !ask.take.is_empty() {
            answer.held = self.held_by_others(&ask.take).await?;
            let free: Vec<String> = ask
                .take
                .iter()
                .filter(|name| answer.held.iter().all(|(held, _)| held != *name))
                .cloned()
                .collect();
            if !free.is_empty() {
                answer.taken = self.take(&free).await?;
            }
        }
        Ok(answer)
    }

    async fn renew(&self, leases: &[(String, i64)]) -> sqlx::Result<Vec<String>> {
        let (names, epochs): (Vec<String>, Vec<i64>) = leases.iter().cloned().unzip();
        // Rows are always locked by name, or two nodes could wait for each other.
        sqlx::query_scalar!(
            "with mine as (
                 select l.name
                 from leases l
                 join unnest($1::text[], $2::bigint[]) as held (name, epoch) on l.name = held.name and l.epoch = held.epoch
                 where l.holder = $3
                 order by l.name
                 for update of l
             )
             update leases
             set expires_at = now() + $4
             from mine
             where leases.name = mine.name
             returning leases.name",
            &names,
            &epochs,
            self.holder,
            interval(self.ttl),
        )
        .fetch_all(&self.db)
        .await
    }

    async fn held_by_others(&self, names: &[String]) -> sqlx::Result<Vec<(String, Duration)>> {
        let rows = sqlx::query!(
            r#"select name, ceil(extract(epoch from expires_at - now()) * 1000)::bigint as "left_ms!"
               from leases
               where name = any($1)
                 and holder <> $2
                 and expires_at > now()"#,
            names,
            self.holder,
        )
        .fetch_all(&self.db)
        .await?;
        let left = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(rows.into_iter().map(|row| (row.name, left(row.left_ms))).collect())
    }

    async fn take(&self, names: &[String]) -> sqlx::Result<Vec<(String, i64)>> {
        let rows = sqlx::query!(
            "insert into leases (name, holder, epoch, expires_at)
             select name, $2, 1, now() + $3
             from unnest($1::text[]) as wanted (name)
             order by name
             on conflict (name) do update
             set holder = excluded.holder, epoch = leases.epoch + 1, expires_at = excluded.expires_at
             where leases.expires_at <= now() or leases.holder = excluded.holder
             returning name, epoch",
            names,
            self.holder,
            interval(self.ttl),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.name, row.epoch)).collect())
    }

    async fn release(&self, leases: Vec<(String, i64)>) {
        if leases.is_empty() {
            return;
        }
        let (names, epochs): (Vec<String>, Vec<i64>) = leases.into_iter().unzip();
        let released = sqlx::query!(
            "with mine as (
                 select l.name
                 from leases l
                 join unnest($1::text[], $2::bigint[]) as held (name, epoch) on l.name = held.name and l.epoch = held.epoch
                 where l.holder = $3
                 order by l.name
                 for update of l
             )
             update leases
             set expires_at = now()
             from mine
             where leases.name = mine.name",
            &names,
            &epochs,
            self.holder,
        )
        .execute(&self.db);
        // Not released, it runs out by itself.
        match timeout(self.ttl, released).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot release leases"),
            Err(_) => tracing::warn!("cannot release leases in time"),
        }
    }

    fn tell(&self) {
        for (name, sender) in &self.epochs {
            let epoch = self.core.epoch(name);
            sender.send_if_modified(|told| {
                let changed = *told != epoch;
                if changed {
                    tracing::debug!(lease.name = %name, lease.epoch = epoch, "lease changed");
                }
                *told = epoch;
                changed
            });
        }
    }
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
