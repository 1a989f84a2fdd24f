//! `make bench`: puts load on this machine's PostgreSQL and RabbitMQ, beside what pgbench reaches in the same run, and
//! checks after every figure that nothing was lost, doubled or put out of order.
//!
//! It speaks to loopback addresses only, works on throw-away databases, and every part of it ends by itself.

mod commands;
mod database;
mod figure;
mod limit;
mod measure;
mod verdict;
mod visible;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use jangbu::clock::Surroundings;

use self::{figure::Figure, measure::Pace};

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
    /// From a command's answer to its row, at 2,000 events a second.
    Visible,
}

/// Measures Jangbu on this machine, beside the limits that pgbench finds in the same run.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    /// What to measure; everything if nothing is named.
    rows: Vec<Row>,
    /// One short run each instead of the median of three: shows that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let surroundings = Surroundings::system();
    let pace = if arguments.quick { Pace::QUICK } else { Pace::FULL };
    let rows = if arguments.rows.is_empty() {
        Row::value_variants()
    } else {
        &arguments.rows
    };
    let mut figures: Vec<Figure> = Vec::new();
    for row in rows {
        eprintln!("measuring {row:?}");
        let new = match row {
            Row::Latency => commands::latency(&surroundings, pace).await?,
            Row::Commands => commands::throughput(&surroundings, pace).await?,
            Row::Events => commands::events(&surroundings, pace).await?,
            Row::Hot => commands::hot(&surroundings, pace).await?,
            Row::Visible => visible::lag(&surroundings, pace).await?,
        };
        eprintln!("{}", figure::table(&new));
        figures.extend(new);
    }
    println!("{}", figure::table(&figures));
    if let Some(file) = &arguments.json {
        tokio::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n").await?;
    }
    Ok(())
}
