//! Subcommands and what they do.
#![expect(
    clippy::doc_markdown,
    reason = "these comments are help texts, which a terminal shows as they are"
)]

mod events;
mod past;
mod rebuild;
mod serve;
mod sql;
mod tasks;
mod upkeep;
mod webhooks;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jangbu::{
    analysts,
    as_of::AsOf,
    config::{Config, ConfigError},
    demo::{self, DemoError},
    import::ImportError,
    node::StartError,
    rebuild::{RebuildError, list::DropError},
    replay::{ReplayError, SchemaName},
    telemetry::{self, FILTER, FILTER_QUIET, Metrics, TelemetryError},
    workers,
};
use tokio_util::sync::CancellationToken;

/// Event-sourced commerce backend for Korean online shops.
///
/// Everything is configured by environment variables or ./.env; .env.example explains each one.
/// Without DATABASE_URL a private PostgreSQL is started below JANGBU_DATA_DIR (./.jangbu).
/// Data goes to stdout, progress and logs to stderr; RUST_LOG chooses what is logged.
///
/// Begin with `jangbu demo`. When something is amiss, ask `jangbu doctor`.
#[derive(Parser)]
#[command(
    name = "jangbu",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 a variable or an argument makes no sense."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP at JANGBU_BIND; alone it hosts every role.
    ///
    /// Brings the tables up to date first. With AMQP_URL the events go through RabbitMQ, without it
    /// the workers poll the log. Any number of processes may run on one database. Ctrl-C or SIGTERM
    /// lets requests end (15 s at most); a second one stops at once.
    #[command(after_help = "\
API and documents: http://127.0.0.1:8080/docs and /openapi.json
Health: /livez (the process runs), /readyz (it keeps up), /metrics (Prometheus)

A shop on one machine:        jangbu serve
Every role for itself:        jangbu serve --only http & jangbu relay & jangbu project")]
    Serve(ServeArgs),
    /// Publish the log to RabbitMQ, as a process of its own.
    ///
    /// Needs AMQP_URL. Any number may run; one leads, and another takes over within seconds when it
    /// goes. Events are published at least once and in order. With JANGBU_METRICS_BIND it answers
    /// /livez and /metrics there.
    Relay,
    /// Feed projections (what lists and reports read), as a process of its own.
    ///
    /// Any number may run; they share the partitions among them. Gaps are filled from the log, so a
    /// purged queue or a stopped broker loses nothing. With JANGBU_METRICS_BIND it answers /livez
    /// and /metrics there.
    Project {
        /// Which: catalog, order_history, sales, stock_levels, or one in SQL. All of them by default.
        names: Vec<String>,
    },
    /// Bring the tables up to date, and stop.
    ///
    /// Every other command does so too when it starts; this is for deployments that want it apart.
    Migrate,
    /// Simulate PortOne, and logins with Kakao, Naver and Google, on this machine, with pages to click through.
    ///
    /// It accepts PORTONE_API_SECRET and PORTONE_STORE_ID and signs webhooks with the first of
    /// PORTONE_WEBHOOK_SECRETS; give the shop the same variables and PORTONE_API_BASE=<its address>.
    /// Its address with /kakao, /naver or /google behind it is for JANGBU_KAKAO_BASE and the like.
    /// Everything is in memory and gone at the end. Prints its address to stdout.
    #[command(after_help = "\
Control surface, without credentials, so keep it on loopback:
  curl -X POST http://127.0.0.1:9090/_sim/payments/<paymentId>/pay      also: open fail issue deposit cancel
  curl -X POST http://127.0.0.1:9090/_sim/faults -d '{\"fault\": \"webhook_duplicate\", \"copies\": 3}'

sandbox/README.md lists all of it.")]
    Sandbox(SandboxArgs),
    /// Take over products or past orders from CSV files.
    #[command(subcommand)]
    Import(Import),
    /// Start a small golf shop on this machine and buy something in it.
    ///
    /// Needs no configuration: a private PostgreSQL, every role, and PortOne simulated. Fills a small
    /// shop, lets a guest buy over HTTP, shows the events of every step and what follows from them,
    /// then prints addresses, an admin token and a purchase to paste, and shows live events until
    /// Ctrl-C. A second run goes on with the same shop. Refuses a database that holds another shop.
    Demo(DemoArgs),
    /// Re-read from PortOne what changed lately, and repair what webhooks missed.
    ///
    /// `jangbu serve` does so by itself every five minutes. Payments are only read; what they say is
    /// recorded, orders are confirmed, and money of no order is given back.
    Reconcile(ReconcileArgs),
    /// Mint a token for the API and print it.
    ///
    /// Signed with JANGBU_JWT_SECRET, or with jwt.secret of the data directory when there is none.
    /// Send it as `Authorization: Bearer <token>`.
    #[command(after_help = "\
For the back office:   jangbu token --role admin
For a customer:        jangbu token --role customer --subject cus_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f --hours 1")]
    Token(TokenArgs),
    /// Say in one line each what is well with the set-up, what is not, and what to do.
    ///
    /// Looks at the configuration, the data directory and keys, PostgreSQL and its tables, RabbitMQ,
    /// PortOne and its secret, the clocks, and work that is left lying. Changes nothing. Fails if
    /// anything is WRONG; a warning is no failure.
    Doctor {
        /// Print JSON: [{"mark": "ok" | "warn" | "wrong", "about", "says", "advice"?}].
        #[arg(long)]
        json: bool,
    },
    /// Make a projection's tables as of a moment of the past, in a schema for analysts.
    ///
    /// The projection's own code is told the log up to there, so the tables are what they were, personal
    /// data sealed as ever; the view `jangbu_replay` in the schema says what it holds. The schema is there
    /// whole or not at all: stopped in the middle, nothing is made. What counts is when the shop learnt of
    /// something. Needs a role that may make schemas.
    #[command(after_help = "\
Sales as they were known when July ended, for the role of an analyst:
  jangbu replay sales --as-of 2026-07-31 --into audit_july --grant analyst
  psql -c 'select * from audit_july.sales_by_hour'")]
    Replay(ReplayArgs),
    /// Make a projection's tables again from the log, beside the ones that are read, and switch.
    ///
    /// The shop stays open: queries read the old tables until the new ones know as much, then, from one
    /// statement to the next, the new ones. Killed, the same command goes on where it was. An event that
    /// cannot be applied stops it, and changes nothing for readers. The old build is kept.
    #[command(after_help = "\
Gently, beside a busy shop:         jangbu rebuild sales --throttle 20000
Into another number of partitions:  jangbu rebuild sales --partitions 8
Back to the one before:             jangbu rebuild sales --rollback")]
    Rebuild(rebuild::RebuildArgs),
    /// Prove that a projection's tables are what the log says.
    ///
    /// Its own code is told the log once more, into tables of their own, up to where each partition is,
    /// while the shop goes on. Says which row differs first, and fails. Needs a role that may make schemas.
    #[command(after_help = "\
Every night:          jangbu verify sales --json
With what to do then: jangbu verify sales --repair")]
    Verify(rebuild::VerifyArgs),
    /// Say which builds of the projections there are, how far they are, and which are read.
    ///
    /// A rebuild leaves the build that it replaced, to go back to. `jangbu builds drop` removes it.
    Builds(rebuild::BuildsArgs),
    /// Say how something came to be what it is.
    #[command(subcommand)]
    Explain(Explain),
    /// Look after the log itself.
    #[command(subcommand)]
    Log(LogCommand),
    /// Look after what a projection cannot take.
    #[command(subcommand)]
    Parked(upkeep::Parked),
    /// Projections that analysts write in SQL: check them, list them, see what events say.
    #[command(subcommand)]
    Sql(sql::Sql),
    /// Look after steps of orders that could not be done.
    #[command(subcommand)]
    Processes(upkeep::Processes),
    /// Say what events look like.
    #[command(subcommand)]
    Events(events::Events),
    /// Look after programs of others that are told what happens.
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
}

#[derive(Args)]
struct ServeArgs {
    /// Host only this role, and run `jangbu relay` and `jangbu project` beside it.
    #[arg(long, value_enum)]
    only: Option<Only>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    /// HTTP, process managers and timers.
    Http,
}

#[derive(Args)]
struct SandboxArgs {
    /// Where it listens; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    bind: SocketAddr,
    /// Where webhooks go, for example `http://127.0.0.1:8080/webhooks/portone`.
    #[arg(long, value_name = "URL", value_parser = web_address)]
    webhook_url: Option<String>,
    /// Divide the pauses before a webhook is sent again (1, 4, 16, 64, 256 minutes); 60 makes them seconds.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    retry_time_scale: u32,
}

fn web_address(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        Ok(_) => Err("it must begin with http:// or https://".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Subcommand)]
enum Import {
    /// Columns sku, name, category, price_krw; every other column becomes an attribute.
    ///
    /// Products are registered and published. A row that makes no sense goes to FILE.rejects.csv
    /// with its line and the reason, and the rest goes on; then the exit code is 1. Running it again
    /// changes only names and prices that changed in the file.
    Products(ImportArgs),
    /// Columns basket_id, household_id, ordered_at, sku, quantity; others are kept as references.
    ///
    /// Every basket becomes one past order at the catalog's prices: counted in sales, never acted
    /// upon. A bad row rejects its whole basket into FILE.rejects.csv, and the rest goes on; then the
    /// exit code is 1. Running it again imports nothing twice; killed and started again, it goes on.
    Orders(ImportArgs),
}

#[derive(Args)]
struct ImportArgs {
    /// A CSV file in UTF-8 with a header.
    file: PathBuf,
    /// The system the file comes from; with the row's own id it makes the order's id.
    #[arg(long, default_value = jangbu::import::DEFAULT_SOURCE)]
    source: String,
    /// Where rejected rows go, instead of FILE.rejects.csv.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Leave this column out; may be given several times.
    #[arg(long, value_name = "COLUMN")]
    ignore: Vec<String>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DemoArgs {
    /// Stop after the first purchase, for scripts.
    #[arg(long)]
    exit_after_purchase: bool,
}

#[derive(Args)]
struct ReconcileArgs {
    /// How many hours to look back.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=2_160))]
    hours: i64,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct TokenArgs {
    /// What the bearer may do.
    #[arg(long, value_enum)]
    role: Role,
    /// Whose token it is: a customer id (cus_…) for customers, any short name for admins.
    #[arg(long)]
    subject: Option<String>,
    /// How long it is good for, in hours.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i64).range(1..=8_760))]
    hours: i64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Runs the shop.
    Admin,
    /// Buys in it.
    Customer,
}

#[derive(Args)]
struct ReplayArgs {
    /// Which: catalog, order_history, sales, stock_levels, or one in SQL.
    projection: String,
    /// A time (2026-08-01T00:00:00+09:00), a day in Korea (2026-07-31, meaning its end), or a position
    /// of the log.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    as_of: AsOf,
    /// The schema to make: a-z 0-9 _, beginning with a letter.
    #[arg(long, value_name = "SCHEMA")]
    into: SchemaName,
    /// A role of the database that may read it; may be given several times.
    #[arg(long, value_name = "ROLE")]
    grant: Vec<String>,
    /// Put it in place of an earlier replay of that name. Readers of that one must be granted anew.
    #[arg(long)]
    replace: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Explain {
    /// An order: every command, who gave it, the events that it left, and what followed from them.
    ///
    /// What came from outside (a request, a webhook, a timer) stands at the margin; below it what the
    /// checkout did about it, with the names of its steps, and timers and refunds that it set. Changes
    /// nothing, and shows nothing that names a person.
    Order {
        /// Its id (ord_…) or its number (260302-7K3M9QXW).
        order: String,
        /// Print JSON, as GET /api/v1/admin/orders/{id}/explain does.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum LogCommand {
    /// Give the log a new identity after a restore or a failover; prints the identity.
    ///
    /// Messages, queues and cursors of the old history are then never taken for this one's. Whoever
    /// has read further than the log now goes is set back, and projections that have are built anew
    /// by the next process that starts. Stop every other process first.
    Fence,
}

/// A wrong value or name, as opposed to something that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Whether an error is the caller's own, told in one line with exit code 2.
pub fn is_usage(error: &anyhow::Error) -> bool {
    let start = |error: &StartError| matches!(error, StartError::Config(_) | StartError::Portone(_));
    error.is::<ConfigError>()
        || error.is::<Usage>()
        || error.downcast_ref::<ReplayError>().is_some_and(ReplayError::is_usage)
        || error.downcast_ref::<RebuildError>().is_some_and(RebuildError::is_usage)
        || error.downcast_ref::<DropError>().is_some_and(DropError::is_usage)
        || error.downcast_ref::<StartError>().is_some_and(start)
        || matches!(
            error.downcast_ref::<TelemetryError>(),
            Some(TelemetryError::Filter { .. })
        )
        || match error.downcast_ref::<DemoError>() {
            Some(DemoError::Live) => true,
            Some(DemoError::Start(error)) => start(error),
            _ => false,
        }
        || matches!(
            error.downcast_ref::<ImportError>(),
            Some(
                ImportError::Open { .. }
                    | ImportError::NotAFile { .. }
                    | ImportError::Empty { .. }
                    | ImportError::HeaderUnreadable { .. }
                    | ImportError::Header { .. }
                    | ImportError::RejectsAreTheFile { .. }
                    | ImportError::Source(_)
            )
        )
}

impl Cli {
    /// Does what was asked for.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load()?;
        telemetry::init_logs(config.log, self.command.filter())?;
        analysts::install(&config.sql_projections);
        match self.command {
            Command::Serve(args) => serve::serve(config, args.only.is_some()).await?,
            Command::Relay => serve::relay(config).await?,
            Command::Project { names } => {
                let projections = workers::named(&names).map_err(|error| Usage(error.to_string()))?;
                serve::project(config, projections).await?;
            }
            Command::Migrate => tasks::migrate(&config).await?,
            Command::Sandbox(args) => serve::sandbox(&config, args).await?,
            Command::Import(import) => return tasks::import(config, import).await,
            Command::Demo(args) => {
                let options = demo::Options {
                    exit_after_purchase: args.exit_after_purchase,
                    stop: stop_signal(),
                };
                Box::pin(demo::run(config, Metrics::install()?, options)).await?;
            }
            Command::Reconcile(args) => tasks::reconcile(config, &args).await?,
            Command::Token(args) => tasks::token(&config, args)?,
            Command::Doctor { json } => return Ok(tasks::doctor(&config, json).await),
            Command::Explain(Explain::Order { order, json }) => past::explain(&config, &order, json).await?,
            Command::Replay(args) => return past::replay(&config, args).await,
            Command::Rebuild(args) => return rebuild::rebuild(&config, args).await,
            Command::Verify(args) => return rebuild::verify(&config, args).await,
            Command::Builds(args) => return rebuild::builds(&config, args).await,
            Command::Log(LogCommand::Fence) => tasks::fence(&config).await?,
            Command::Parked(what) => return upkeep::parked(&config, what).await,
            Command::Sql(what) => return sql::run(&config, what).await,
            Command::Processes(what) => return upkeep::processes(config, what).await,
            Command::Events(what) => events::print(&what)?,
            Command::Webhooks(what) => return webhooks::run(&config, what).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Command {
    /// Processes that stay up log what they do; the others say it themselves.
    const fn filter(&self) -> &'static str {
        match self {
            Self::Serve(_) | Self::Relay | Self::Project { .. } | Self::Sandbox(_) => FILTER,
            Self::Migrate
            | Self::Import(_)
            | Self::Demo(_)
            | Self::Reconcile(_)
            | Self::Token(_)
            | Self::Doctor { .. }
            | Self::Replay(_)
            | Self::Rebuild(_)
            | Self::Verify(_)
            | Self::Builds(_)
            | Self::Explain(_)
            | Self::Log(_)
            | Self::Parked(_)
            | Self::Sql(_)
            | Self::Processes(_)
            | Self::Webhooks(_)
            | Self::Events(_) => FILTER_QUIET,
        }
    }
}

/// Cancelled by Ctrl-C or SIGTERM.
pub fn stop_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("SIGTERM can be heard");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
        // The impatient press it twice.
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("jangbu: stopping at once");
        std::process::exit(130);
    });
    token
}

/// How long a process may take to finish what it has begun.
pub const GRACE: Duration = Duration::from_secs(20);
