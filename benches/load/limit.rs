//! What PostgreSQL itself can do here and now: pgbench, committing the same payloads into a table with the same two
//! unique keys, through prepared statements and one connection a client.

use std::{fmt::Write as _, path::Path, process::Stdio, time::Duration};

use anyhow::Context as _;
use jangbu::clock::Surroundings;
use sqlx::Executor as _;
use tokio::process::Command;

use crate::{
    database::Database,
    measure::{Pace, Run, median, per_second},
};

/// One way of committing.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Connections that commit at the same time.
    pub clients: usize,
    /// JSON of each row of one transaction.
    pub rows: Vec<String>,
}

/// What it came to.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Transactions.
    pub commits_per_second: u64,
    /// Of one transaction, the median, in microseconds.
    pub p50_us: u64,
    /// Of one transaction, 99 of 100, in microseconds.
    pub p99_us: u64,
}

impl Limit {
    /// Takes it as often as the pace says and gives the medians.
    pub async fn measure(&self, surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Measured> {
        let mut runs = Vec::new();
        for _ in 0..pace.times {
            let database = Database::create(surroundings).await?;
            let run = self.once(&database, pace.measured).await;
            database.drop().await?;
            runs.push(run?);
        }
        Ok(Measured {
            commits_per_second: median(runs.iter().map(|run| run.per_second)),
            p50_us: median(runs.iter().map(|run| run.percentile_us(50))),
            p99_us: median(runs.iter().map(|run| run.percentile_us(99))),
        })
    }

    async fn once(&self, database: &Database, measured: Duration) -> anyhow::Result<Run> {
        let table = "create table limit_events (
                position bigserial primary key,
                aggregate_type text not null,
                aggregate_id text not null,
                sequence bigint not null,
                payload json not null,
                unique (aggregate_type, aggregate_id, sequence)
            )";
        database.pool.execute(table).await?;
        let directory = std::env::temp_dir().join(database.name());
        tokio::fs::create_dir(&directory).await?;
        let run = self.pgbench(database, measured, &directory).await;
        tokio::fs::remove_dir_all(&directory).await?;
        run
    }

    async fn pgbench(&self, database: &Database, measured: Duration, directory: &Path) -> anyhow::Result<Run> {
        let script = directory.join("script.sql");
        tokio::fs::write(&script, self.script()).await?;
        let threads = self.clients.min(cores());
        let output = Command::new("pgbench")
            .args(["--no-vacuum", "--protocol=prepared", "--define=n=0", "--log"])
            .arg(format!("--log-prefix={}", directory.join("log").display()))
            .arg(format!("--client={}", self.clients))
            .arg(format!("--jobs={threads}"))
            .arg(format!("--time={}", measured.as_secs().max(1)))
            .arg(format!("--file={}", script.display()))
            .arg(database.url().as_str())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("pgbench does not start; it comes with PostgreSQL's server packages")?;
        anyhow::ensure!(
            output.status.success(),
            "pgbench failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut latencies_us = Vec::new();
        let mut files = tokio::fs::read_dir(directory).await?;
        while let Some(file) = files.next_entry().await? {
            if file.file_name().to_string_lossy().starts_with("log.") {
                let log = tokio::fs::read_to_string(file.path()).await?;
                latencies_us.extend(log.lines().filter_map(latency_us));
            }
        }
        let done = latencies_us.len() as u64;
        let measured = Duration::from_secs(measured.as_secs().max(1));
        let mut run = Run::new(latencies_us, measured);
        run.per_second = per_second(done, measured);
        Ok(run)
    }

    /// `n` counts this client's rows, so that every row has a sequence of its own.
    fn script(&self) -> String {
        let count = self.rows.len();
        let mut script =
            String::from("insert into limit_events (aggregate_type, aggregate_id, sequence, payload) values");
        for (index, payload) in self.rows.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // A colon and letters would be one of pgbench's variables.
            let payload = payload.replace('\'', "''").replace("\":", "\" : ");
            write!(
                script,
                "{comma}\n ('product', 'prd_0190b5a0c3b1700080000000' || (1000000 + :client_id), :n + {}, '{payload}')",
                index + 1
            )
            .expect("a string takes everything");
        }
        write!(script, ";\n\\set n :n + {count}\n").expect("a string takes everything");
        script
    }
}

/// Threads that can run at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The third field of a line of pgbench's log.
fn latency_us(line: &str) -> Option<u64> {
    line.split(' ').nth(2)?.parse().ok()
}
