//! What a log that has grown asks for: a long stream that is loaded cold, and years of past orders that are imported.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use cqrs_es::Aggregate as _;
use jangbu::clock::Surroundings;
use jangbu_domain::stock_item::{StockCommand, StockItem};
use jangbu_events::{AggregateId, Metadata, ProductId, Sku, StoreId};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    database::Database,
    figure::{Against, Figure, Goal},
    measure::{Pace, median},
    process::{self, program},
    verdict::Verdict,
};

/// Events of the long stream.
const LONG: i64 = 100_000;
/// Times it is loaded in one run.
const LOADS: usize = 100;
/// Past baskets that are imported, of [`BASKET_LINES`] lines each.
const BASKETS: usize = 60_000;
pub const BASKETS_QUICK: usize = 2_000;
const BASKET_LINES: usize = 5;
/// Products that they are made of.
const RANGE: usize = 1_000;
/// How long background work may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One stock item with 100,000 events, loaded by a process that knows nothing of it.
pub async fn long(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let database = Database::create(surroundings).await?;
    let measured = long_in(&database, surroundings, pace).await;
    database.drop().await?;
    measured.map(|figure| vec![figure])
}

async fn long_in(database: &Database, surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Figure> {
    let sku: Sku = "LONG".parse()?;
    let item = ProductId::of(StoreId::DEFAULT, &sku).stock_item();
    sqlx::query(
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
        select n, $6, $1, n, 'stock.received', '1',
            json_build_object('type', 'stock.received', 'sku', 'LONG', 'quantity', 1, 'on_hand', n, 'available', n),
            $2::text::json, $3, $4, gen_random_uuid(), gen_random_uuid(), now(), now()
        from generate_series(1, $5) as n",
    )
    .bind(item.to_string())
    .bind(serde_json::to_string(&metadata())?)
    .bind(jangbu_events::Slot::of(item.uuid()).column())
    .bind(StoreId::DEFAULT.uuid())
    .bind(LONG)
    .bind(StockItem::TYPE)
    .execute(&database.pool)
    .await?;
    database.pool.execute("analyze events").await?;

    let executor = database.executor(surroundings).await?;
    let started = Instant::now();
    executor.load::<StockItem>(item).await?;
    let first = started.elapsed();
    let kept = async {
        while sqlx::query_scalar::<_, i64>("select count(*) from snapshots")
            .fetch_one(&database.pool)
            .await?
            == 0
        {
            sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, kept).await.context("no snapshot was kept")??;
    // As many newer events as a load may have to fold.
    for _ in 0..400 {
        let command = StockCommand::Receive {
            sku: sku.clone(),
            quantity: 1,
        };
        let envelope = jangbu::executor::CommandEnvelope::new(surroundings.ids.uuid(), metadata(), surroundings.now());
        executor.execute::<StockItem>(item, command, envelope).await?;
    }
    let mut runs = Vec::new();
    for _ in 0..pace.times {
        let mut loads_us = Vec::new();
        for _ in 0..LOADS {
            let cold = jangbu::executor::Executor::new(executor.log().clone());
            let started = Instant::now();
            let loaded = cold.load::<StockItem>(item).await?;
            loads_us.push(u64::try_from(started.elapsed().as_micros())?);
            anyhow::ensure!(
                i64::from(loaded.state.on_hand) == LONG + 400 && loaded.sequence == LONG + 400,
                "{} were on hand after {} events",
                loaded.state.on_hand,
                loaded.sequence
            );
        }
        runs.push(median(loads_us));
    }
    executor.log().pool().close().await;
    Ok(Figure {
        row: "long".into(),
        measure: "a stock item of 100,000 events loaded cold, 400 after its last snapshot, p50".to_owned(),
        value: median(runs.clone()),
        unit: "µs".into(),
        runs,
        limit: None,
        goal: Goal::AtMost(5_000),
        verdict: None,
        notes: format!("without a snapshot {} ms", first.as_millis()),
    })
}

/// Row 11.
pub async fn import(surroundings: &Surroundings, pace: Pace, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let directory = std::env::temp_dir().join(format!("jangbu_bench_{}", surroundings.ids.uuid().simple()));
    tokio::fs::create_dir(&directory).await?;
    let measured = import_from(surroundings, pace, quick, &directory).await;
    tokio::fs::remove_dir_all(&directory).await?;
    measured.map(|figure| vec![figure])
}

async fn import_from(surroundings: &Surroundings, pace: Pace, quick: bool, directory: &Path) -> anyhow::Result<Figure> {
    let baskets = if quick { BASKETS_QUICK } else { BASKETS };
    write_past(directory, baskets).await?;
    let (mut runs, mut limits, mut verdict) = (Vec::new(), Vec::new(), Verdict::default());
    for _ in 0..pace.times {
        let database = Database::create(surroundings).await?;
        let once = async {
            let rate = import_once(&database, directory, baskets).await?;
            let its = Verdict::of_log(&database.pool).await?;
            anyhow::Ok((rate, its, copy_once(&database).await?))
        };
        let done = once.await;
        database.drop().await?;
        let (rate, its, limit) = done?;
        runs.push(rate);
        limits.push(limit);
        verdict += its;
    }
    Ok(Figure {
        row: "import".into(),
        measure: format!("past orders imported, {baskets} of {BASKET_LINES} lines, events"),
        value: median(runs.clone()),
        unit: "/s".into(),
        runs,
        limit: Some(Against {
            what: "COPY in of the same events into a table with the same indexes".to_owned(),
            value: median(limits),
        }),
        goal: Goal::TimesAtLeast(70),
        verdict: Some(verdict),
        notes: "one event a basket; reading the file and looking up products included".to_owned(),
    })
}

/// The files that a shop would bring, in `directory`.
pub async fn write_past(directory: &Path, baskets: usize) -> anyhow::Result<()> {
    let mut products = String::from("sku,name,category,price_krw\n");
    for number in 0..RANGE {
        writeln!(
            products,
            "SKU-{number},골프공 {number}호,골프공,{}",
            1_000 + 10 * number
        )?;
    }
    tokio::fs::write(directory.join("products.csv"), products).await?;
    let mut orders = String::from("basket_id,household_id,ordered_at,sku,quantity\n");
    for basket in 0..baskets {
        for line in 0..BASKET_LINES {
            let (household, minute) = (basket % 997, basket % 60);
            let sku = (basket * 7 + line * 131) % RANGE;
            writeln!(
                orders,
                "B{basket},{household},2024-03-01T10:{minute:02}:00+09:00,SKU-{sku},{}",
                1 + line % 3
            )?;
        }
    }
    tokio::fs::write(directory.join("orders.csv"), orders).await?;
    Ok(())
}

/// Has the built program import both; gives orders a second.
pub async fn import_once(database: &Database, directory: &Path, baskets: usize) -> anyhow::Result<u64> {
    let variables = [
        ("DATABASE_URL", database.url().to_string()),
        ("JANGBU_JWT_SECRET", "b".repeat(32)),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let import = |what: &str| {
        let mut command = program(directory, &variables);
        command
            .args(["import", what])
            .arg(directory.join(format!("{what}.csv")));
        command
    };
    process::output(import("products")).await?;
    let started = Instant::now();
    process::output(import("orders")).await?;
    let elapsed = started.elapsed();
    let imported: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'order.imported'")
        .fetch_one(&database.pool)
        .await?;
    anyhow::ensure!(usize::try_from(imported)? == baskets, "{imported} orders were imported");
    rate(baskets, elapsed)
}

/// What COPY takes for the same rows.
async fn copy_once(database: &Database) -> anyhow::Result<u64> {
    let mut db = PgConnection::connect_with(&database.options).await?;
    db.execute("create table copied (like events including indexes including defaults)")
        .await?;
    let mut rows = Vec::new();
    {
        use futures_util::TryStreamExt as _;
        let mut out =
            sqlx::postgres::PgPoolCopyExt::copy_out_raw(&database.pool, "copy events to stdout (format binary)")
                .await?;
        while let Some(bytes) = out.try_next().await? {
            rows.extend_from_slice(&bytes);
        }
    }
    let started = Instant::now();
    let mut copy = db.copy_in_raw("copy copied from stdin (format binary)").await?;
    for chunk in rows.chunks(1 << 16) {
        copy.send(chunk).await?;
    }
    let copied = copy.finish().await?;
    let elapsed = started.elapsed();
    db.close().await?;
    rate(usize::try_from(copied)?, elapsed)
}

fn rate(count: usize, elapsed: Duration) -> anyhow::Result<u64> {
    let micros = u64::try_from(elapsed.as_micros())?.max(1);
    Ok(count as u64 * 1_000_000 / micros)
}

/// Of what nobody in particular does.
pub fn metadata() -> Metadata {
    Metadata {
        actor_kind: "system".to_owned(),
        channel: "bench".to_owned(),
        ..Metadata::default()
    }
}
