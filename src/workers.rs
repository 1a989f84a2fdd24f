//! Projection workers: they bring the log into the read tables.
//!
//! One worker feeds one partition of one build, while it holds that partition's lease. It takes
//! events from its queue or, whenever the broker is silent, gone or behind, from the log itself. The
//! checkpoint moves in the transaction that writes the tables, only from where the batch begins and
//! only under the lease's epoch: so every event is applied once, whatever is lost or comes twice.

pub mod core;
mod inbox;
#[cfg(test)]
mod simulation;
pub mod target;
mod worker;

use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::target::{Advanced, Failure, Target};
use self::{
    core::Batch,
    worker::{CHUNK, Worker},
};
use crate::{
    broker::Link,
    feed::{self, Context},
    leases::Keeper,
};

/// Feeds all partitions of `targets` that it can get the leases of, until `shutdown`; then it
/// releases them.
pub async fn run<T: Target>(ctx: Context, targets: Vec<T>, shutdown: CancellationToken) {
    let parts: Vec<(T, i16)> = targets
        .into_iter()
        .flat_map(|target| (0..target.partitions()).map(move |partition| (target.clone(), partition)))
        .collect();
    let names = parts.iter().map(|(target, partition)| target.name().lease(*partition));
    let keeper = Keeper::start(ctx.db.clone(), ctx.process, ctx.lease_ttl, names);
    let link = ctx.amqp_url.clone().map(|url| Link::start(url, "project"));
    let mut workers = JoinSet::new();
    for (target, partition) in parts {
        let lease = keeper
            .lease(&target.name().lease(partition))
            .expect("the keeper was started with all of these leases");
        let (ctx, shutdown) = (ctx.clone(), shutdown.clone());
        let link = link.as_ref().map(Link::watch);
        workers.spawn(
            Worker {
                ctx,
                target,
                partition,
                lease,
                link,
                shutdown,
            }
            .run(),
        );
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            // Its lease would be renewed with nobody behind it: let the whole role end and be restarted.
            tracing::error!(%error, "a worker panicked");
            workers.shutdown().await;
            break;
        }
    }
    keeper.close().await;
    if let Some(link) = link {
        link.close().await;
    }
}

/// Brings all `targets` to the head of this moment, reading the log itself; for tests and tools.
/// Takes no lease: the compare-and-set alone decides between it and running workers.
pub async fn drive_once<T: Target>(db: &PgPool, targets: &[T]) -> Result<(), Failure> {
    let head = feed::head(db).await?;
    for target in targets {
        for partition in 0..target.partitions() {
            drive_partition(db, target, partition, head).await?;
        }
    }
    Ok(())
}

async fn drive_partition<T: Target>(db: &PgPool, target: &T, partition: i16, head: i64) -> Result<(), Failure> {
    let slots = feed::slots(partition, target.partitions());
    loop {
        // Read anew each time: if another moved it, that is as good.
        let (position, epoch) = checkpoint(db, target, partition).await?;
        if position >= head {
            return Ok(());
        }
        let mut events = feed::read_slots(db, position, head, slots.clone(), CHUNK).await?;
        let all = i64::try_from(events.len()).is_ok_and(|count| count < CHUNK);
        let through = if all {
            head
        } else {
            events.last().map_or(head, |event| event.position)
        };
        events.retain(|event| target.reads(&event.payload.event_type));
        target
            .advance(
                db,
                partition,
                epoch,
                &Batch {
                    from: position,
                    through,
                    events,
                },
            )
            .await?;
    }
}

async fn checkpoint<T: Target>(db: &PgPool, target: &T, partition: i16) -> sqlx::Result<(i64, i64)> {
    let build = target.name();
    let row = sqlx::query!(
        "select position, epoch
         from checkpoints
         where projection = $1 and code_version = $2 and build = $3 and partition = $4",
        build.projection,
        build.code_version,
        build.build,
        partition,
    )
    .fetch_one(db)
    .await?;
    Ok((row.position, row.epoch))
}
