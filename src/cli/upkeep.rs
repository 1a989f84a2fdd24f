//! What was set aside or could not be done: listed, and tried again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jangbu::{
    clock::Surroundings,
    config::Config,
    node::{self, Connected, Node},
    parking::{self, ParkedEntry, ParkedOutcome},
    processes::retry::{self as steps, FailedStep, StepOutcome},
    workers,
};
use jangbu_events::OrderId;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::Usage;

/// The most that is listed.
const LIST_MAX: i64 = 1_000;

#[derive(Subcommand)]
pub enum Parked {
    /// Say which aggregates a projection cannot take, and why.
    ///
    /// Such an aggregate stands in the lists as it was before the event at fault; everything else goes
    /// on. At most 1,000 are listed.
    List {
        /// Only of this projection.
        #[arg(long, value_name = "NAME")]
        projection: Option<String>,
        /// Print JSON, one line each.
        #[arg(long)]
        json: bool,
    },
    /// Tell parked aggregates again, once the cause is gone.
    ///
    /// Each is told from the log what it missed, while its partition waits. At most 100 at once, those
    /// first that were tried the longest ago. Any number of times changes nothing that is well. Fails
    /// if anything stays parked.
    Retry(ParkedRetry),
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["aggregate", "projection", "all"])))]
pub struct ParkedRetry {
    /// Only this one, such as ord_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f.
    #[arg(value_name = "AGGREGATE")]
    aggregate: Option<String>,
    /// Only those of this projection.
    #[arg(long, value_name = "NAME")]
    projection: Option<String>,
    /// Whatever is parked.
    #[arg(long, conflicts_with_all = ["aggregate", "projection"])]
    all: bool,
    /// Print JSON, one line each.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
pub enum Processes {
    /// Say which steps of orders could not be done, and why.
    ///
    /// At most 1,000 are listed.
    List {
        /// Print JSON, one line each.
        #[arg(long)]
        json: bool,
    },
    /// Do failed steps again, once the cause is gone.
    ///
    /// A step that was done meanwhile is found done. At most 100 at once, those first that were tried
    /// the longest ago. Fails if a step still cannot be done, or if this program knows no such step.
    Retry(ProcessesRetry),
    /// Take a failed step out of the list without doing it.
    ///
    /// For a step that was settled by hand, or that no program takes any more. Nothing else changes.
    Dismiss {
        /// Which, as `list --json` names it.
        #[arg(value_name = "COMMAND_ID")]
        step: Uuid,
    },
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["order", "all"])))]
pub struct ProcessesRetry {
    /// Only those of this order, such as ord_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f.
    #[arg(value_name = "ORDER")]
    order: Option<OrderId>,
    /// Whatever failed.
    #[arg(long)]
    all: bool,
    /// Only the step of this command, as `list --json` names it.
    #[arg(long, value_name = "COMMAND_ID")]
    step: Option<Uuid>,
    /// Print JSON, one line each.
    #[arg(long)]
    json: bool,
}

/// `jangbu parked`.
pub async fn parked(config: &Config, what: Parked) -> anyhow::Result<ExitCode> {
    let name = match &what {
        Parked::List { projection, .. } => projection,
        Parked::Retry(args) => &args.projection,
    };
    workers::named(name.as_slice()).map_err(|error| Usage(error.to_string()))?;
    let Connected { options, embedded } = node::connect(config).await?;
    let db = node::pool(&options, 4).await?;
    node::migrate(&db).await?;
    let code = match what {
        Parked::List { projection, json } => {
            let aggregate_id = None;
            let which = parking::Which {
                projection,
                aggregate_id,
            };
            print(
                &parking::list(&db, &which, LIST_MAX).await?,
                json,
                "nothing is parked",
                tell_parked,
            )?;
            ExitCode::SUCCESS
        }
        Parked::Retry(args) => retry_parked(&db, args).await?,
    };
    db.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    Ok(code)
}

async fn retry_parked(db: &PgPool, args: ParkedRetry) -> anyhow::Result<ExitCode> {
    let which = parking::Which {
        projection: args.projection,
        aggregate_id: args.aggregate,
    };
    let surroundings = Surroundings::system();
    let attempts = parking::retry(db, jangbu_projections::all().iter(), &which, &surroundings).await?;
    print(&attempts, args.json, "nothing like that is parked", |attempt| {
        let entry = tell_parked(&attempt.entry);
        match attempt.outcome {
            ParkedOutcome::Applied => format!("applied  {} {}", attempt.entry.projection, attempt.entry.aggregate_id),
            ParkedOutcome::Parked => format!("parked   {entry}"),
            ParkedOutcome::OtherVersion => {
                format!("left     {entry}; it is of a version that this program does not feed")
            }
            ParkedOutcome::NotParked => format!("gone     {} {}", attempt.entry.projection, attempt.entry.aggregate_id),
        }
    })?;
    let well = |outcome| matches!(outcome, ParkedOutcome::Applied | ParkedOutcome::NotParked);
    Ok(code(attempts.iter().all(|attempt| well(attempt.outcome))))
}

fn tell_parked(entry: &ParkedEntry) -> String {
    format!(
        "{} {} from position {} on, since {}, {} tries: {}",
        entry.projection, entry.aggregate_id, entry.position, entry.parked_at, entry.attempts, entry.error
    )
}

/// `jangbu processes`.
pub async fn processes(config: Config, what: Processes) -> anyhow::Result<ExitCode> {
    let node = Node::start(config, Surroundings::system()).await?;
    let done = match what {
        Processes::List { json } => {
            let failed = steps::list(node.executor.log().pool(), &steps::Which::default(), LIST_MAX).await;
            failed
                .map_err(anyhow::Error::from)
                .and_then(|failed| print(&failed, json, "every step of every order went through", tell_step))
                .map(|()| ExitCode::SUCCESS)
        }
        Processes::Retry(args) => retry_steps(&node, args).await,
        Processes::Dismiss { step } => {
            let gone = steps::dismiss(node.executor.log().pool(), step).await;
            gone.map_err(anyhow::Error::from).and_then(|gone| {
                anyhow::ensure!(gone, "no such step has failed");
                Ok(ExitCode::SUCCESS)
            })
        }
    };
    node.stop().await;
    done
}

async fn retry_steps(node: &Node, args: ProcessesRetry) -> anyhow::Result<ExitCode> {
    let which = steps::Which {
        order_id: args.order.map(|order| order.to_string()),
        command_id: args.step,
    };
    let attempts = steps::retry(&node.executor, &which).await?;
    print(&attempts, args.json, "no such step has failed", |attempt| {
        let word = match attempt.outcome {
            StepOutcome::Done => "done     ",
            StepOutcome::Failed => "failed   ",
            StepOutcome::Obsolete => "obsolete ",
        };
        format!("{word}{}", tell_step(&attempt.failure))
    })?;
    let done = attempts.iter().all(|attempt| attempt.outcome == StepOutcome::Done);
    Ok(code(done))
}

fn tell_step(step: &FailedStep) -> String {
    format!(
        "{} of {} after position {}, since {}, {} tries: {}",
        step.step, step.order_id, step.position, step.failed_at, step.attempts, step.error
    )
}

pub(super) fn print<T: Serialize>(
    rows: &[T],
    json: bool,
    none: &str,
    tell: impl Fn(&T) -> String,
) -> anyhow::Result<()> {
    for row in rows {
        if json {
            println!("{}", serde_json::to_string(row)?);
        } else {
            println!("{}", tell(row));
        }
    }
    if rows.is_empty() && !json {
        println!("{none}");
    }
    Ok(())
}

const fn code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
