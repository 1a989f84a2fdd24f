//! Commands that do one thing and end.

use std::process::ExitCode;

use chrono::TimeDelta;
use jangbu::{
    clock::Surroundings,
    config::Config,
    doctor,
    http::auth,
    import, log,
    node::{self, Connected, Node},
};
use sqlx::Connection as _;

use super::{Import, ReconcileArgs, Role, TokenArgs, Usage, stop_signal};

/// Brings the tables up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let Connected { options, embedded } = node::connect(config).await?;
    let pool = node::pool(&options, 2).await?;
    node::migrate(&pool).await?;
    pool.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    println!("the tables are up to date");
    Ok(())
}

/// Takes over products or past orders. Fails if anything was rejected, or stopped before its end.
pub async fn import(config: Config, what: Import) -> anyhow::Result<ExitCode> {
    let (args, kind) = match what {
        Import::Products(args) => (args, import::Kind::Products),
        Import::Orders(args) => (args, import::Kind::Orders),
    };
    let options = import::Options {
        source: args.source,
        ignored_columns: args.ignore,
        rejects_file: args.rejects,
        stop: stop_signal(),
    };
    let node = Node::start(config, Surroundings::system()).await?;
    let progress = import::Console::default();
    let report = match kind {
        import::Kind::Products => import::products(&node.executor, &args.file, &options, &progress).await,
        import::Kind::Orders => import::orders(&node.executor, &args.file, &options, &progress).await,
    };
    node.stop().await;
    let report = report?;
    import::print(&report, args.json);
    if report.stopped {
        eprintln!("jangbu: stopped before the end; the same command goes on");
    }
    Ok(if report.rejected == 0 && !report.stopped {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads at PortOne what changed lately.
pub async fn reconcile(config: Config, args: &ReconcileArgs) -> anyhow::Result<()> {
    if let Some(name) = config.portone.missing.first() {
        return Err(Usage(format!("{name} is required: without it PortOne cannot be asked")).into());
    }
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

/// Mints a token.
pub fn token(config: &Config, args: TokenArgs) -> anyhow::Result<()> {
    let surroundings = Surroundings::system();
    let keys = config.keys(|bytes| surroundings.ids.fill(bytes))?;
    let role = match args.role {
        Role::Admin => auth::Role::Admin,
        Role::Customer => auth::Role::Customer,
    };
    let subject = match (args.role, args.subject) {
        (_, Some(subject)) => subject,
        (Role::Admin, None) => "admin".to_owned(),
        (Role::Customer, None) => return Err(Usage("--subject cus_… must say whose token it is".to_owned()).into()),
    };
    let lifetime = TimeDelta::hours(args.hours);
    let token = auth::mint_token(keys.jwt.expose(), role, &subject, lifetime, surroundings.now())
        .map_err(|error| Usage(format!("--subject: {error}")))?;
    println!("{token}");
    Ok(())
}

/// Looks the set-up over.
pub async fn doctor(config: &Config, json: bool) -> ExitCode {
    let findings = doctor::examine(config).await;
    if json {
        println!("{}", serde_json::to_string(&findings).expect("findings serialise"));
    } else {
        for finding in &findings {
            println!("{finding}");
        }
    }
    if findings.iter().any(doctor::Finding::is_wrong) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Gives the log a new identity.
pub async fn fence(config: &Config) -> anyhow::Result<()> {
    let Connected { options, embedded } = node::connect(config).await?;
    let mut db = sqlx::PgConnection::connect_with(&options).await?;
    let fenced = log::fence(&mut db, &Surroundings::system()).await?;
    db.close().await?;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    println!("{}", fenced.log_id);
    eprintln!(
        "the log has a new identity; {} readers were ahead of it and were set back",
        fenced.reset
    );
    Ok(())
}
