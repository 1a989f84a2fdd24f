//! `make bench`: puts load on this machine's PostgreSQL and RabbitMQ and on processes of the built program, beside what
//! pgbench reaches in the same run, and checks after every figure that nothing was lost, doubled or put out of order.
//!
//! It speaks to loopback addresses only, works on throw-away databases, and every part of it ends by itself.

mod beside;
mod books;
mod broker;
mod buyer;
mod chart;
mod client;
mod commands;
mod database;
mod figure;
mod grown;
mod limit;
mod measure;
mod process;
mod rebuild;
mod report;
mod scenes;
mod shop;
mod takeover;
mod verdict;
mod visible;
mod web;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use jangbu::clock::Surroundings;

use self::{figure::Figure, measure::Pace, report::Report};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// One warm command, 1 client: p50 and p99.
    Latency,
    /// Commands a second, 1, 32 and 256 clients.
    Commands,
    /// Events a second, 3 a command, 128 clients.
    Events,
    /// Commands a second to one hot aggregate, 32 clients.
    Hot,
    /// A stock item of 100,000 events, loaded cold.
    Long,
    /// Latency with 10 million events in the log, beside the same with 1 million.
    Grown,
    /// From kill -9 of a worker and of a relay until another goes on.
    Takeover,
    /// Past orders imported, beside COPY.
    Import,
    /// The log read with all of its types, beside COPY out.
    Replay,
    /// An indexed read table made again, beside COPY in; the switch; how late live tables are meanwhile.
    Rebuild,
    /// Cart commands and catalog pages a second over HTTP, 64 connections.
    Http,
    /// From a command's answer to its row, at 2,000 events a second.
    Visible,
    /// Full purchases a second over HTTP: cart, 3 lines, checkout, payment, webhook, confirmed.
    Purchases,
    /// Stock 100, 500 buyers at 32, on one `serve` and on two.
    Flash,
    /// 609 real baskets as live guests, every webhook three times in random order.
    Journey,
}

/// Measures Jangbu on this machine, beside the limits that pgbench finds in the same run.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    /// What to measure; everything if nothing is named, and then docs/benchmarks.md is written anew.
    rows: Vec<Row>,
    /// One short run each instead of medians of three: shows that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Put the figures into docs/benchmarks.md in the place of the same rows of an earlier run.
    #[arg(long, conflicts_with = "quick")]
    update: bool,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Everything of a full run.
const SUSTAINED: Duration = Duration::from_secs(60);
const FLASH_SALES: usize = 20;
const BASKETS_MAX: usize = usize::MAX;

/// The same for `--quick`.
const SUSTAINED_QUICK: Duration = Duration::from_secs(5);
const FLASH_SALES_QUICK: usize = 1;
const BASKETS_MAX_QUICK: usize = 60;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let surroundings = Surroundings::system();
    let rows = if arguments.rows.is_empty() {
        Row::value_variants()
    } else {
        &arguments.rows
    };
    let mut figures: Vec<Figure> = Vec::new();
    for row in rows {
        eprintln!("measuring {row:?}");
        let new = measure(*row, arguments.quick, &surroundings).await?;
        eprintln!("{}", figure::table(&new));
        figures.extend(new);
    }
    let report = Report::new(figures, surroundings.now()).await?;
    println!("{}", report.markdown());
    if let Some(file) = &arguments.json {
        tokio::fs::write(file, report.json()?).await?;
    }
    let is_clean = report.is_clean();
    if arguments.update {
        report.in_place_of_older().await?.write().await?;
    } else if arguments.rows.is_empty() && !arguments.quick {
        report.write().await?;
    }
    anyhow::ensure!(is_clean, "something was lost, doubled or out of order");
    Ok(())
}

async fn measure(row: Row, quick: bool, surroundings: &Surroundings) -> anyhow::Result<Vec<Figure>> {
    let (pace, sustained, sales, baskets) = if quick {
        (Pace::QUICK, SUSTAINED_QUICK, FLASH_SALES_QUICK, BASKETS_MAX_QUICK)
    } else {
        (Pace::FULL, SUSTAINED, FLASH_SALES, BASKETS_MAX)
    };
    match row {
        Row::Latency => commands::latency(surroundings, pace).await,
        Row::Commands => commands::throughput(surroundings, pace).await,
        Row::Events => commands::events(surroundings, pace).await,
        Row::Hot => commands::hot(surroundings, pace).await,
        Row::Long => books::long(surroundings, pace).await,
        Row::Grown => grown::latency(surroundings, pace, quick).await,
        Row::Takeover => takeover::times(surroundings, pace).await,
        Row::Import => books::import(surroundings, pace, quick).await,
        Row::Replay => rebuild::replay(surroundings, pace, quick).await,
        Row::Rebuild => rebuild::rebuild(surroundings, pace, quick).await,
        Row::Http => web::http(surroundings, pace).await,
        Row::Visible => visible::lag(surroundings, pace).await,
        Row::Purchases => {
            let mut figures = Vec::new();
            if broker::url().is_some() {
                figures.extend(web::purchases(surroundings, sustained, true).await?);
            }
            figures.extend(web::purchases(surroundings, sustained, false).await?);
            Ok(figures)
        }
        Row::Flash => scenes::flash_sales(surroundings, sales).await,
        Row::Journey => scenes::journey(surroundings, baskets).await,
    }
}
