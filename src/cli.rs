//! Subcommands and what they do.

mod serve;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand, ValueEnum};
use jangbu::{
    clock::Surroundings,
    config::{Config, ConfigError},
    node::{self, Node, StartError},
    telemetry::{self, TelemetryError},
    workers,
};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

/// Event-sourced commerce backend for Korean online shops.
///
/// Everything is configured by environment variables (or ./.env); .env.example explains each one.
/// Without DATABASE_URL a private PostgreSQL is started below JANGBU_DATA_DIR. Data goes to stdout,
/// progress and logs to stderr.
#[derive(Parser)]
#[command(name = "jangbu", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP; alone it hosts every role.
    ///
    /// The tables are migrated first. Stops gracefully on Ctrl-C or SIGTERM.
    Serve(ServeArgs),
    /// Publish the log to RabbitMQ (AMQP_URL), as a process of its own. Any number may run; one leads.
    Relay,
    /// Feed projections, as a process of its own. Any number may run; they share the partitions.
    Project {
        /// Projections to feed: catalog, order_history, sales, stock_levels. All of them by default.
        names: Vec<String>,
    },
    /// Bring the tables up to date, and stop. Every other command does so too when it starts.
    Migrate,
    /// Simulate PortOne on this machine, with a payment window to click through.
    ///
    /// Answers as PORTONE_API_SECRET and PORTONE_STORE_ID say, and signs webhooks with the first of
    /// PORTONE_WEBHOOK_SECRETS. Point PORTONE_API_BASE of the shop at it. Keeps everything in memory.
    Sandbox(SandboxArgs),
    /// Take over products or past orders from CSV files.
    #[command(subcommand)]
    Import(Import),
    /// Start a small golf shop on this machine and buy something in it; stays up until Ctrl-C.
    Demo(DemoArgs),
    /// Re-read from PortOne what changed lately, and repair what webhooks missed.
    Reconcile(ReconcileArgs),
    /// Mint a token for the API and print it.
    Token(TokenArgs),
    /// Say in one line each what is wrong with the set-up.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look after the log itself.
    #[command(subcommand)]
    Log(LogCommand),
}

#[derive(Args)]
struct ServeArgs {
    /// Host only this role: HTTP, with the process managers and timers. Run `jangbu relay` and
    /// `jangbu project` beside it.
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
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9090")]
    bind: SocketAddr,
    /// Where webhooks go, for example http://127.0.0.1:8080/webhooks/portone.
    #[arg(long)]
    webhook_url: Option<String>,
}

#[derive(Subcommand)]
enum Import {
    /// Columns sku, name, category, price_krw; every other column becomes an attribute.
    ///
    /// Products are registered and published. A row that makes no sense goes to FILE.rejects.csv
    /// with its line and the reason, and the rest goes on. Running it again changes only what
    /// changed in the file.
    Products(ImportArgs),
    /// Columns basket_id, household_id, ordered_at, sku, quantity; others are kept as references.
    ///
    /// Every basket becomes one past order at the catalog's prices: counted in sales, never acted
    /// upon. A bad row rejects its whole basket into FILE.rejects.csv, and the rest goes on.
    /// Running it again imports nothing twice; killed and started again, it goes on.
    Orders(ImportArgs),
}

#[derive(Args)]
struct ImportArgs {
    /// A CSV file in UTF-8 with a header.
    file: PathBuf,
    /// The system the file comes from; with the row's own id it makes the order's id.
    #[arg(long, default_value = "import")]
    source: String,
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
    /// Whose token it is: a customer id (cus_…) for customers, any name for admins.
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

#[derive(Subcommand)]
enum LogCommand {
    /// Give the log a new identity after a restore or a failover.
    ///
    /// Messages, queues and cursors of the old history are then never taken for this one's.
    /// Checkpoints above the head go back to the head's projections being built anew. Stop every
    /// other process first.
    Fence,
}

/// A wrong value or name, as opposed to something that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Whether an error is the caller's own, told in one line with exit code 2.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<Usage>()
        || matches!(
            error.downcast_ref::<StartError>(),
            Some(StartError::Config(_) | StartError::Portone(_))
        )
        || matches!(
            error.downcast_ref::<TelemetryError>(),
            Some(TelemetryError::Filter { .. })
        )
}

impl Cli {
    /// Does what was asked for.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load()?;
        telemetry::init_logs(config.log)?;
        match self.command {
            Command::Serve(args) => serve::serve(config, args.only.is_some()).await?,
            Command::Relay => serve::relay(config).await?,
            Command::Project { names } => {
                let projections = workers::named(&names).map_err(|error| Usage(error.to_string()))?;
                serve::project(config, projections).await?;
            }
            Command::Migrate => migrate(&config).await?,
            Command::Sandbox(args) => serve::sandbox(&config, args.bind, args.webhook_url).await?,
            Command::Import(import) => return run_import(config, import).await,
            Command::Demo(args) => jangbu::demo::run(config, args.exit_after_purchase).await?,
            Command::Reconcile(args) => reconcile(config, &args).await?,
            Command::Token(args) => token(&config, args)?,
            Command::Doctor { json } => return Ok(doctor(&config, json).await),
            Command::Log(LogCommand::Fence) => fence(&config).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let connected = node::connect(config).await?;
    let pool = node::pool(&connected.options, 2).await?;
    node::migrate(&pool).await?;
    pool.close().await;
    if let Some(embedded) = connected.embedded {
        embedded.stop().await?;
    }
    println!("the tables are up to date");
    Ok(())
}

async fn run_import(config: Config, import: Import) -> anyhow::Result<ExitCode> {
    use jangbu::import::{self, Options};

    let node = Node::start(config, Surroundings::system()).await?;
    let stop = stop_signal();
    let (args, orders) = match import {
        Import::Products(args) => (args, false),
        Import::Orders(args) => (args, true),
    };
    let options = Options {
        source: args.source,
        stop,
        ..Options::default()
    };
    let progress = import::bar();
    let report = if orders {
        import::orders(&node.executor, &args.file, &options, &*progress).await
    } else {
        import::products(&node.executor, &args.file, &options, &*progress).await
    };
    node.stop().await;
    let report = report.map_err(|error| Usage(error.to_string()))?;
    import::print(&report, args.json);
    Ok(if report.rejected == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn reconcile(config: Config, args: &ReconcileArgs) -> anyhow::Result<()> {
    let node = Node::start(config, Surroundings::system()).await?;
    let until = node.executor.log().surroundings().now();
    let found = node
        .payments
        .reconcile(until - TimeDelta::hours(args.hours), until)
        .await;
    node.stop().await;
    let found = found?;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!(
            "read {} payments at PortOne, {} ours, {} repaired, {} failed",
            found.read, found.ours, found.repaired, found.failed
        );
    }
    anyhow::ensure!(found.failed == 0, "some payments could not be reconciled; run it again");
    Ok(())
}

fn token(config: &Config, args: TokenArgs) -> anyhow::Result<()> {
    let surroundings = Surroundings::system();
    let keys = config.keys(|bytes| surroundings.ids.fill(bytes))?;
    let role = match args.role {
        Role::Admin => jangbu::http::auth::Role::Admin,
        Role::Customer => jangbu::http::auth::Role::Customer,
    };
    let subject = match (args.role, args.subject) {
        (_, Some(subject)) => subject,
        (Role::Admin, None) => "admin".to_owned(),
        (Role::Customer, None) => return Err(Usage("--subject cus_… says whose token it is".to_owned()).into()),
    };
    let lifetime = TimeDelta::hours(args.hours);
    let token = jangbu::http::auth::mint_token(keys.jwt.expose(), role, &subject, lifetime, surroundings.now())
        .map_err(|error| Usage(error.to_string()))?;
    println!("{token}");
    Ok(())
}

async fn doctor(config: &Config, json: bool) -> ExitCode {
    let findings = jangbu::doctor::examine(config).await;
    if json {
        println!("{}", serde_json::to_string(&findings).expect("findings serialise"));
    } else {
        for finding in &findings {
            println!("{finding}");
        }
    }
    if findings.iter().any(jangbu::doctor::Finding::is_wrong) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

async fn fence(config: &Config) -> anyhow::Result<()> {
    let connected = node::connect(config).await?;
    let mut db = sqlx::PgConnection::connect_with(&connected.options).await?;
    let surroundings = Surroundings::system();
    let fenced = jangbu::log::fence(&mut db, &surroundings).await?;
    db.close().await?;
    if let Some(embedded) = connected.embedded {
        embedded.stop().await?;
    }
    println!("{}", fenced.log_id);
    eprintln!(
        "the log has a new identity; {} checkpoints were ahead of it and went back",
        fenced.reset
    );
    Ok(())
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
