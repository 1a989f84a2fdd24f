//! Leases: who may do what only one may do at a time.
//!
//! A lease is a row with an epoch. It is taken when it is free or has run out by the database's
//! clock, so the clocks of the nodes do not matter; taking it raises the epoch, and everything done
//! under it is fenced by that epoch. A holder that hears nothing for a whole term stops by itself.
//!
//! Leases of one group can be shared: every process that competes for them is a member of the group
//! as long as it renews a row that says so, and gets its part. Who has more is asked to give up what
//! is over, when it has finished what it has begun.

pub mod core;
mod rows;

use std::{collections::BTreeMap, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

pub use self::core::Group;
use self::{
    core::{Ask, Core, Holding},
    rows::{Rows, Silence, Taken},
};

/// The usual term: what a killed process held is free again after this long. Of the two seconds
/// until somebody else goes on with its work, the rest is for taking over.
pub const TTL: Duration = Duration::from_millis(1_500);

/// Holds what it can get, or its share, of a set of leases, and renews them until it is closed.
#[derive(Debug)]
pub struct Keeper {
    orders: mpsc::UnboundedSender<Order>,
    holdings: BTreeMap<String, watch::Receiver<Option<Holding>>>,
}

#[derive(Debug)]
enum Order {
    GiveUp { name: String, pause: Duration },
    Join { group: Group, told: Vec<(String, Told)> },
    Leave { group: String, done: oneshot::Sender<()> },
    Close { done: oneshot::Sender<()> },
}

/// The right to know about one lease and to give it up.
#[derive(Debug, Clone)]
pub struct Lease {
    name: String,
    holding: watch::Receiver<Option<Holding>>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Keeper {
    /// Starts to compete for `groups` as `holder`, which must be another for every process start.
    /// `ttl` is the term of a lease, renewed at a quarter of it through a connection of its own.
    pub fn start(db: &PgPool, holder: Uuid, ttl: Duration, groups: impl IntoIterator<Item = Group>) -> Self {
        let groups: Vec<Group> = groups.into_iter().collect();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (mut told, mut holdings) = (BTreeMap::new(), BTreeMap::new());
        for group in &groups {
            told.extend(tell_of(group, &mut holdings));
        }
        let work = Work {
            rows: Rows::new(db.connect_options().as_ref().clone(), holder, ttl),
            ttl,
            core: Core::new(holder, ttl, groups),
            told,
            started: Instant::now(),
        };
        tokio::spawn(work.run(inbox));
        Self { orders, holdings }
    }

    /// Competes for a group more.
    pub fn join(&mut self, group: Group) {
        let told = tell_of(&group, &mut self.holdings);
        // An error means that the task is gone: then nothing is ever held.
        let _ = self.orders.send(Order::Join { group, told });
    }

    /// Competes for a group no more, and releases what it holds of it.
    pub async fn leave(&mut self, group: &Group) {
        for name in &group.leases {
            self.holdings.remove(name);
        }
        let (done, left) = oneshot::channel();
        let group = group.name.clone();
        if self.orders.send(Order::Leave { group, done }).is_ok() {
            // An error means that the task is gone: then there is nothing left to release.
            let _ = left.await;
        }
    }

    /// One of the leases that it was started with, or of a group that it joined.
    pub fn lease(&self, name: &str) -> Option<Lease> {
        Some(Lease {
            name: name.to_owned(),
            holding: self.holdings.get(name)?.clone(),
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
        self.holding.borrow().map(|holding| holding.epoch)
    }

    /// Waits until it is held and gives the epoch.
    pub async fn held(&mut self) -> i64 {
        if let Ok(holding) = self.holding.wait_for(Option::is_some).await
            && let Some(holding) = *holding
        {
            return holding.epoch;
        }
        // The keeper is closed: it will never be held again.
        std::future::pending().await
    }

    /// Waits until it is no longer held under `epoch`.
    pub async fn lost(&mut self, epoch: i64) {
        let is_lost = |holding: &Option<Holding>| holding.is_none_or(|holding| holding.epoch != epoch);
        // An error means that the keeper is closed, and everything released.
        let _ = self.holding.wait_for(is_lost).await;
    }

    /// Waits until it should go to another member: to be given up when what was begun is done.
    pub async fn wanted_back(&mut self) {
        let is_wanted = |holding: &Option<Holding>| holding.is_some_and(|holding| holding.wanted_back);
        if self.holding.wait_for(is_wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it should go to another member.
    pub fn is_wanted_back(&self) -> bool {
        self.holding.borrow().is_some_and(|holding| holding.wanted_back)
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

/// Whom to tell of a group's leases; those who hear of them are added to `holdings`.
fn tell_of(group: &Group, holdings: &mut BTreeMap<String, watch::Receiver<Option<Holding>>>) -> Vec<(String, Told)> {
    let tell = |name: &String| {
        let (holding, receiver) = watch::channel(None);
        holdings.insert(name.clone(), receiver);
        let group = group.name.clone();
        (name.clone(), Told { group, holding })
    };
    group.leases.iter().map(tell).collect()
}

/// What everybody knows of a lease.
#[derive(Debug)]
struct Told {
    group: String,
    holding: watch::Sender<Option<Holding>>,
}

struct Work {
    rows: Rows,
    ttl: Duration,
    core: Core,
    told: BTreeMap<String, Told>,
    started: Instant,
}

impl Work {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        self.measure();
        // Nobody waits for it, and nothing depends on it.
        if let Err(silence) = self.rows.tidy(Instant::now() + self.ttl / 4).await {
            tracing::debug!(%silence, "members that are long gone stay listed");
        }
        loop {
            let next_at = self.started + self.core.next_at();
            tokio::select! {
                order = inbox.recv() => match order {
                    None => return self.close().await,
                    Some(Order::Close { done }) => {
                        self.close().await;
                        // Nobody waits any more: nothing to tell.
                        let _ = done.send(());
                        return;
                    }
                    Some(Order::GiveUp { name, pause }) => self.give_up(&name, pause).await,
                    Some(Order::Join { group, told }) => {
                        self.told.extend(told);
                        self.core.join(group, self.started.elapsed());
                        self.measure();
                    }
                    Some(Order::Leave { group, done }) => {
                        self.leave(&group).await;
                        // Nobody waits any more: nothing to tell.
                        let _ = done.send(());
                    }
                },
                () = sleep_until(next_at) => {
                    let ask = self.core.ask(self.started.elapsed());
                    // Before asking: what has run out is lost even if the database hangs.
                    self.tell();
                    if let Some(ask) = ask {
                        if let Err(silence) = self.carry_out(&ask).await {
                            tracing::warn!(%silence, "cannot renew leases");
                        }
                        self.tell();
                    }
                }
            }
        }
    }

    /// Not longer than until something that is held runs out: whoever works must hear of it.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        self.core
            .ends_at()
            .map_or(now + self.ttl, |end| (now + self.ttl / 4).min(self.started + end))
    }

    async fn carry_out(&mut self, ask: &Ask) -> Result<(), Silence> {
        let seen = self.rows.renew_and_look(ask, self.deadline()).await?;
        let take = self.core.seen(ask, &seen);
        if take.is_empty() {
            return Ok(());
        }
        // What was lost is told now, and what was renewed counts for the next deadline.
        self.tell();
        let taken = self.rows.take(&take, self.deadline()).await?;
        let epochs: Vec<(String, i64)> = taken.iter().map(|taken| (taken.name.clone(), taken.epoch)).collect();
        self.core.taken(ask, &take, &epochs);
        for taken in &taken {
            self.count_taken(taken);
        }
        Ok(())
    }

    async fn give_up(&mut self, name: &str, pause: Duration) {
        let Some(holding) = self.core.holding(name) else {
            return;
        };
        self.core.give_up(name, self.started.elapsed() + pause);
        if let Some(told) = self.told.get(name) {
            // Not by the rest of us: it is not lost.
            told.holding.send_replace(None);
            metrics::counter!("jangbu_leases_given_up_total", "group" => told.group.clone()).increment(1);
        }
        self.measure();
        self.release(&[(name.to_owned(), holding.epoch)], false).await;
    }

    async fn leave(&mut self, group: &str) {
        let held = self.core.leave(group);
        self.told.retain(|_, told| {
            let stays = told.group != group;
            if !stays {
                told.holding.send_replace(None);
            }
            stays
        });
        metrics::gauge!("jangbu_leases_held", "group" => group.to_owned()).set(0);
        let deadline = self.deadline();
        // Not released, it runs out by itself.
        if let Err(silence) = self.rows.leave(group, &held, deadline).await {
            tracing::warn!(%silence, "cannot release leases");
        }
    }

    async fn close(mut self) {
        let held = self.core.held();
        for told in self.told.values() {
            told.holding.send_replace(None);
        }
        self.release(&held, true).await;
        self.rows.close().await;
    }

    async fn release(&mut self, leases: &[(String, i64)], leave: bool) {
        let patience = Instant::now() + self.ttl;
        let deadline = if leave { patience } else { self.deadline() };
        // Not released, it runs out by itself.
        if let Err(silence) = self.rows.release(leases, leave, deadline).await {
            tracing::warn!(%silence, "cannot release leases");
        }
    }

    fn tell(&self) {
        for (name, told) in &self.told {
            let holding = self.core.holding(name);
            let before = *told.holding.borrow();
            if before == holding {
                continue;
            }
            let epoch = |holding: Option<Holding>| holding.map(|holding| holding.epoch);
            tracing::debug!(lease.name = %name, lease.epoch = epoch(holding), "lease changed");
            if before.is_some() && epoch(before) != epoch(holding) {
                metrics::counter!("jangbu_leases_lost_total", "group" => told.group.clone()).increment(1);
            }
            told.holding.send_replace(holding);
        }
        self.measure();
    }

    fn measure(&self) {
        let mut held: BTreeMap<&str, u32> = BTreeMap::new();
        for told in self.told.values() {
            *held.entry(&told.group).or_default() += u32::from(told.holding.borrow().is_some());
        }
        for (group, held) in held {
            metrics::gauge!("jangbu_leases_held", "group" => group.to_owned()).set(held);
        }
    }

    fn count_taken(&self, taken: &Taken) {
        let Some(told) = self.told.get(&taken.name) else { return };
        metrics::counter!("jangbu_leases_taken_total", "group" => told.group.clone()).increment(1);
        if let Some(seconds) = taken.idle_seconds {
            metrics::histogram!("jangbu_lease_takeover_seconds", "group" => told.group.clone()).record(seconds);
        }
    }
}

#[cfg(test)]
mod simulation;
