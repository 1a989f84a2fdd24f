//! One process of Jangbu: connected, migrated, with everything its roles share.

use std::{collections::VecDeque, str::FromStr, time::Duration};

use chrono::TimeDelta;
use jangbu_projections::{Registered, builds};
use sqlx::{
    PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    accounts::{
        digests::Digester,
        jwt::{AccessTokens, TokenKey},
        password::Passwords,
        sessions::{EndedSessions, Sessions},
        throttle::Throttle,
    },
    checkout::CheckoutService,
    clock::Surroundings,
    config::{Accounts, Config, ConfigError, Database, Keys},
    embedded::{Embedded, EmbeddedError},
    executor::Executor,
    feed,
    http::App,
    leases::{self, Group, Keeper},
    log::Log,
    members::{Members, sign_in::Gate},
    payments::{self, Payments, Shop},
    portone::{self, Client, ClientConfig, Rereader, RereaderConfig, webhook::SecretError},
    processes::{self, RunError},
    readers::Readers,
    rebuild::watch::Builds,
    relay,
    sealing::Sealer,
    telemetry::Metrics,
    timers::{self, Timers},
    webhooks::runner as webhooks,
    workers,
};

/// The lease of whoever reconciles.
const RECONCILER: &str = "reconciler";
/// How long the runner leaves fresh events to the HTTP handler that drives them itself: two who do
/// the same work at once are right, but slower than one.
const GRACE: Duration = Duration::from_millis(250);
/// Timers of one group that one process does at once.
const TIMERS_AT_ONCE: usize = 32;
/// How often what ended long ago is deleted, a little at a time.
const SWEPT_EVERY: Duration = Duration::from_secs(60);
/// How often loops look for work when nothing wakes them.
const IDLE: Duration = Duration::from_millis(250);

/// A process that is connected to its log.
pub struct Node {
    /// What it was started with.
    pub config: Config,
    /// Signing and wrapping keys.
    pub keys: Keys,
    /// Carries out commands.
    pub executor: Executor,
    /// Seals and opens personal data.
    pub sealer: Sealer,
    /// Registers members.
    pub members: Members,
    /// Lets members in and out.
    pub gate: Gate,
    /// Speaks to PortOne.
    pub payments: Payments,
    /// Checks carts out.
    pub checkout: CheckoutService,
    /// Reads the active builds of the projections.
    pub readers: Readers,
    builds: Builds,
    embedded: Option<Embedded>,
}

/// What a process does beside answering commands.
#[derive(Clone)]
pub struct Roles {
    /// The checkout's runner, timers, reconciliation and webhooks to others.
    pub processes: bool,
    /// Publishing the log to the broker.
    pub relay: bool,
    /// The projections to feed.
    pub projections: Vec<&'static Registered>,
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The private database does not run.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database does not answer.
    #[error("the database does not answer: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables are not what this version knows.
    #[error("the database could not be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// PortOne's settings make no sense.
    #[error("the PORTONE_* settings make no sense: {0}")]
    Portone(#[from] portone::ConfigError),
}

/// The tables of this version, as steps that lead to them.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// A database that is there, and its server if it is ours.
pub struct Connected {
    /// How to reach it.
    pub options: PgConnectOptions,
    /// The private server, to be stopped at the end.
    pub embedded: Option<Embedded>,
}

/// Finds the configured database, or starts the private one, and brings its tables up to date.
pub async fn connect(config: &Config) -> Result<Connected, StartError> {
    let (url, embedded) = match &config.database {
        Database::Url(url) => (url.expose().to_owned(), None),
        Database::Embedded => {
            let embedded = Embedded::start(&config.data_dir).await?;
            (embedded.url().to_owned(), Some(embedded))
        }
    };
    let options = PgConnectOptions::from_str(&url)?.application_name("jangbu");
    Ok(Connected { options, embedded })
}

/// Brings the tables up to date; several processes may do so at once.
pub async fn migrate(pool: &PgPool) -> Result<(), StartError> {
    MIGRATOR.run(pool).await?;
    Ok(())
}

/// How long a transaction may stand still. Of a process that hangs in one, others would wait for the
/// locks without end; by then it has lost its leases too.
fn silence() -> (&'static str, String) {
    (
        "idle_in_transaction_session_timeout",
        leases::TTL.as_millis().to_string(),
    )
}

/// A pool of at most `connections`.
pub async fn pool(options: &PgConnectOptions, connections: u32) -> sqlx::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        // A ping before every use would double the round trips of every read.
        .test_before_acquire(false)
        .connect_with(options.clone().options([silence()]))
        .await
}

impl Node {
    /// Connects, migrates, and opens the log and the projections' builds.
    pub async fn start(config: Config, surroundings: Surroundings) -> Result<Self, StartError> {
        let keys = config.keys(|bytes| surroundings.ids.fill(bytes))?;
        let Connected { options, embedded } = connect(&config).await?;
        let main_pool = pool(&options, config.db_pool_max).await?;
        migrate(&main_pool).await?;
        for projection in jangbu_projections::built_in() {
            let build = builds::ensure(&main_pool, projection, partitions(&config), surroundings.now()).await?;
            if build.partitions != partitions(&config) {
                tracing::warn!(
                    build = build.schema_name,
                    partitions = build.partitions,
                    "this build has other partitions than JANGBU_PARTITIONS says: it is fed from the log, without \
                     the broker, until `jangbu rebuild {}` makes one anew",
                    projection.name
                );
            }
        }
        let builds = Builds::start(&options);
        let readers = Readers::open(&options, (config.db_pool_max / 2).max(2), builds.clone()).await?;

        let log = Log::open(options.clone(), main_pool, surroundings).await?;
        let executor = Executor::new(log);
        let sealer = Sealer::new(keys.master.expose());
        let shop = shop(&config, &executor)?;
        let payments = Payments::new(executor.clone(), sealer.clone(), shop, config.live);
        let deadline = TimeDelta::from_std(config.payment_deadline).unwrap_or(TimeDelta::minutes(30));
        let checkout = CheckoutService::new(executor.clone(), sealer.clone(), payments.clone(), deadline);
        let (members, gate) = members(&config, &keys, &options, &executor, &sealer);
        Ok(Self {
            config,
            keys,
            executor,
            sealer,
            members,
            gate,
            payments,
            checkout,
            readers,
            builds,
            embedded,
        })
    }

    /// Starts the roles; they end in order once `shutdown` is cancelled.
    pub fn spawn(&self, roles: Roles, shutdown: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if roles.processes {
            tasks.spawn(run_checkout(self.executor.clone(), shutdown.clone()));
            for kinds in timers::KINDS {
                tasks.spawn(run_timers(Timers::new(self.payments.clone()), kinds, shutdown.clone()));
            }
            if self.payments.shop().is_some() {
                tasks.spawn(run_reconciliation(self.payments.clone(), shutdown.clone()));
            }
            tasks.spawn(webhooks::run(self.webhooks_context(), shutdown.clone()));
            tasks.spawn(run_sweeps(self.gate.clone(), shutdown.clone()));
        }
        let context = self.feed_context();
        if roles.relay && context.amqp_url.is_some() {
            tasks.spawn(relay::run(context.clone(), shutdown.clone()));
        }
        if !roles.projections.is_empty() {
            tasks.spawn(workers::run_with(
                context,
                roles.projections,
                self.builds.clone(),
                shutdown.clone(),
            ));
        }
        tasks
    }

    /// What HTTP answers with. Fails on webhook secrets that cannot be used.
    pub fn app(&self, metrics: Option<Metrics>) -> Result<App, SecretError> {
        App::try_new(self, metrics)
    }

    /// What relay and workers need.
    pub fn feed_context(&self) -> feed::Context {
        let log = self.executor.log();
        feed::Context {
            db: log.pool().clone(),
            surroundings: log.surroundings().clone(),
            amqp_url: self.config.amqp_url.as_ref().map(|url| url.expose().to_owned()),
            partitions: partitions(&self.config),
            head: Some(log.watch()),
            lease_ttl: leases::TTL,
        }
    }

    /// What the webhooks' runner needs.
    pub fn webhooks_context(&self) -> webhooks::Context {
        let log = self.executor.log();
        webhooks::Context {
            db: log.pool().clone(),
            surroundings: log.surroundings().clone(),
            sealer: self.sealer.clone(),
            live: self.config.live,
            head: log.watch(),
            lease_ttl: leases::TTL,
        }
    }

    /// Closes the pools and stops the private database, if this process is the last to use it.
    pub async fn stop(self) {
        self.readers.close().await;
        self.executor.log().pool().close().await;
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.stop().await
        {
            tracing::warn!(%error, "the private database did not stop in order");
        }
    }
}

/// What registers members, and what lets them in.
fn members(
    config: &Config,
    keys: &Keys,
    options: &PgConnectOptions,
    executor: &Executor,
    sealer: &Sealer,
) -> (Members, Gate) {
    let (db, surroundings) = (executor.log().pool(), executor.log().surroundings());
    let accounts = &config.accounts;
    let digester = Digester::new(keys.master.expose());
    let token_keys = if accounts.token_keys.is_empty() {
        vec![TokenKey::derived(keys.jwt.expose())]
    } else {
        accounts.token_keys.clone()
    };
    let access = AccessTokens::try_new(&config.public_url, accounts.access_token, &token_keys)
        .expect("the configuration has checked the keys");
    let passwords = Passwords::new(accounts.password_threads, surroundings);
    let members = Members::new(executor.clone(), sealer.clone(), digester.clone(), passwords);
    let gate = Gate::new(
        members.clone(),
        access,
        Sessions::new(digester.clone(), accounts.sessions),
        EndedSessions::start(options, db.clone(), surroundings.clone(), Accounts::ACCESS_TOKEN_MAX),
        Throttle::new(db.clone(), digester),
    );
    (members, gate)
}

/// As the tables count them.
pub fn partitions(config: &Config) -> i16 {
    i16::try_from(config.partitions).expect("there are at most 64 partitions")
}

fn shop(config: &Config, executor: &Executor) -> Result<Option<Shop>, StartError> {
    let Some(api) = &config.portone.api else {
        return Ok(None);
    };
    let surroundings = executor.log().surroundings();
    let client = Client::try_new(&ClientConfig::new(
        &api.base,
        portone::Secret::new(api.secret.expose()),
        &api.store_id,
        surroundings.below(u64::MAX),
    ))?;
    Ok(Some(Shop {
        rereader: Rereader::new(client.clone(), RereaderConfig::default()),
        client,
        store_id: api.store_id.clone(),
        channel_key: api.channel_key.clone(),
    }))
}

/// Which events have been there for [`GRACE`], by a clock that cannot be set: one process whose clock
/// jumped ahead must not hold up the checkout until the others' clocks have caught up.
#[derive(Default)]
struct Ripening {
    seen: VecDeque<(Instant, i64)>,
    ripe: i64,
}

impl Ripening {
    /// The log reaches to `head` now.
    fn saw(&mut self, head: i64) {
        if self.seen.back().is_none_or(|(_, known)| *known < head) {
            self.seen.push_back((Instant::now(), head));
        }
    }

    /// Up to where everything is ripe.
    fn ripe(&mut self) -> i64 {
        while let Some((_, head)) = self.seen.front().filter(|(at, _)| at.elapsed() >= GRACE) {
            self.ripe = *head;
            self.seen.pop_front();
        }
        self.ripe
    }
}

/// Runs the checkout whenever its lease can be had.
async fn run_checkout(executor: Executor, shutdown: CancellationToken) {
    let log = executor.log().clone();
    let name = processes::CHECKOUT.to_owned();
    let keeper = Keeper::start(
        log.pool(),
        log.surroundings().ids.uuid(),
        leases::TTL,
        [Group::one(name.clone())],
    );
    let mut lease = keeper.lease(&name).expect("the keeper was started with this lease");
    let mut head = log.watch();
    let mut pause = IDLE;
    let mut ripening = Ripening::default();
    loop {
        let epoch = tokio::select! {
            () = shutdown.cancelled() => break,
            epoch = lease.held() => epoch,
        };
        let round = async {
            ripening.saw(feed::head(log.pool()).await?);
            processes::round(&executor, epoch, ripening.ripe()).await
        };
        match round.await {
            Ok(0) => {
                let idle = async {
                    _ = head.changed().await;
                    tokio::time::sleep(GRACE / 5).await;
                };
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = idle => {}
                    () = tokio::time::sleep(IDLE) => {}
                }
                pause = IDLE;
            }
            Ok(_) => pause = IDLE,
            Err(error) => {
                if matches!(error, RunError::Fenced) {
                    lease.give_up(Duration::ZERO);
                }
                tracing::error!(%error, "the checkout is held up");
                metrics::counter!("jangbu_process_errors", "process" => processes::CHECKOUT).increment(1);
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
    }
    keeper.close().await;
}

/// Does what is due of some kinds, at most [`TIMERS_AT_ONCE`] at a time: a card company that takes a
/// minute over one refund must not hold up the next, nor any deadline. Many processes may at once:
/// each takes other timers.
async fn run_timers(timers: Timers, kinds: &'static [&'static str], shutdown: CancellationToken) {
    let surroundings = timers.surroundings().clone();
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let free = TIMERS_AT_ONCE - running.len();
        let wait = match timers.take(surroundings.now(), kinds, free).await {
            Ok(taken) if taken.is_empty() => IDLE,
            Ok(taken) => {
                for timer in taken {
                    let timers = timers.clone();
                    running.spawn(async move {
                        if let Err(error) = timers.carry_out(timer).await {
                            tracing::warn!(%error, "a timer was done but is still there; it is done again");
                        }
                    });
                }
                Duration::from_millis(10)
            }
            Err(error) => {
                tracing::warn!(%error, "timers cannot be read yet");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// Deletes what signing in leaves behind, little by little.
async fn run_sweeps(gate: Gate, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(SWEPT_EVERY) => {}
        }
        if let Err(error) = gate.sweep().await {
            tracing::warn!(%error, "old sessions and attempts could not be deleted");
        }
    }
}

/// Repairs every five minutes what webhooks missed.
async fn run_reconciliation(payments: Payments, shutdown: CancellationToken) {
    let log = payments.executor().log().clone();
    let name = RECONCILER.to_owned();
    let holder = log.surroundings().ids.uuid();
    let keeper = Keeper::start(log.pool(), holder, leases::TTL, [Group::one(name.clone())]);
    let mut lease = keeper.lease(&name).expect("the keeper was started with this lease");
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = lease.held() => {}
        }
        match payments.reconcile_on().await {
            Ok(found) if found.repaired > 0 || found.failed > 0 => {
                tracing::warn!(
                    found.read,
                    found.ours,
                    found.repaired,
                    found.failed,
                    "payments were reconciled"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "payments could not be reconciled"),
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(payments::RECONCILED_EVERY) => {}
        }
    }
    keeper.close().await;
}
