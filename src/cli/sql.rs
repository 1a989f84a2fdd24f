//! Projections in SQL, for those who write them.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use jangbu::{
    analysts::{self, Found},
    config::Config,
    node::{self, Connected},
};
use jangbu_events::event::CURRENT_VERSIONS;
use jangbu_projections::analyst::{Analyst, Problem, Refusal, check, parameters};
use sqlx::PgPool;

use super::Usage;

#[derive(Subcommand)]
pub enum Sql {
    /// Say what is wrong with projections in SQL, and where: file, line, column.
    ///
    /// First the text by itself, then PostgreSQL, which makes the tables, reads every statement and tries it
    /// on samples, in a transaction that is rolled back. Fails if anything is wrong.
    Check(CheckArgs),
    /// Say which projections in SQL this process would run, and which not.
    List,
    /// Say what statements may use of an event: parameters with their types.
    Events {
        /// Which, such as order.confirmed. Without it, the names of all.
        event_type: Option<String>,
    },
}

#[derive(Args)]
pub struct CheckArgs {
    /// Which. By default those that come with Jangbu, and those of JANGBU_SQL_PROJECTIONS.
    files: Vec<PathBuf>,
    /// Do not ask PostgreSQL.
    #[arg(long)]
    offline: bool,
}

/// Does what was asked for.
pub async fn run(config: &Config, what: Sql) -> anyhow::Result<ExitCode> {
    match what {
        Sql::Check(args) => check_all(config, args).await,
        Sql::List => {
            list(&analysts::find(&config.sql_projections));
            Ok(ExitCode::SUCCESS)
        }
        Sql::Events { event_type } => {
            events(event_type.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn check_all(config: &Config, args: CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(missing) = args.files.iter().find(|path| !path.is_file()) {
        return Err(Usage(format!("{} is no file", missing.display())).into());
    }
    let found = if args.files.is_empty() {
        analysts::find(&config.sql_projections)
    } else {
        args.files.iter().map(|path| Found::read(path)).collect()
    };
    let mut wrong = 0;
    let mut good: Vec<Analyst> = Vec::new();
    for found in found {
        match found.read {
            Ok(analyst) => good.push(analyst),
            Err(problems) => wrong += tell(&problems),
        }
    }
    if args.offline {
        good.iter().for_each(praise);
    } else if !good.is_empty() {
        let Connected { options, embedded } = node::connect(config).await?;
        let pool = node::pool(&options, 1).await?;
        let asked = ask(&pool, &good).await;
        pool.close().await;
        if let Some(embedded) = embedded {
            embedded.stop().await?;
        }
        wrong += asked?;
    }
    if wrong == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("jangbu: {wrong} problem{}", if wrong == 1 { "" } else { "s" });
    Ok(ExitCode::FAILURE)
}

async fn ask(db: &PgPool, good: &[Analyst]) -> Result<usize, Refusal> {
    let mut wrong = 0;
    for analyst in good {
        match check(db, analyst).await {
            Ok(()) => praise(analyst),
            Err(Refusal::Problems(problems)) => wrong += tell(&problems),
            Err(other) => return Err(other),
        }
    }
    Ok(wrong)
}

fn tell(problems: &[Problem]) -> usize {
    for problem in problems {
        println!("{problem}\n");
    }
    problems.len()
}

fn praise(analyst: &Analyst) {
    println!(
        "{} version {} is in order: {}",
        analyst.name(),
        analyst.version(),
        analyst.event_types().join(", ")
    );
}

fn list(found: &[Found]) {
    for one in found {
        match &one.read {
            Ok(analyst) => println!(
                "{:<24} v{:<3} {}: {}",
                analyst.name(),
                analyst.version(),
                one.file,
                analyst.description()
            ),
            Err(problems) => println!(
                "{:<24} not run, {} problems, the first: {}",
                one.file,
                problems.len(),
                problems.first().map(Problem::brief).unwrap_or_default()
            ),
        }
    }
}

fn events(event_type: Option<&str>) -> Result<(), Usage> {
    let Some(event_type) = event_type else {
        for (event_type, version) in CURRENT_VERSIONS {
            println!("{event_type} v{version}");
        }
        return Ok(());
    };
    let known = parameters(event_type).ok_or_else(|| {
        Usage(format!(
            "there is no event {event_type}; `jangbu sql events` lists them"
        ))
    })?;
    for (name, known) in known {
        println!("{name:<44} {known}");
    }
    Ok(())
}
