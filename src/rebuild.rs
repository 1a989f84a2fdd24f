//! Read tables made again from the log, beside live traffic.
//!
//! A new build is filled beside the one that is read: the log is copied out in bulk, decoded once,
//! applied without secondary indexes, indexed, and caught up. Then, in one transaction, the old
//! build is made to wait, the rest is told, and the new one is the one that is read. Whatever is
//! killed on the way goes on where its checkpoints are.

pub mod copy;
pub mod core;
pub mod list;
#[cfg(test)]
mod simulation;
pub mod verify;
pub mod watch;

use std::{pin::pin, sync::Arc, time::Duration};

use jangbu_projections::{
    Registered,
    builds::{self, AdvanceError, Begun, Build, Phase, Poison, Standing, Switch},
};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

pub use self::core::{Goal, Reason};
use self::{
    copy::{CopyError, Done, Job, copy},
    core::{Action, Candidate, Core, Seen},
};
use crate::{
    clock::Surroundings,
    feed,
    log::reading,
    workers::{self, Failure, Target},
};

/// How often it is said how far it is.
const SAID_EVERY: Duration = Duration::from_millis(200);
/// How long the readers of a retired build may take to leave it.
const LEAVING_MAX: Duration = Duration::from_secs(15);
/// How long a database that failed at the switch may take to answer again.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// Positions that are counted at once.
const COUNTED: i64 = 100_000;
/// Times that another process may have moved a checkpoint before this one believes that it is not alone.
const OVERTAKEN_MAX: u32 = 5;

/// What is needed to make builds.
#[derive(Clone)]
pub struct Site {
    /// Of at least three connections; more are used.
    pub db: PgPool,
    /// Clock and ids.
    pub surroundings: Surroundings,
    /// Cancelled, it stops; what was done stays for the next.
    pub stop: CancellationToken,
}

/// What to do.
#[derive(Clone)]
pub struct Order {
    /// Of which projection.
    pub projection: &'static Registered,
    /// A new build, or the one before.
    pub goal: Goal,
    /// Events of the log to copy in a second, at most. What comes while it copies is not held back.
    pub events_per_second_max: Option<u32>,
}

/// What it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Filling the tables from the log.
    Copying,
    /// Making indexes.
    Indexing,
    /// Telling what has come since.
    CatchingUp,
    /// Filling tables that are only compared.
    Verifying,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// What it is at.
    pub stage: Stage,
    /// Positions of the log that are done.
    pub done: i64,
    /// That are to be done at this stage.
    pub all: i64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rebuilt {
    /// Of which projection.
    pub projection: &'static str,
    /// Its code.
    pub code_version: i32,
    /// The build that is read now.
    pub build: i32,
    /// Where its tables are.
    pub schema: String,
    /// Into how many it is cut.
    pub partitions: i16,
    /// The build whose place it took; `--rollback` goes back to it.
    pub replaced: Option<String>,
    /// Whether it went on with what another had begun.
    pub resumed: bool,
    /// Events that the projection read.
    pub events: u64,
    /// Positions of the log that were gone through, with events that it does not read.
    pub positions: i64,
    /// From the beginning to the switch.
    pub seconds: f64,
    /// Positions a second while it copied.
    pub positions_per_second: u64,
    /// How long the old build's workers had to wait, and nobody else.
    pub switch_ms: f64,
    /// What was told while they did.
    pub switch_events: u64,
    /// How far it was when it took the place.
    pub position: i64,
}

/// Why it was not done. What was done stays: the same again goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Another process makes a build of the projection.
    #[error("another rebuild of {0} is under way")]
    UnderWay(&'static str),
    /// It makes no sense now.
    #[error(transparent)]
    GivenUp(#[from] Reason),
    /// The log lacks a position: it is damaged.
    #[error("the log lacks a position behind {after} and up to {through}")]
    Hole {
        /// Before it.
        after: i64,
        /// Behind it, or it.
        through: i64,
    },
    /// The bulk copy stopped.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// An event that cannot be read or applied. Nothing is set aside while tables are made.
    #[error("{}", .0.reason())]
    Event(AdvanceError),
    /// Whoever reads the build that is to come back would see the future of the one that is read.
    #[error("a process still uses {0}; try again in a moment")]
    InUse(String),
    /// A retired build could not be caught up.
    #[error("{}", .0.reason())]
    CatchUp(Failure),
    /// It may have been done.
    #[error("the database failed at the switch: {0}; `jangbu builds` shows which build is read")]
    Unsure(sqlx::Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

// No source: whoever prints the chain of causes would print values of rows.
impl From<AdvanceError> for RebuildError {
    fn from(error: AdvanceError) -> Self {
        Self::Event(error)
    }
}

impl RebuildError {
    /// Whether the order makes no sense, as opposed to something that failed.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::GivenUp(Reason::NothingBefore))
    }
}

/// Brings another build into the place of the one that is read. `None` if it was stopped before.
pub async fn run(site: &Site, order: &Order, progress: impl FnMut(Progress)) -> Result<Option<Rebuilt>, RebuildError> {
    let name = order.projection.name;
    // Held as long as its connection.
    let mut guard = PgConnection::connect_with(&site.db.connect_options()).await?;
    if !lock(&mut guard, name).await? {
        return Err(RebuildError::UnderWay(name));
    }
    let mut work = Work {
        site,
        order,
        core: Core::new(order.goal),
        builds: Vec::new(),
        progress,
        started: Instant::now(),
        replaced: None,
        begun: false,
        copied: Copied::default(),
        overtaken: 0,
    };
    let rebuilt = work.run().await;
    let_go(guard).await;
    rebuilt
}

/// Ends a connection that held a lock, which is free then in any case: what was done stays done.
async fn let_go(guard: PgConnection) {
    if let Err(error) = guard.close().await {
        tracing::debug!(%error, "a connection was lost");
    }
}

/// One rebuild of a projection at a time, as long as this connection lives. False if another is under way.
pub async fn lock(db: &mut PgConnection, projection: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_lock(hashtextextended('jangbu rebuild ' || $1, 0)) as "locked!""#,
        projection
    )
    .fetch_one(db)
    .await
}

/// What was copied, and how long it took.
#[derive(Debug, Default)]
struct Copied {
    events: u64,
    positions: i64,
    took: Duration,
}

struct Switched {
    took: Duration,
    events: u64,
    position: i64,
}

struct Work<'a, F> {
    site: &'a Site,
    order: &'a Order,
    core: Core,
    /// As they were seen last.
    builds: Vec<Standing>,
    progress: F,
    started: Instant,
    replaced: Option<String>,
    /// Whether the build was begun by this one.
    begun: bool,
    copied: Copied,
    overtaken: u32,
}

impl<F: FnMut(Progress)> Work<'_, F> {
    async fn run(&mut self) -> Result<Option<Rebuilt>, RebuildError> {
        let mut switched = None;
        loop {
            let seen = self.look().await?;
            if self.site.stop.is_cancelled() {
                return Ok(None);
            }
            let action = self.core.next(&seen);
            tracing::debug!(?action, "rebuilding");
            match action {
                Action::Begin { partitions } => {
                    let projection = self.order.projection;
                    let now = self.site.surroundings.now();
                    builds::begin_filling(&self.site.db, projection, partitions, now).await?;
                    self.begun = true;
                }
                Action::Discard { build } => {
                    let build = self.build(build)?;
                    builds::discard(&self.site.db, &build, false).await?;
                }
                Action::Copy { build, up_to } => self.copy(build, up_to, Stage::Copying).await?,
                Action::Index { build } => {
                    self.tell(Stage::Indexing, 0, 1);
                    builds::finish_indexes(&self.site.db, &self.build(build)?).await?;
                }
                Action::CatchUp { build, up_to } => match self.order.goal {
                    Goal::Rebuild { .. } => self.copy(build, up_to, Stage::CatchingUp).await?,
                    Goal::RollBack => self.feed(build, up_to).await?,
                },
                Action::Switch { build, rest_max } => {
                    self.replaced = self.active().map(|active| active.build.schema_name.clone());
                    match self.switch(build, rest_max).await {
                        Ok(done) => switched = done,
                        Err(RebuildError::Database(error)) => self.settle(error).await?,
                        Err(error) => return Err(error),
                    }
                    if switched.is_some() {
                        self.core.switched();
                    }
                }
                Action::Done { build } => return Ok(Some(self.rebuilt(build, switched)?)),
                Action::GiveUp(reason) => return Err(reason.into()),
            }
        }
    }

    /// What the database shows.
    async fn look(&mut self) -> Result<Seen, RebuildError> {
        let (db, projection) = (&self.site.db, self.order.projection);
        // Before the builds: none of them is then said to be further than the log.
        let head = feed::head(db).await?;
        self.builds = builds::standings(db, Some(projection.name)).await?;
        self.builds
            .retain(|standing| standing.build.code_version == projection.code_version);
        let candidate = |standing: &Standing| Candidate {
            build: standing.build.build,
            is_bare: standing.is_bare,
            positions: standing.positions.clone(),
        };
        let unfinished = self.builds.iter().rfind(|standing| standing.phase == Phase::Filling);
        let retired = self.builds.iter().filter(|standing| standing.phase == Phase::Retired);
        Ok(Seen {
            head,
            active: self.active().map(|active| active.build.build),
            unfinished: unfinished.map(candidate),
            // One that was replaced by an older program was never read.
            retired: retired
                .filter(|standing| standing.activated_at.is_some())
                .max_by_key(|standing| standing.retired_at)
                .map(candidate),
        })
    }

    fn active(&self) -> Option<&Standing> {
        self.builds.iter().find(|standing| standing.active)
    }

    fn standing(&self, build: i32) -> Result<&Standing, RebuildError> {
        let found = self.builds.iter().find(|standing| standing.build.build == build);
        found.ok_or(RebuildError::Database(sqlx::Error::RowNotFound))
    }

    fn build(&self, build: i32) -> Result<Build, RebuildError> {
        Ok(self.standing(build)?.build.clone())
    }

    fn tell(&mut self, stage: Stage, done: i64, all: i64) {
        (self.progress)(Progress { stage, done, all });
    }

    /// Tells a build that nobody reads what is missing, in bulk.
    async fn copy(&mut self, build: i32, up_to: i64, stage: Stage) -> Result<(), RebuildError> {
        let standing = self.standing(build)?.clone();
        let from = standing.position();
        require_whole(&self.site.db, from, up_to).await?;
        let job = Job {
            projection: self.order.projection,
            schema: standing.build.schema_name.clone(),
            partitions: standing.build.partitions,
            up_to: vec![up_to; standing.positions.len()],
            from: standing.positions,
            build: Some(standing.build),
            without: copy::Without::default(),
            events_per_second_max: match stage {
                Stage::Copying => self.order.events_per_second_max,
                // It would never come near the head of a log that grows as fast.
                Stage::Indexing | Stage::CatchingUp | Stage::Verifying => None,
            },
        };
        let begun = Instant::now();
        let done = Arc::new(Done::default());
        let outcome = {
            let mut copying = pin!(copy(&self.site.db, job, &self.site.surroundings, &done));
            let mut tick = interval(SAID_EVERY);
            loop {
                tokio::select! {
                    copied = &mut copying => break copied,
                    // Dropped, its tasks end: what they have committed stays.
                    () = self.site.stop.cancelled() => return Ok(()),
                    _ = tick.tick() => {
                        let position = done.position().max(from);
                        (self.progress)(Progress { stage, done: position, all: up_to });
                    }
                }
            }
        };
        match outcome {
            Ok(events) => self.copied.events += events,
            // A process whose guard was cut off may have been at it a moment longer.
            Err(CopyError::Overtaken) if self.overtaken < OVERTAKEN_MAX => self.overtaken += 1,
            Err(error) => return Err(error.into()),
        }
        if stage == Stage::Copying {
            self.copied.positions += up_to - from;
            self.copied.took += begun.elapsed();
        }
        self.tell(stage, up_to, up_to);
        Ok(())
    }

    /// Tells a build that was read before, and is to be read again, as a worker does: what is parked in
    /// it stays parked.
    async fn feed(&mut self, build: i32, up_to: i64) -> Result<(), RebuildError> {
        let standing = self.standing(build)?.clone();
        let surroundings = self.site.surroundings.clone();
        self.wait_until_unused(&standing.build).await?;
        let target = Target::new(self.order.projection, standing.build, surroundings);
        for partition in 0..target.partitions() {
            let fed = workers::drive_partition(&self.site.db, &target, partition, up_to);
            tokio::select! {
                fed = fed => fed.map_err(RebuildError::CatchUp)?,
                () = self.site.stop.cancelled() => return Ok(()),
            }
            let done = up_to * i64::from(partition + 1) / i64::from(target.partitions());
            self.tell(Stage::CatchingUp, done, up_to);
        }
        Ok(())
    }

    /// Waits until the last reader has left a retired build. It is of no use to feed it before.
    async fn wait_until_unused(&self, build: &Build) -> Result<(), RebuildError> {
        let deadline = Instant::now() + LEAVING_MAX;
        while !watch::is_unused(&self.site.db, build).await? {
            if Instant::now() > deadline {
                return Err(RebuildError::InUse(build.schema_name.clone()));
            }
            sleep(SAID_EVERY).await;
        }
        Ok(())
    }

    /// Tells the rest while the old build waits, and switches. `None`, and nothing is changed, if the
    /// rest is longer than `rest_max`.
    async fn switch(&mut self, build: i32, rest_max: i64) -> Result<Option<Switched>, RebuildError> {
        let Site { db, surroundings, .. } = self.site;
        let build = self.build(build)?;
        let poison = match self.order.goal {
            Goal::Rebuild { .. } => Poison::Fail,
            Goal::RollBack => Poison::Park,
        };
        // A connection that is there already: to open one would take longer than the switch.
        drop(db.acquire().await?);
        let begun = Instant::now();
        let mut switch = match Switch::begin(db, self.order.projection, &build, surroundings.now()).await? {
            Begun::Ready(switch) => switch,
            Begun::Active | Begun::NotReady => return Ok(None),
        };
        let (position, behind) = (switch.wanted(), switch.behind());
        let reached = behind.iter().map(|(_, position)| *position).min();
        if reached.is_some_and(|reached| position - reached > rest_max) {
            return Ok(None);
        }
        let mut events = 0;
        for (partition, from) in behind {
            let slots = feed::slots(partition, build.partitions);
            let rest = feed::read_slots(switch.connection(), from, position, slots, i64::MAX).await?;
            events += rest.len() as u64;
            switch.tell(partition, &rest, poison).await?;
        }
        if !switch.finish().await? {
            return Ok(None);
        }
        Ok(Some(Switched {
            took: begun.elapsed(),
            events,
            position,
        }))
    }

    /// After a switch whose answer may have been lost: once the database answers again, it shows whether
    /// the build is read, and what comes next follows from that.
    async fn settle(&self, lost: sqlx::Error) -> Result<(), RebuildError> {
        tracing::warn!(error = %lost, "the switch was not answered; looking whether it was done");
        let deadline = Instant::now() + SETTLED_WITHIN;
        while Instant::now() < deadline && !self.site.stop.is_cancelled() {
            if feed::head(&self.site.db).await.is_ok() {
                return Ok(());
            }
            sleep(SAID_EVERY).await;
        }
        Err(RebuildError::Unsure(lost))
    }

    #[expect(clippy::float_arithmetic, reason = "a figure for people")]
    fn rebuilt(&self, build: i32, switched: Option<Switched>) -> Result<Rebuilt, RebuildError> {
        let standing = self.standing(build)?;
        let switched = switched.unwrap_or(Switched {
            took: Duration::ZERO,
            events: 0,
            position: standing.position(),
        });
        let us = u64::try_from(self.copied.took.as_micros()).unwrap_or(u64::MAX).max(1);
        let positions = u64::try_from(self.copied.positions).unwrap_or(0);
        Ok(Rebuilt {
            projection: self.order.projection.name,
            code_version: standing.build.code_version,
            build,
            schema: standing.build.schema_name.clone(),
            partitions: standing.build.partitions,
            replaced: self.replaced.clone(),
            resumed: !self.begun && matches!(self.order.goal, Goal::Rebuild { .. }),
            events: self.copied.events + switched.events,
            positions: self.copied.positions,
            seconds: self.started.elapsed().as_secs_f64(),
            positions_per_second: positions.saturating_mul(1_000_000) / us,
            switch_ms: switched.took.as_secs_f64() * 1_000.0,
            switch_events: switched.events,
            position: switched.position,
        })
    }
}

/// The copy is shown what the projection wants, and cannot tell what is missing from what is not wanted.
async fn require_whole(db: &PgPool, mut after: i64, through: i64) -> Result<(), RebuildError> {
    while after < through {
        let next = through.min(after + COUNTED);
        if reading::count(db, after, next).await? != next - after {
            return Err(RebuildError::Hole { after, through: next });
        }
        after = next;
    }
    Ok(())
}
