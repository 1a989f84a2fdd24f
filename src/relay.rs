//! The relay: publishes the log to the broker, one leader at a time.
//!
//! Its checkpoint moves only over what is confirmed without a hole, so after any crash messages may
//! come twice and none is missing. It never holds up a command: without it, workers read the log.

pub mod core;

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions},
};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::core::{Core, NotContiguous, ROUND, ROUND_EVENTS_MAX};
use crate::{
    broker::{self, Backoff, BuildName, ConnectError},
    feed::{self, AheadOfLog, Context},
    leases::{Group, Keeper, Lease},
};

/// The lease of the leader.
pub const LEASE: &str = "relay";

/// Without news, how often the log is looked at if nothing wakes us, at first and at last.
const LOOK_FIRST: Duration = ROUND;
const LOOK_LAST: Duration = Duration::from_millis(50);
/// The same if something does wake us: only a safety net.
const LOOK_WOKEN: Duration = Duration::from_millis(250);
/// How often the checkpoint is written and the topology completed.
const SAVE_EVERY: Duration = Duration::from_millis(250);
const TOPOLOGY_EVERY: Duration = Duration::from_secs(1);
/// A confirm that takes longer will not come.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(3);

/// Why a leader had to stop.
#[derive(Debug, thiserror::Error)]
enum LeadError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the broker failed: {0}")]
    Broker(#[from] lapin::Error),
    #[error("the broker did not take a message: {0}")]
    NotTaken(&'static str),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Log(#[from] NotContiguous),
    #[error(transparent)]
    Ahead(#[from] AheadOfLog),
    #[error("an event is not JSON: {0}")]
    Payload(#[from] serde_json::Error),
}

/// Why a leader stopped in order.
enum End {
    Shutdown,
    LeaseLost,
}

/// Publishes whenever it holds the lease, until `shutdown`; returns at once without a broker.
pub async fn run(ctx: Context, shutdown: CancellationToken) {
    let Some(url) = ctx.amqp_url.clone() else {
        tracing::info!("no broker is configured: nothing to relay");
        return;
    };
    let holder = ctx.surroundings.ids.uuid();
    let keeper = Keeper::start(&ctx.db, holder, ctx.lease_ttl, [Group::one(LEASE)]);
    let mut lease = keeper.lease(LEASE).expect("the keeper was started with this lease");
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LAST);
    loop {
        let epoch = tokio::select! {
            () = shutdown.cancelled() => break,
            epoch = lease.held() => epoch,
        };
        match lead(&ctx, &url, &mut lease, epoch, &mut backoff, &shutdown).await {
            Ok(End::Shutdown) => break,
            Ok(End::LeaseLost) => tracing::warn!(lease.epoch = epoch, "another relay leads now"),
            Err(error @ (LeadError::Log(_) | LeadError::Payload(_) | LeadError::Ahead(AheadOfLog::Ahead { .. }))) => {
                metrics::counter!("jangbu_relay_stops_total").increment(1);
                tracing::error!(%error, "the relay stops: the log cannot be published");
            }
            Err(error) => tracing::warn!(%error, "the relay begins anew"),
        }
        // Perhaps another process reaches the broker.
        lease.give_up(backoff.pause());
        lease.lost(epoch).await;
    }
    keeper.close().await;
}

async fn lead(
    ctx: &Context,
    url: &str,
    lease: &mut Lease,
    epoch: i64,
    backoff: &mut Backoff,
    shutdown: &CancellationToken,
) -> Result<End, LeadError> {
    let log = feed::log_id(&ctx.db).await?;
    let Some(checkpoint) = claim(&ctx.db, epoch).await? else {
        return Ok(End::LeaseLost);
    };
    feed::check_not_ahead(&ctx.db, checkpoint).await?;
    let connection = broker::connect(url, "relay").await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    broker::declare_exchange(&channel, log).await?;
    tracing::info!(lease.epoch = epoch, checkpoint, "this relay leads");
    let mut leader = Leader {
        ctx,
        epoch,
        channel,
        log,
        core: Core::new(log, ctx.partitions, checkpoint),
        saved: checkpoint,
        declared: BTreeSet::new(),
        deleted: BTreeSet::new(),
        confirms: FuturesUnordered::new(),
        started: Instant::now(),
        look_at: Duration::ZERO,
        look: Backoff::new(LOOK_FIRST, LOOK_LAST),
        more: false,
    };
    let end = leader.lead(&connection, lease, backoff, shutdown).await;
    // What is confirmed need not be sent again; if this fails, it is sent again.
    let saved = leader.save().await;
    let closed = timeout(CONFIRM_TIMEOUT, connection.close(200, "bye".into())).await;
    tracing::debug!(?saved, ?closed, "the relay has stopped");
    end
}

/// Fences older leaders off and says how far the log is published; `None` if a newer one leads.
async fn claim(db: &PgPool, epoch: i64) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        "update relay_checkpoint set epoch = $1 where epoch <= $1 returning position",
        epoch
    )
    .fetch_optional(db)
    .await
}

type Confirm = Pin<Box<dyn Future<Output = (u64, Result<(), LeadError>)> + Send>>;

struct Leader<'a> {
    ctx: &'a Context,
    epoch: i64,
    channel: Channel,
    log: Uuid,
    core: Core,
    saved: i64,
    /// Builds whose queues are there, and those whose queues are gone.
    declared: BTreeSet<BuildName>,
    deleted: BTreeSet<BuildName>,
    confirms: FuturesUnordered<Confirm>,
    started: Instant,
    look_at: Duration,
    look: Backoff,
    /// The last read was cut off: there is more.
    more: bool,
}

impl Leader<'_> {
    async fn lead(
        &mut self,
        connection: &Connection,
        lease: &mut Lease,
        backoff: &mut Backoff,
        shutdown: &CancellationToken,
    ) -> Result<End, LeadError> {
        let mut head = self.ctx.head.clone();
        let mut save = interval(SAVE_EVERY);
        let mut topology = interval(TOPOLOGY_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        topology.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut broken = Box::pin(broker::broken(connection));
        self.declare().await?;
        loop {
            let next_at = self.next_at(head.as_ref()).map(|at| self.started + at);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(End::Shutdown),
                () = lease.lost(self.epoch) => return Ok(End::LeaseLost),
                why = &mut broken => return Err(LeadError::Broken(why)),
                Some((id, confirmed)) = self.confirms.next() => {
                    confirmed.inspect_err(|_| metrics::counter!("jangbu_relay_confirm_failures_total").increment(1))?;
                    self.core.confirmed(id);
                    backoff.reset();
                }
                _ = topology.tick() => self.declare().await?,
                _ = save.tick() => {
                    self.measure(head.as_ref());
                    if !self.save().await? {
                        return Ok(End::LeaseLost);
                    }
                }
                () = feed::until(next_at.unwrap_or_else(Instant::now)), if next_at.is_some() => self.round().await?,
                () = changed(&mut head) => {}
            }
        }
    }

    /// When to read the log next; `None` while the broker is behind or nobody listens.
    fn next_at(&self, head: Option<&watch::Receiver<i64>>) -> Option<Duration> {
        if self.declared.is_empty() {
            return None;
        }
        let round_at = self.core.round_at()?;
        let news = self.more || head.is_some_and(|head| *head.borrow() > self.core.read_to());
        let read_at = if news { round_at } else { self.look_at.max(round_at) };
        Some(
            self.core
                .heartbeat_at()
                .map_or(read_at, |at| at.max(round_at).min(read_at)),
        )
    }

    async fn round(&mut self) -> Result<(), LeadError> {
        let now = self.started.elapsed();
        let events = feed::read(&self.ctx.db, self.core.read_to(), ROUND_EVENTS_MAX).await?;
        self.more = i64::try_from(events.len()).is_ok_and(|count| count >= ROUND_EVENTS_MAX);
        if !events.is_empty() {
            self.look.reset();
        }
        self.look_at = now
            + if self.ctx.head.is_some() {
                LOOK_WOKEN
            } else {
                self.look.pause()
            };
        let exchange = broker::exchange(self.log);
        for (id, message) in self.core.round(now, events)? {
            let confirm = self
                .channel
                .basic_publish(
                    exchange.as_str().into(),
                    broker::routing_key(message.partition).into(),
                    BasicPublishOptions {
                        mandatory: true,
                        ..BasicPublishOptions::default()
                    },
                    &message.to_json()?,
                    BasicProperties::default()
                        .with_delivery_mode(2)
                        .with_content_type("application/json".into()),
                )
                .await?;
            self.confirms.push(Box::pin(
                async move { (id, taken(timeout(CONFIRM_TIMEOUT, confirm).await)) },
            ));
            metrics::counter!("jangbu_relay_messages_total").increment(1);
            metrics::counter!("jangbu_relay_events_total").increment(message.events.len() as u64);
        }
        Ok(())
    }

    /// Declares the queues of builds that are new: what they miss until then they read in the log.
    /// Nobody reads those of retired builds any more, so they go.
    async fn declare(&mut self) -> Result<(), LeadError> {
        let builds = sqlx::query!(
            r#"select projection, code_version, build, phase = 'live' as "is_live!"
             from builds
             where phase in ('live', 'retired') and partitions = $1"#,
            self.ctx.partitions,
        )
        .fetch_all(&self.ctx.db)
        .await?;
        let mut known = BTreeSet::new();
        for row in builds {
            let build = BuildName {
                projection: row.projection,
                code_version: row.code_version,
                build: row.build,
            };
            if row.is_live && !self.declared.contains(&build) {
                for partition in 0..self.ctx.partitions {
                    broker::declare_queue(&self.channel, self.log, &build, partition).await?;
                }
                self.deleted.remove(&build);
                self.declared.insert(build.clone());
            } else if !row.is_live && !self.deleted.contains(&build) {
                for partition in 0..self.ctx.partitions {
                    let queue = broker::queue(self.log, &build, partition).into();
                    self.channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
                }
                self.declared.remove(&build);
                self.deleted.insert(build.clone());
            }
            known.insert(build);
        }
        // A number may be given again once its build was dropped.
        self.declared.retain(|declared| known.contains(declared));
        self.deleted.retain(|deleted| known.contains(deleted));
        Ok(())
    }

    /// Writes how far everything is confirmed; false if another leads.
    async fn save(&mut self) -> sqlx::Result<bool> {
        let confirmed_to = self.core.confirmed_to();
        if confirmed_to == self.saved {
            return Ok(true);
        }
        let moved = sqlx::query!(
            "update relay_checkpoint
             set position = $1
             where epoch = $2 and position = $3",
            confirmed_to,
            self.epoch,
            self.saved,
        )
        .execute(&self.ctx.db)
        .await?;
        self.saved = confirmed_to;
        Ok(moved.rows_affected() == 1)
    }

    fn measure(&self, head: Option<&watch::Receiver<i64>>) {
        let head = head.map_or(0, |head| *head.borrow()).max(self.core.read_to());
        let lag = u32::try_from(head - self.core.confirmed_to()).unwrap_or(u32::MAX);
        metrics::gauge!("jangbu_relay_lag_positions").set(lag);
    }
}

/// Only an ack without a return means that every queue of the message has it on disk.
fn taken(answer: Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>) -> Result<(), LeadError> {
    match answer {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)))) => {
            Err(LeadError::NotTaken("no queue is bound"))
        }
        Ok(Ok(Confirmation::Nack(None))) => Err(LeadError::NotTaken("refused")),
        Ok(Ok(Confirmation::NotRequested)) => Err(LeadError::NotTaken("confirms are off")),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(LeadError::NotTaken("no confirm came")),
    }
}

/// Waits until the head moves; for ever if nothing feeds it.
async fn changed(head: &mut Option<watch::Receiver<i64>>) {
    if let Some(receiver) = head {
        if receiver.changed().await.is_ok() {
            return;
        }
        *head = None;
    }
    std::future::pending::<()>().await;
}
