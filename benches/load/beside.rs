//! What a live table and its readers notice of a rebuild: 500 commands a second go on, an order is read again and again.

use std::time::Duration;

use anyhow::Context as _;
use jangbu::{
    clock::Surroundings,
    executor::{CommandEnvelope, Executor},
    readers::Readers,
    rebuild::watch::Builds,
};
use jangbu_domain::stock_item::{StockCommand, StockItem};
use jangbu_events::{OrderId, ProductId, Sku, StoreId};
use jangbu_projections::{
    builds::{self, Build},
    order_history,
};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    commands::metadata,
    database::Database,
    measure::{Run, micros},
};

/// Between two commands.
const TICK: Duration = Duration::from_millis(2);
/// Stock items that receive goods.
const ITEMS: usize = 256;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// One answered command.
struct Sent {
    answered: Instant,
    partition: usize,
    position: i64,
}

/// Sends commands until `until` ends, and tells how late the table of `live` showed each, as `visible` does.
pub async fn lags<T>(
    executor: &Executor,
    surroundings: &Surroundings,
    live: &Build,
    until: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Run, T)> {
    let begun = Instant::now();
    let (end, over) = watch::channel(false);
    let looking = tokio::spawn(look(executor.log().pool().clone(), live.clone(), over));
    let mut running = JoinSet::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut until = std::pin::pin!(until);
    let mut turn = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut until => break ended?,
            _ = tick.tick() => {
                running.spawn(send(executor.clone(), surroundings.clone(), turn, live.partitions));
                turn += 1;
            }
        }
    };
    let elapsed = begun.elapsed();
    let mut sent = Vec::new();
    while let Some(done) = running.join_next().await {
        sent.push(done??);
    }
    let last = sent.iter().map(|sent| sent.position).max().unwrap_or(0);
    timeout(PATIENCE, async {
        while builds::position(executor.log().pool(), live).await? < last {
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    })
    .await
    .context("the live table does not catch up")??;
    end.send_replace(true);
    let looks = looking.await??;
    let lags = sent.iter().map(|sent| {
        let index = looks.partition_point(|(_, positions)| positions[sent.partition] < sent.position);
        micros(looks[index].0.saturating_duration_since(sent.answered))
    });
    Ok((Run::new(lags.collect(), elapsed), ended))
}

async fn send(executor: Executor, surroundings: Surroundings, turn: usize, partitions: i16) -> anyhow::Result<Sent> {
    let sku: Sku = format!("BESIDE-{}", turn % ITEMS).parse()?;
    let id = ProductId::of(StoreId::DEFAULT, &sku).stock_item();
    let command = StockCommand::Receive { sku, quantity: 1 };
    let envelope = CommandEnvelope::new(surroundings.ids.uuid(), metadata(), surroundings.now());
    let committed = executor.execute::<StockItem>(id, command, envelope).await?;
    let answered = Instant::now();
    let event = committed.events.first().context("goods were received")?;
    Ok(Sent {
        answered,
        partition: usize::from(event.slot.partition(u16::try_from(partitions)?)),
        position: committed.position,
    })
}

/// Looks at the checkpoints about every millisecond.
async fn look(db: PgPool, live: Build, over: watch::Receiver<bool>) -> anyhow::Result<Vec<(Instant, Vec<i64>)>> {
    let mut looks = Vec::new();
    loop {
        let last = *over.borrow();
        let checkpoints = builds::checkpoints(&db, &live).await?;
        let positions = checkpoints.into_iter().map(|checkpoint| checkpoint.position);
        looks.push((Instant::now(), positions.collect()));
        if last {
            return Ok(looks);
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Reads an order as HTTP does, until told to stop: how often. It has to be there each time.
pub async fn read(database: &Database, over: watch::Receiver<bool>) -> anyhow::Result<u64> {
    let readers = Readers::open(&database.options, 2, Builds::start(&database.options)).await?;
    let order: String =
        sqlx::query_scalar("select aggregate_id from events where event_type = 'order.imported' limit 1")
            .fetch_one(&database.pool)
            .await?;
    let order: OrderId = order.parse()?;
    let mut reads = 0;
    while !*over.borrow() {
        let found = order_history::by_id(readers.now().pool(), order).await?;
        anyhow::ensure!(found.is_some(), "an order vanished while its table was made again");
        reads += 1;
        sleep(Duration::from_millis(1)).await;
    }
    readers.close().await;
    Ok(reads)
}
