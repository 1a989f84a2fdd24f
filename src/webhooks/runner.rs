//! Serves the endpoints, in whichever process holds the lease: reads the log, sends, and keeps what came
//! of it. What to do when is [`super::core`]'s to say.

mod endpoint;
mod letter;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    endpoint::{Endpoint, Window},
    letter::{About, Letter, Secrets},
};
use super::{
    EndpointId,
    core::{Action, Core, Lane},
    keeping::{self, Fence},
    send::{Sender, Sent},
};
use crate::{
    clock::Surroundings,
    feed::pages::{self, Cursor, Page, PageError, Types},
    leases::{Group, Keeper, Lease},
    sealing::Sealer,
};

/// The lease of the runner.
pub const LEASE: &str = "webhooks";
/// How often changes from outside are looked for.
const REFRESH_EVERY: Duration = Duration::from_millis(300);
/// How often is kept how far every endpoint is: what is sent again after a crash.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// How often an endpoint looks at the log, should no word of news have come.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After the log could not be read.
const PAUSE: Duration = Duration::from_secs(1);
/// How long requests that are on the way may take once the process is told to end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// Tasks that read the log at a time: a hundred endpoints must not take the connections of those who buy.
const READERS: usize = 2;

/// What the runner needs.
#[derive(Clone)]
pub struct Context {
    /// The database that holds the log.
    pub db: PgPool,
    /// Clock and randomness.
    pub surroundings: Surroundings,
    /// Opens the secrets.
    pub sealer: Sealer,
    /// Posts only to the Internet at large.
    pub live: bool,
    /// The highest committed position that this process knows of.
    pub head: watch::Receiver<i64>,
    /// Term of the lease, usually [`crate::leases::TTL`].
    pub lease_ttl: Duration,
}

/// Serves the endpoints whenever it holds the lease, until `shutdown`.
pub async fn run(ctx: Context, shutdown: CancellationToken) {
    let sender = match Sender::try_new(ctx.live) {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(%error, "no webhook can be sent: there is no TLS");
            return shutdown.cancelled().await;
        }
    };
    let holder = ctx.surroundings.ids.uuid();
    let keeper = Keeper::start(&ctx.db, holder, ctx.lease_ttl, [Group::one(LEASE)]);
    let mut lease = keeper.lease(LEASE).expect("the keeper was started with this lease");
    loop {
        let epoch = tokio::select! {
            () = shutdown.cancelled() => break,
            epoch = lease.held() => epoch,
        };
        let mut runner = Runner {
            ctx: &ctx,
            sender: &sender,
            epoch,
            endpoints: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            readers: Arc::new(Semaphore::new(READERS)),
            tasks: JoinSet::new(),
            refresh_at: Instant::now(),
            save_at: Instant::now() + SAVE_EVERY,
        };
        if runner.serve(&mut lease, &shutdown).await {
            break;
        }
        tracing::warn!(
            lease.epoch = epoch,
            "this process serves the webhooks no more, or begins anew"
        );
    }
    keeper.close().await;
}

struct Runner<'a> {
    ctx: &'a Context,
    sender: &'a Sender,
    epoch: i64,
    endpoints: BTreeMap<Uuid, Endpoint>,
    /// At which revision something was wanted of us that we cannot do.
    passed_over: BTreeMap<Uuid, i64>,
    readers: Arc<Semaphore>,
    tasks: JoinSet<Done>,
    refresh_at: Instant,
    save_at: Instant,
}

/// What a task has done.
struct Done {
    endpoint: Uuid,
    what: What,
}

enum What {
    Read(Result<Page, PageError>),
    Sent {
        position: i64,
        sent: Sent,
        about: Option<About>,
    },
    Found {
        lane: Lane,
        next: sqlx::Result<Option<i64>>,
    },
}

impl Runner<'_> {
    /// Until shutdown (`true`) or until the lease is lost.
    async fn serve(&mut self, lease: &mut Lease, shutdown: &CancellationToken) -> bool {
        let mut head = self.ctx.head.clone();
        loop {
            if Instant::now() >= self.refresh_at {
                self.refresh_at = Instant::now() + REFRESH_EVERY;
                if let Err(error) = self.refresh().await {
                    tracing::warn!(%error, "the webhook endpoints cannot be read yet");
                }
            }
            if Instant::now() >= self.save_at {
                self.save_at = Instant::now() + SAVE_EVERY;
                self.save().await;
            }
            self.pump();
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.finish().await;
                    return true;
                }
                () = lease.lost(self.epoch) => return false,
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    // A task that panicked would leave its event on the way for ever.
                    Err(error) => {
                        tracing::error!(%error, "a webhook task broke; the endpoints begin anew");
                        sleep(PAUSE).await;
                        return shutdown.is_cancelled();
                    }
                },
                Ok(()) = head.changed() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let now = self.ctx.surroundings.now();
        let due = self.endpoints.values().filter(|endpoint| !endpoint.ending);
        let due = due.flat_map(|endpoint| {
            let again = endpoint.core.wake_at().map(|at| {
                // In the past where all places are taken: then whatever comes back wakes us.
                let wait = (at - now).to_std().unwrap_or(SAVE_EVERY);
                Instant::now() + wait
            });
            [again, endpoint.read.map(|_| endpoint.look_at)].into_iter().flatten()
        });
        due.chain([self.refresh_at, self.save_at])
            .min()
            .unwrap_or(self.refresh_at)
            .max(Instant::now() + Duration::from_millis(1))
    }

    /// Takes over what is new, and ends what was changed.
    async fn refresh(&mut self) -> sqlx::Result<()> {
        let wanted: BTreeMap<Uuid, i64> = keeping::revisions(&self.ctx.db).await?.into_iter().collect();
        for (id, endpoint) in &mut self.endpoints {
            endpoint.ending |= wanted.get(id) != Some(&endpoint.revision);
        }
        self.endpoints.retain(|id, endpoint| {
            let is_over = endpoint.ending && endpoint.busy == 0;
            if is_over {
                endpoint.measure(*id, true);
            }
            !is_over
        });
        for (id, revision) in wanted {
            if self.endpoints.contains_key(&id) || self.passed_over.get(&id) == Some(&revision) {
                continue;
            }
            if let Some(endpoint) = self.claim(id).await? {
                self.endpoints.insert(id, endpoint);
            } else {
                self.passed_over.insert(id, revision);
            }
        }
        Ok(())
    }

    async fn claim(&self, id: Uuid) -> sqlx::Result<Option<Endpoint>> {
        let Some((claimed, held)) = keeping::claim(&self.ctx.db, id, self.epoch).await? else {
            return Ok(None);
        };
        let types = match Types::named(claimed.event_types.iter().map(String::as_str)) {
            Ok(types) => types,
            Err(unknown) => {
                // Left to a newer version; without the filter it would be told too much.
                tracing::error!(endpoint = %id, ?unknown, "a webhook endpoint wants events that this version does not know");
                return Ok(None);
            }
        };
        let open = |sealed: &[u8]| self.ctx.sealer.open_secret(id, sealed);
        let former = claimed.former_secret.as_deref().and_then(open);
        Ok(Some(Endpoint {
            core: Core::restore(claimed.position, held),
            revision: claimed.revision,
            url: claimed.url.into(),
            types,
            secrets: Arc::new(Secrets {
                present: open(&claimed.secret),
                former: former.zip(claimed.former_until),
            }),
            events: Window::default(),
            read: None,
            look_at: Instant::now(),
            attempts: Vec::new(),
            busy: 0,
            ending: false,
        }))
    }

    /// Begins whatever is to be done.
    fn pump(&mut self) {
        let now = self.ctx.surroundings.now();
        for (id, endpoint) in &mut self.endpoints {
            if endpoint.ending {
                continue;
            }
            for action in endpoint.core.actions(now) {
                match action {
                    Action::Read { after, limit } => endpoint.read = Some((after, limit)),
                    Action::Send { position, .. } => {
                        endpoint.busy += 1;
                        let event = endpoint.events.get(position);
                        let letter = Letter {
                            ctx: self.ctx.clone(),
                            sender: self.sender.clone(),
                            url: endpoint.url.clone(),
                            secrets: endpoint.secrets.clone(),
                            readers: self.readers.clone(),
                        };
                        let endpoint = *id;
                        self.tasks.spawn(async move {
                            let (sent, about) = letter.send(position, event).await;
                            let what = What::Sent { position, sent, about };
                            Done { endpoint, what }
                        });
                    }
                    Action::Find { lane, after, through } => {
                        endpoint.busy += 1;
                        let (db, types, endpoint) = (self.ctx.db.clone(), endpoint.types.clone(), *id);
                        let readers = self.readers.clone();
                        self.tasks.spawn(async move {
                            let _turn = readers.acquire().await;
                            let next = keeping::next_of(&db, &lane, after, through, &types.stored()).await;
                            let what = What::Found { lane, next };
                            Done { endpoint, what }
                        });
                    }
                }
            }
            let known = *self.ctx.head.borrow();
            if let Some((after, limit)) = endpoint.read
                && (known > after && endpoint.look_at <= Instant::now() + LOOK_EVERY
                    || endpoint.look_at <= Instant::now())
            {
                endpoint.read = None;
                endpoint.busy += 1;
                let (db, types, endpoint) = (self.ctx.db.clone(), endpoint.types.clone(), *id);
                let readers = self.readers.clone();
                self.tasks.spawn(async move {
                    let _turn = readers.acquire().await;
                    let after = Cursor {
                        log: None,
                        position: after,
                    };
                    let what = What::Read(pages::page(&db, after, &types, limit).await);
                    Done { endpoint, what }
                });
            }
        }
    }

    fn done(&mut self, done: Done) {
        let at = &self.ctx.surroundings;
        let (now, chance) = (at.now(), at.below(u64::MAX));
        // Endpoints stay as long as anything of them is under way.
        let Some(endpoint) = self.endpoints.get_mut(&done.endpoint) else {
            return;
        };
        endpoint.busy -= 1;
        match done.what {
            What::Read(page) => endpoint.read(page),
            What::Sent { position, sent, about } => {
                endpoint.sent(position, sent, about, now, chance);
                if endpoint.core.is_gone() {
                    // Kept at once: it wants nothing more.
                    self.save_at = Instant::now();
                }
            }
            What::Found { lane, next: Ok(next) } => endpoint.core.found(&lane, next, now),
            What::Found { lane, next: Err(error) } => {
                tracing::warn!(%error, "the log cannot be read for a webhook yet");
                endpoint.core.not_found_out(&lane);
            }
        }
    }

    /// Keeps how far everything is.
    async fn save(&mut self) {
        for (id, endpoint) in &mut self.endpoints {
            endpoint.measure(*id, false);
            if endpoint.ending {
                continue;
            }
            let fence = Fence {
                endpoint: *id,
                epoch: self.epoch,
                revision: endpoint.revision,
            };
            match endpoint.save(&self.ctx.db, fence).await {
                Ok(true) => {}
                Ok(false) => endpoint.ending = true,
                Err(error) => tracing::warn!(%error, "it cannot be kept yet how far a webhook endpoint is"),
            }
            if endpoint.core.is_gone() && !endpoint.ending {
                let now = self.ctx.surroundings.now();
                match keeping::disable(&self.ctx.db, fence, now).await {
                    Ok(_) => {
                        endpoint.ending = true;
                        metrics::counter!("jangbu_webhook_endpoints_gone_total").increment(1);
                        tracing::warn!(endpoint = %EndpointId(*id), "a webhook endpoint is gone, and disabled");
                    }
                    Err(error) => tracing::warn!(%error, "a webhook endpoint that is gone cannot be disabled yet"),
                }
            }
        }
    }

    /// Lets what is on the way come to an end: what is known to be taken need not be sent again.
    async fn finish(&mut self) {
        let all = async {
            while let Some(done) = self.tasks.join_next().await {
                if let Ok(done) = done {
                    self.done(done);
                }
            }
        };
        if timeout(LAST_REQUESTS, all).await.is_err() {
            tracing::warn!("some webhooks were cut off at the end; they are sent again");
        }
        self.save().await;
    }
}
