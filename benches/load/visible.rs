//! From the answer of a command to the moment its event is in a read table, at a steady rate.
//!
//! A worker's checkpoint moves in the transaction that writes the tables, so a checkpoint that has passed an event's
//! position shows the event. One connection looks at the four checkpoints of `stock_levels` about every millisecond;
//! a lag is taken from the client's answer to the end of the first look that shows the event, so it is never too small
//! by more than the answer's own way back, and too large by up to one look.

use std::time::Duration;

use anyhow::Context as _;
use jangbu::{
    clock::Surroundings,
    executor::{CommandEnvelope, Executor},
    feed, leases, relay, workers,
};
use jangbu_domain::stock_item::{StockCommand, StockItem};
use jangbu_events::{ProductId, Sku, StoreId};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker,
    commands::metadata,
    database::Database,
    figure::{Figure, Goal},
    measure::{Pace, Run, median, micros},
    verdict::{Receipt, Verdict},
};

const PARTITIONS: i16 = 4;
/// Stock items that receive goods.
const ITEMS: usize = 256;
/// Commands a millisecond, one event each.
const PER_MILLISECOND: usize = 2;
/// The projection that is looked at; all are fed.
const PROJECTION: &str = "stock_levels";
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// One look at the checkpoints.
struct Look {
    at: Instant,
    positions: Vec<i64>,
}

/// One answered command.
struct Sent {
    answered: Instant,
    partition: usize,
    receipt: Receipt,
}

/// Row 9, through RabbitMQ and without.
pub async fn lag(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let polling = ("polling, no broker", None, Goal::None, Goal::None);
    let relayed = broker::url().map(|url| ("through RabbitMQ", Some(url), Goal::AtMost(5_000), Goal::AtMost(15_000)));
    for (way, amqp_url, p50, p99) in relayed.into_iter().chain([polling]) {
        let (mut runs, mut verdict) = (Vec::new(), Verdict::default());
        for _ in 0..pace.times {
            let database = Database::create(surroundings).await?;
            let ran = once(&database, surroundings, amqp_url.clone(), pace).await;
            database.drop().await?;
            let (run, its) = ran?;
            runs.push(run);
            verdict += its;
        }
        let rate = median(runs.iter().map(|run| run.per_second));
        for (hundredths, goal) in [(50, p50), (99, p99)] {
            let values: Vec<u64> = runs.iter().map(|run| run.percentile_us(hundredths)).collect();
            figures.push(Figure {
                row: "visible".into(),
                measure: format!("commit to visible {way}, 2,000 events/s, p{hundredths}"),
                value: median(values.clone()),
                unit: "µs".into(),
                runs: values,
                limit: None,
                goal,
                verdict: Some(verdict),
                notes: format!("{rate} events/s, all projections fed, {PROJECTION} looked at every ms"),
            });
        }
    }
    Ok(figures)
}

async fn once(
    database: &Database,
    surroundings: &Surroundings,
    amqp_url: Option<String>,
    pace: Pace,
) -> anyhow::Result<(Run, Verdict)> {
    let executor = database.executor(surroundings).await?;
    let shutdown = CancellationToken::new();
    let context = feed::Context {
        db: executor.log().pool().clone(),
        surroundings: surroundings.clone(),
        amqp_url: amqp_url.clone(),
        partitions: PARTITIONS,
        head: Some(executor.log().watch()),
        lease_ttl: leases::TTL,
    };
    let mut roles = JoinSet::new();
    if amqp_url.is_some() {
        roles.spawn(relay::run(context.clone(), shutdown.clone()));
    }
    roles.spawn(workers::run(context, workers::named(&[])?, shutdown.clone()));

    let measured = measure(database, &executor, surroundings, pace).await;
    shutdown.cancel();
    timeout(PATIENCE, async { while roles.join_next().await.is_some() {} }).await?;
    if let Some(url) = amqp_url {
        broker::forget(&url, &database.pool).await?;
    }
    executor.log().pool().close().await;
    measured
}

async fn measure(
    database: &Database,
    executor: &Executor,
    surroundings: &Surroundings,
    pace: Pace,
) -> anyhow::Result<(Run, Verdict)> {
    // The first commands make the streams and wake everything.
    let mut sent = send(executor, surroundings, 0, ITEMS).await?;
    let warm = sent.iter().map(|sent| sent.receipt.position).max().unwrap_or(0);
    timeout(PATIENCE, async {
        while looked(&database.pool).await?.iter().any(|position| *position < warm) || warm == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await
    .context("the projections do not come up")??;

    let (end, over) = watch::channel(false);
    let watcher = tokio::spawn(watch_checkpoints(database.pool.clone(), over));
    let begin = Instant::now() + pace.warm_up;
    let ticks = (pace.warm_up + pace.measured).as_millis();
    let mut running = JoinSet::new();
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for turn in 0..usize::try_from(ticks)? {
        tick.tick().await;
        let (executor, surroundings) = (executor.clone(), surroundings.clone());
        let from = turn * PER_MILLISECOND;
        running.spawn(async move { send(&executor, &surroundings, from, from + PER_MILLISECOND).await });
    }
    let mut measured = Vec::new();
    while let Some(done) = running.join_next().await {
        measured.extend(done??);
    }
    let last = measured.iter().map(|sent| sent.receipt.position).max().unwrap_or(0);
    timeout(PATIENCE, async {
        while looked(&database.pool).await?.iter().any(|position| *position < last) {
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await
    .context("the projections do not catch up")??;
    end.send_replace(true);
    let looks = watcher.await??;

    let lags = measured.iter().filter(|sent| sent.answered >= begin).map(|sent| {
        let index = looks.partition_point(|look| look.positions[sent.partition] < sent.receipt.position);
        micros(looks[index].at.saturating_duration_since(sent.answered))
    });
    let run = Run::new(lags.collect(), pace.measured);
    sent.extend(measured);
    let mut verdict = Verdict::of(&database.pool, 0, &by_client(&sent)).await?;
    verdict += shown(&database.pool, i64::try_from(sent.len())?).await?;
    Ok((run, verdict))
}

/// Receives one piece each, at the items whose turn it is, all at once.
async fn send(
    executor: &Executor,
    surroundings: &Surroundings,
    from: usize,
    until: usize,
) -> anyhow::Result<Vec<Sent>> {
    let mut running = JoinSet::new();
    for turn in from..until {
        let (executor, surroundings) = (executor.clone(), surroundings.clone());
        running.spawn(async move {
            let sku: Sku = format!("BENCH-{}", turn % ITEMS).parse()?;
            let id = ProductId::of(StoreId::DEFAULT, &sku).stock_item();
            let command = StockCommand::Receive { sku, quantity: 1 };
            let command_id = surroundings.ids.uuid();
            let envelope = CommandEnvelope::new(command_id, metadata(), surroundings.now());
            let committed = executor.execute::<StockItem>(id, command, envelope).await?;
            let answered = Instant::now();
            let partitions = u16::try_from(PARTITIONS)?;
            let event = committed.events.first().context("goods were received")?;
            anyhow::Ok(Sent {
                answered,
                partition: usize::from(event.slot.partition(partitions)),
                receipt: Receipt {
                    command_id,
                    position: committed.position,
                    sequence: committed.sequence,
                    events: 1,
                },
            })
        });
    }
    let mut sent = Vec::new();
    while let Some(done) = running.join_next().await {
        sent.push(done??);
    }
    Ok(sent)
}

/// Nobody waits for an answer before sending the next: each command is a client of its own.
fn by_client(sent: &[Sent]) -> Vec<Vec<Receipt>> {
    sent.iter().map(|sent| vec![sent.receipt]).collect()
}

async fn watch_checkpoints(db: PgPool, over: watch::Receiver<bool>) -> anyhow::Result<Vec<Look>> {
    let mut looks = Vec::new();
    loop {
        let last = *over.borrow();
        let positions = looked(&db).await?;
        looks.push(Look {
            at: Instant::now(),
            positions,
        });
        if last {
            return Ok(looks);
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// The checkpoints of the projection that is looked at, by partition.
async fn looked(db: &PgPool) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar("select position from checkpoints where projection = $1 order by partition")
        .bind(PROJECTION)
        .fetch_all(db)
        .await
}

/// Whether the read table shows every piece that was received, once.
async fn shown(db: &PgPool, received: i64) -> anyhow::Result<Verdict> {
    let schema: String = sqlx::query_scalar("select schema_name from builds where projection = $1 and active")
        .bind(PROJECTION)
        .fetch_one(db)
        .await?;
    let on_hand: i64 = sqlx::query_scalar(&format!(
        "select coalesce(sum(on_hand), 0)::bigint from {schema}.stock_levels"
    ))
    .fetch_one(db)
    .await?;
    Ok(Verdict {
        lost: u64::try_from(received - on_hand).unwrap_or(0),
        duplicated: u64::try_from(on_hand - received).unwrap_or(0),
        reordered: 0,
    })
}
