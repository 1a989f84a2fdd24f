//! One worker: one partition of one build, for as long as it holds the lease.

use std::{convert::Infallible, sync::Arc, time::Duration};

use jangbu_projections::builds::Advanced;
use lapin::{Connection, message::Delivery};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    core::{Core, Verdict},
    inbox::Inbox,
    target::{Failure, Target},
};
use crate::{
    broker::{Backoff, Message},
    feed::{self, Context},
    leases::Lease,
};

/// Events read from the log at once.
pub const CHUNK: i64 = 256;
/// With the broker silent for so long, the log is asked: a purge of the last message shows in no other way.
const SILENCE: Duration = Duration::from_secs(1);
/// Between two looks at the log while there is news, and while there is none.
const LOOK_BUSY: Duration = Duration::from_millis(50);
const LOOK_IDLE: Duration = Duration::from_millis(250);
/// Between two reads of the log however fast it grows.
const LOOK_MIN: Duration = Duration::from_millis(5);
/// The longest wait after a failure that passes by itself.
const PAUSE_PASSING: Duration = Duration::from_secs(2);
pub const PAUSE_FIRST: Duration = Duration::from_millis(100);
pub const PAUSE_LAST: Duration = Duration::from_secs(30);

/// Why a worker stopped in order.
enum End {
    Shutdown,
    LeaseLost,
    /// Another process is to have the partition.
    WantedBack,
    /// The checkpoint is not where it should be: someone else moved it.
    Stale,
}

/// Why a step was the last of a session.
enum Stop {
    End(End),
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failure(error.into())
    }
}

/// One worker, before it holds its lease.
pub struct Worker {
    pub ctx: Context,
    pub target: Target,
    pub partition: i16,
    pub lease: Lease,
    pub link: Option<watch::Receiver<Option<Arc<Connection>>>>,
    pub shutdown: CancellationToken,
}

impl Worker {
    /// Works whenever it holds the lease, until shutdown.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LAST);
        let mut told = None;
        loop {
            let epoch = tokio::select! {
                () = self.shutdown.cancelled() => return,
                epoch = self.lease.held() => epoch,
            };
            match self.hold(epoch, &mut backoff, &mut told).await {
                Ok(End::Shutdown) => return,
                Ok(End::LeaseLost) => self.is_another_s(&mut told),
                Ok(End::WantedBack) => {
                    self.is_another_s(&mut told);
                    self.lease.lost(epoch).await;
                }
                Ok(End::Stale) => {
                    tracing::debug!(
                        lease.name = self.lease.name(),
                        lease.epoch = epoch,
                        "the checkpoint was moved"
                    );
                    self.is_another_s(&mut told);
                    self.lease.give_up(PAUSE_FIRST);
                    self.lease.lost(epoch).await;
                }
                Err(failure) => {
                    if self.report(&failure, &mut told) {
                        let reason = failure.reason();
                        self.target
                            .note_stop(&self.ctx.db, self.partition, epoch, &reason)
                            .await;
                    }
                    let longest = if failure.is_passing() {
                        PAUSE_PASSING
                    } else {
                        PAUSE_LAST
                    };
                    tokio::select! {
                        () = self.shutdown.cancelled() => return,
                        // Another process may fare better.
                        () = self.lease.wanted_back() => {
                            self.is_another_s(&mut told);
                            self.hand_over(epoch).await;
                        }
                        () = sleep(backoff.pause().min(longest)) => {}
                    }
                }
            }
        }
    }

    /// Lets another process have the partition.
    async fn hand_over(&mut self, epoch: i64) {
        self.lease.give_up(Duration::ZERO);
        self.lease.lost(epoch).await;
    }

    /// What this process said of the partition is for the next holder to say, and said anew if it comes back.
    fn is_another_s(&self, told: &mut Option<String>) {
        *told = None;
        for gauge in ["jangbu_worker_stuck", "jangbu_parked_aggregates"] {
            metrics::gauge!(gauge, &self.labels()).set(0);
        }
    }

    /// Says a failure once, not at every attempt; whether it is a new one that does not pass by itself.
    fn report(&self, failure: &Failure, told: &mut Option<String>) -> bool {
        let stuck = !failure.is_passing();
        if stuck {
            metrics::counter!("jangbu_worker_stops_total", &self.labels()).increment(1);
            metrics::gauge!("jangbu_worker_stuck", &self.labels()).set(1);
        }
        let text = failure.reason();
        if told.as_ref() == Some(&text) {
            return false;
        }
        let lease = self.lease.name();
        if stuck {
            tracing::error!(
                worker = lease,
                error = text,
                "this partition stops; it is tried again, never skipped"
            );
        } else {
            tracing::warn!(worker = lease, error = text, "the worker begins anew");
        }
        *told = Some(text);
        stuck
    }

    fn labels(&self) -> [(&'static str, String); 2] {
        [
            ("projection", self.target.name().projection.clone()),
            ("partition", self.partition.to_string()),
        ]
    }

    async fn hold(&mut self, epoch: i64, backoff: &mut Backoff, told: &mut Option<String>) -> Result<End, Failure> {
        let log = feed::log_id(&self.ctx.db).await?;
        let Some(checkpoint) = self.target.take_over(&self.ctx.db, self.partition, epoch).await? else {
            return Ok(End::Stale);
        };
        feed::check_not_ahead(&self.ctx.db, checkpoint).await?;
        let partitions = self.target.partitions();
        // The relay counts in the partitions of this program: a build of other partitions reads the log.
        let link = self.link.clone().filter(|_| partitions == self.ctx.partitions);
        let mut session = Session {
            worker: self,
            epoch,
            core: Core::new(log, self.partition, partitions, checkpoint),
            inbox: Inbox::new(link, log, self.target.name().clone(), self.partition),
            started: Instant::now(),
            head: self.ctx.head.clone(),
            backoff,
            told,
        };
        let mut lease = self.lease.clone();
        let end = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(End::Shutdown),
            () = lease.lost(epoch) => Ok(End::LeaseLost),
            stop = session.work() => match stop {
                Stop::End(end) => Ok(end),
                Stop::Failure(failure) => Err(failure),
            },
        };
        if matches!(end, Ok(End::WantedBack)) {
            // Before anything that could take time: from here on the next one goes on.
            lease.give_up(Duration::ZERO);
        }
        session.inbox.close().await;
        end
    }
}

struct Session<'a> {
    worker: &'a Worker,
    epoch: i64,
    core: Core,
    inbox: Inbox,
    started: Instant,
    head: Option<watch::Receiver<i64>>,
    backoff: &'a mut Backoff,
    told: &'a mut Option<String>,
}

impl Session<'_> {
    async fn work(&mut self) -> Stop {
        match self.steps().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn steps(&mut self) -> Result<Infallible, Stop> {
        let mut look_at = Instant::now();
        let mut looked_at = look_at;
        let mut lease = self.worker.lease.clone();
        loop {
            let due_at = self.core.due_at().map(|at| self.started + at);
            // With a broker that delivers, the head's moves are no reason to read the log.
            let head = if self.inbox.is_open() { None } else { self.head.as_mut() };
            tokio::select! {
                biased;
                () = feed::until(due_at.unwrap_or(look_at)), if due_at.is_some() => self.commit().await?,
                () = lease.wanted_back() => {
                    self.commit().await?;
                    return Err(Stop::End(End::WantedBack));
                }
                delivery = self.inbox.next() => if let Some(delivery) = delivery {
                    let before = self.core.cursor();
                    self.receive(delivery).await?;
                    if self.core.cursor() > before {
                        look_at = Instant::now() + SILENCE;
                    }
                },
                () = time_to_look(head, self.core.cursor(), looked_at + LOOK_MIN, look_at) => {
                    looked_at = Instant::now();
                    let before = self.core.cursor();
                    self.look().await?;
                    look_at = looked_at + match (self.core.cursor() > before, self.inbox.is_open()) {
                        // News that the broker did not bring: it may bring no more.
                        (true, _) => LOOK_BUSY,
                        (false, true) => SILENCE,
                        (false, false) => LOOK_IDLE,
                    };
                }
            }
        }
    }

    /// Takes a message and whatever else has arrived.
    async fn receive(&mut self, first: Delivery) -> Result<(), Stop> {
        let mut next = Some(first);
        while let Some(delivery) = next {
            match self.offer(&delivery) {
                Verdict::Foreign | Verdict::Taken => {}
                Verdict::Gap { through } => {
                    metrics::counter!("jangbu_worker_refills_total", &self.worker.labels()).increment(1);
                    self.read_to(through).await?;
                }
            }
            self.inbox.handled(delivery.delivery_tag);
            if self.core.batch().is_none() {
                self.inbox.acknowledge().await;
            }
            next = if self.core.is_full() {
                None
            } else {
                self.inbox.next_now()
            };
        }
        Ok(())
    }

    fn offer(&mut self, delivery: &Delivery) -> Verdict {
        let target = &self.worker.target;
        match Message::parse(&delivery.data) {
            Ok(message) => self.core.offer(self.started.elapsed(), message, |event| {
                target.reads(&event.payload.event_type, &event.payload.event_version)
            }),
            Err(error) => {
                // What it should have said is a gap for the next message.
                tracing::warn!(worker = self.worker.lease.name(), %error, "a message is not one of ours");
                Verdict::Foreign
            }
        }
    }

    /// Reads the log up to its head.
    async fn look(&mut self) -> Result<(), Stop> {
        self.measure_lag();
        // What this process knows of is committed, and usually all there is.
        let known = self.head.as_ref().map_or(0, |head| *head.borrow());
        let head = if known > self.core.cursor() {
            known
        } else {
            feed::head(&self.worker.ctx.db).await?
        };
        self.read_to(head).await
    }

    /// Takes everything up to `through` from the log, committing chunk by chunk but for the last.
    async fn read_to(&mut self, through: i64) -> Result<(), Stop> {
        let target = &self.worker.target;
        let slots = feed::slots(self.worker.partition, target.partitions());
        while self.core.cursor() < through {
            let cursor = self.core.cursor();
            let events = feed::read_slots(&self.worker.ctx.db, cursor, through, slots.clone(), CHUNK).await?;
            let all = i64::try_from(events.len()).is_ok_and(|count| count < CHUNK);
            let read_to = if all {
                through
            } else {
                events.last().map_or(through, |event| event.position)
            };
            let now = self.started.elapsed();
            self.core.extend(now, read_to, events, |event| {
                target.reads(&event.payload.event_type, &event.payload.event_version)
            });
            if !all || self.core.is_full() {
                self.commit().await?;
                // A long way to the head must not keep another process waiting.
                if self.worker.lease.is_wanted_back() {
                    return Err(Stop::End(End::WantedBack));
                }
            }
        }
        Ok(())
    }

    /// Writes the batch and acknowledges what it came from.
    async fn commit(&mut self) -> Result<(), Stop> {
        let Some(batch) = self.core.batch() else {
            return Ok(());
        };
        let (worker, count) = (self.worker, batch.events.len());
        match worker
            .target
            .advance(&worker.ctx.db, worker.partition, self.epoch, batch)
            .await?
        {
            Advanced::Stale => return Err(Stop::End(End::Stale)),
            Advanced::Moved => {}
        }
        self.core.committed();
        self.inbox.acknowledge().await;
        self.backoff.reset();
        if self.told.take().is_some() {
            tracing::info!(worker = worker.lease.name(), "goes on");
            metrics::gauge!("jangbu_worker_stuck", &worker.labels()).set(0);
        }
        self.measure(count);
        self.measure_lag();
        Ok(())
    }

    fn measure(&self, count: usize) {
        let labels = self.worker.labels();
        metrics::counter!("jangbu_worker_events_total", &labels).increment(count as u64);
        if count > 0 {
            metrics::histogram!("jangbu_worker_batch_events", &labels)
                .record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }

    /// How far behind what this process knows of.
    fn measure_lag(&self) {
        if let Some(head) = &self.head {
            let lag = (*head.borrow() - self.core.checkpoint()).max(0);
            let lag = u32::try_from(lag).unwrap_or(u32::MAX);
            metrics::gauge!("jangbu_worker_lag_positions", &self.worker.labels()).set(lag);
        }
    }
}

/// Waits until `look_at`, or until the head is known to be beyond `cursor`, but not before `not_before`.
async fn time_to_look(head: Option<&mut watch::Receiver<i64>>, cursor: i64, not_before: Instant, look_at: Instant) {
    let Some(head) = head else {
        return feed::until(look_at).await;
    };
    let news = async { head.wait_for(|head| *head > cursor).await.is_ok() };
    tokio::select! {
        known = news => feed::until(if known { not_before } else { look_at }).await,
        () = feed::until(look_at) => {}
    }
}
