//! Projection workers: they bring the log into the read tables.
//!
//! One worker feeds one partition of one build, while it holds that partition's lease; the processes
//! that feed a build share its partitions, and a worker gives its own up between two batches when
//! another process is to have it. It takes
//! events from its queue or, whenever the broker is silent, gone or behind, from the log itself. The
//! checkpoint moves in the transaction that writes the tables, only from where the batch begins and
//! only under the lease's epoch: so every event is applied once, whatever is lost or comes twice.
//!
//! When a rebuild puts a build in another's place, its workers start and the other's stop.

pub mod core;
mod crews;
mod inbox;
#[cfg(test)]
mod simulation;
pub mod target;
mod worker;

use jangbu_projections::Registered;
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use self::target::{Failure, Target};
use self::{
    core::Batch,
    worker::{CHUNK, PAUSE_FIRST, PAUSE_LAST},
};
use crate::{
    analysts,
    broker::Backoff,
    clock::Surroundings,
    feed::{self, Context},
    rebuild::watch::Builds,
};

/// A name that no projection of this program has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no projection `{name}`; there are {known}")]
pub struct UnknownProjection {
    /// What was asked for.
    pub name: String,
    /// What there is, with commas.
    pub known: String,
}

/// The projections of these names; all of them if there are no names.
pub fn named(names: &[String]) -> Result<Vec<&'static Registered>, UnknownProjection> {
    let all = jangbu_projections::all();
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |name: &String| {
        all.iter()
            .find(|projection| projection.name == name)
            .ok_or_else(|| UnknownProjection {
                name: name.clone(),
                known: all
                    .iter()
                    .map(|projection| projection.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    };
    names.iter().map(find).collect()
}

/// Feeds all partitions of `projections` that it can get the leases of, until `shutdown`; then it
/// releases them. Returns before `shutdown` only if something is badly wrong with those of the program
/// itself: nothing waits for those in SQL, which run beside them.
pub async fn run(ctx: Context, projections: Vec<&'static Registered>, shutdown: CancellationToken) {
    let builds = Builds::start(&ctx.db.connect_options());
    run_with(ctx, projections, builds, shutdown).await;
}

/// The same, for a process that follows the builds anyway.
pub async fn run_with(
    ctx: Context,
    projections: Vec<&'static Registered>,
    builds: Builds,
    shutdown: CancellationToken,
) {
    let (in_sql, ours): (Vec<_>, Vec<_>) = projections
        .into_iter()
        .partition(|projection| projection.analyst().is_some());
    let stop_beside = shutdown.child_token();
    let beside = tokio::spawn(analysts::run(ctx.clone(), in_sql, builds.clone(), stop_beside.clone()));
    if !ours.is_empty() {
        run_alike(ctx, ours, builds, shutdown).await;
        stop_beside.cancel();
    }
    if let Err(error) = beside.await {
        tracing::error!(%error, "projections in SQL are fed no more");
    }
}

/// The same, whatever kind they are of.
pub(crate) async fn run_alike(
    ctx: Context,
    projections: Vec<&'static Registered>,
    builds: Builds,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        // Seen by `builds` as whatever is made later.
        _ = ensure_all(&ctx, &projections) => {}
    }
    crews::run(ctx, projections, builds, shutdown).await;
}

/// Finds or makes the builds, however long the database is away.
async fn ensure_all(ctx: &Context, projections: &[&'static Registered]) -> Vec<Target> {
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LAST);
    loop {
        match targets(&ctx.db, projections, ctx.partitions, &ctx.surroundings).await {
            Ok(targets) => return targets,
            Err(error) => tracing::warn!(%error, "cannot find the builds to work on"),
        }
        sleep(backoff.pause()).await;
    }
}

async fn targets(
    db: &PgPool,
    projections: &[&'static Registered],
    partitions: i16,
    surroundings: &Surroundings,
) -> sqlx::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for projection in projections {
        targets.push(Target::ensure(db, projection, partitions, surroundings.clone()).await?);
    }
    Ok(targets)
}

/// Brings `projections` to the head of this moment, reading the log itself; for tests and tools.
/// Takes no lease: the compare-and-set alone decides between it and running workers.
pub async fn drive_once(
    db: &PgPool,
    projections: &[&'static Registered],
    partitions: i16,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    let head = feed::head(db).await?;
    for target in targets(db, projections, partitions, surroundings).await? {
        for partition in 0..target.partitions() {
            drive_partition(db, &target, partition, head).await?;
        }
    }
    Ok(())
}

/// Brings one partition of a build up to `head`.
pub(crate) async fn drive_partition(db: &PgPool, target: &Target, partition: i16, head: i64) -> Result<(), Failure> {
    let slots = feed::slots(partition, target.partitions());
    loop {
        // Read anew each time: if another moved it, that is as good.
        let (position, epoch) = target.checkpoint(db, partition).await?;
        if position >= head {
            return Ok(());
        }
        let events = feed::read_slots(db, position, head, slots.clone(), CHUNK).await?;
        let all = i64::try_from(events.len()).is_ok_and(|count| count < CHUNK);
        let through = if all {
            head
        } else {
            events.last().map_or(head, |event| event.position)
        };
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
