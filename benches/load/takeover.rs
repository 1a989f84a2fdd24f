//! How long the work of a killed process lies still.
//!
//! Two `jangbu project` share the partitions; one is killed. Then the relay that leads is killed beside one that waits.
//! Commands go on all the while. The times are from `kill -9` until every partition, or the relay's confirmed mark, has
//! passed the head of the log at that moment.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use jangbu::{
    clock::Surroundings,
    executor::{CommandEnvelope, Executor},
};
use jangbu_domain::stock_item::{StockCommand, StockItem};
use jangbu_events::{ProductId, Sku, StoreId};
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::{
    broker,
    commands::metadata,
    database::Database,
    figure::{Figure, Goal},
    measure::{Pace, median},
    process::{Process, free_address, program},
    verdict::Verdict,
};

/// Between two commands.
const EVERY: Duration = Duration::from_millis(4);
/// Stock items that receive goods: some in every partition.
const ITEMS: u64 = 64;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Times a process is killed in a run.
const KILLS: usize = 5;

const WORKERS: &str = "select min(position) from checkpoints";
const SHARED: &str = "select count(distinct holder) from leases where name <> 'relay' and expires_at > now()";
const RELAY: &str = "select position from relay_checkpoint";
const LED: &str = "select count(*) from leases where name = 'relay' and expires_at > now()";

/// Row 10.
pub async fn times(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let database = Database::create(surroundings).await?;
    let directory = std::env::temp_dir().join(database.name());
    tokio::fs::create_dir(&directory).await?;
    let measured = under_load(&database, surroundings, pace, &directory).await;
    tokio::fs::remove_dir_all(&directory).await?;
    if let Some(url) = broker::url() {
        broker::forget(&url, &database.pool).await?;
    }
    database.drop().await?;
    measured
}

async fn under_load(
    database: &Database,
    surroundings: &Surroundings,
    pace: Pace,
    directory: &Path,
) -> anyhow::Result<Vec<Figure>> {
    let executor = database.executor(surroundings).await?;
    let kills = if pace.times > 1 { KILLS } else { 1 };
    let measured = tokio::select! {
        measured = kill_in_turn(database, directory, kills) => measured,
        failed = receive(&executor, surroundings) => Err(failed.err().context("commands end")?),
    };
    executor.log().pool().close().await;
    let (workers, relays) = measured?;
    let verdict = Verdict::of_log(&database.pool).await?;
    let figure = |who: &str, times: Vec<u64>| Figure {
        row: "takeover".into(),
        measure: format!("from kill -9 of a {who} until others have caught up with that moment"),
        value: median(times.clone()),
        unit: "ms".into(),
        notes: format!("slowest of {}: {} ms", times.len(), times.iter().max().unwrap_or(&0)),
        runs: times,
        limit: None,
        goal: Goal::AtMost(2_000),
        verdict: Some(verdict),
    };
    let mut figures = vec![figure("worker", workers)];
    if !relays.is_empty() {
        figures.push(figure("relay", relays));
    }
    Ok(figures)
}

/// Goods come in one after the other, for ever.
async fn receive(executor: &Executor, surroundings: &Surroundings) -> anyhow::Result<()> {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_u64.. {
        tick.tick().await;
        let sku: Sku = format!("BENCH-{}", turn % ITEMS).parse()?;
        let id = ProductId::of(StoreId::DEFAULT, &sku).stock_item();
        let command = StockCommand::Receive { sku, quantity: 1 };
        let envelope = CommandEnvelope::new(surroundings.ids.uuid(), metadata(), surroundings.now());
        executor.execute::<StockItem>(id, command, envelope).await?;
    }
    Ok(())
}

/// Milliseconds that workers and relays took, each time.
async fn kill_in_turn(database: &Database, directory: &Path, kills: usize) -> anyhow::Result<(Vec<u64>, Vec<u64>)> {
    let db = &database.pool;
    let mut workers = vec![
        start(database, directory, "project").await?,
        start(database, directory, "project").await?,
    ];
    let mut of_workers = Vec::new();
    for _ in 0..kills {
        reaches(db, SHARED, 2).await?;
        of_workers.push(kill(db, WORKERS, workers.remove(0)).await?);
        workers.push(start(database, directory, "project").await?);
    }
    let mut of_relays = Vec::new();
    if broker::url().is_some() {
        let mut leader = start(database, directory, "relay").await?;
        for _ in 0..kills {
            reaches(db, LED, 1).await?;
            reaches(db, RELAY, head(db).await?).await?;
            let next = start(database, directory, "relay").await?;
            of_relays.push(kill(db, RELAY, leader).await?);
            leader = next;
        }
        leader.stop().await?;
    }
    for worker in workers {
        worker.stop().await?;
    }
    Ok((of_workers, of_relays))
}

async fn start(database: &Database, directory: &Path, role: &'static str) -> anyhow::Result<Process> {
    let address = free_address().await?;
    let mut variables = vec![
        ("DATABASE_URL".to_owned(), database.url().to_string()),
        ("JANGBU_JWT_SECRET".to_owned(), "b".repeat(32)),
        ("JANGBU_METRICS_BIND".to_owned(), address.to_string()),
        ("RUST_LOG".to_owned(), "error".to_owned()),
    ];
    variables.extend(broker::url().map(|url| ("AMQP_URL".to_owned(), url)));
    let mut command = program(directory, &variables);
    command.arg(role);
    Process::start(role, command, address, "/livez").await
}

/// How many milliseconds pass from its end until `progress` has passed the head of that moment.
async fn kill(db: &PgPool, progress: &str, victim: Process) -> anyhow::Result<u64> {
    let killed = Instant::now();
    victim.kill().await?;
    reaches(db, progress, head(db).await?).await?;
    Ok(u64::try_from(killed.elapsed().as_millis())?)
}

async fn head(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("select coalesce(max(position), 0) from events")
        .fetch_one(db)
        .await
}

async fn reaches(db: &PgPool, what: &str, mark: i64) -> anyhow::Result<()> {
    timeout(PATIENCE, async {
        while sqlx::query_scalar::<_, Option<i64>>(what).fetch_one(db).await? < Some(mark) {
            sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    })
    .await
    .with_context(|| format!("{mark} is not reached: {what}"))?
}
