//! Jangbu beside other event stores on PostgreSQL from Rust: the same work, the same server, the same durability, in
//! one run. After every figure the store's own table is compared with what its clients were told.

mod chart;
mod database;
mod disintegrate;
mod esrs;
mod jangbu;
mod postgres_es;
mod report;
mod work;

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use self::work::{PRODUCTS, Pace, Peer, Score};

/// Measures Jangbu and its peers beside one another.
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// One short run each instead of medians of three: shows that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Write the figures, their chart and the table of docs/benchmarks.md into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    docs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let pace = if arguments.quick {
        Pace {
            warm_up: Duration::from_millis(500),
            measured: Duration::from_millis(1_500),
            times: 1,
        }
    } else {
        Pace {
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(5),
            times: 3,
        }
    };
    let mut scores = Vec::new();
    for products in PRODUCTS {
        scores.extend([
            measured::<jangbu::Jangbu>(products, pace).await?,
            measured::<disintegrate::Disintegrate>(products, pace).await?,
            measured::<esrs::Esrs>(products, pace).await?,
            measured::<postgres_es::PostgresEs>(products, pace).await?,
        ]);
    }
    println!("{}", report::table(&scores));
    if let Some(docs) = arguments.docs {
        report::write(&docs, &scores)?;
    }
    let ours = scores
        .iter()
        .filter(|score| score.name == <jangbu::Jangbu as Peer>::NAME);
    anyhow::ensure!(
        ours.into_iter().all(Score::is_clean),
        "Jangbu lost, doubled or reordered events"
    );
    Ok(())
}

async fn measured<P: Peer>(products: usize, pace: Pace) -> anyhow::Result<Score> {
    eprintln!("{}, {products} products a client …", P::NAME);
    work::measure::<P>(products, pace).await
}
