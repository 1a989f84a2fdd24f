//! One crew of workers for each build that is live: they come and go with it.

use std::{collections::BTreeMap, sync::Arc};

use jangbu_projections::{Registered, builds::Build};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Target, worker::Worker};
use crate::{
    broker::{BuildName, Link},
    feed::Context,
    leases::{Group, Keeper},
    rebuild::watch::{Builds, LiveBuild},
};

/// The workers of one build.
struct Crew {
    group: Group,
    stop: CancellationToken,
    /// How many have not ended.
    at_work: usize,
    _pin: Arc<()>,
}

struct Crews {
    ctx: Context,
    projections: Vec<&'static Registered>,
    builds: Builds,
    keeper: Keeper,
    link: Option<Link>,
    shutdown: CancellationToken,
    by_build: BTreeMap<BuildName, Crew>,
    workers: JoinSet<()>,
    /// Whose worker a task is.
    whose: BTreeMap<Id, BuildName>,
}

/// Feeds whatever is live of `projections`, until `shutdown`.
pub async fn run(ctx: Context, projections: Vec<&'static Registered>, mut builds: Builds, shutdown: CancellationToken) {
    let holder = ctx.surroundings.ids.uuid();
    let mut crews = Crews {
        // Everyone who feeds a build shares its partitions.
        keeper: Keeper::start(&ctx.db, holder, ctx.lease_ttl, []),
        link: ctx.amqp_url.clone().map(|url| Link::start(url, "project")),
        ctx,
        projections,
        builds: builds.clone(),
        shutdown: shutdown.clone(),
        by_build: BTreeMap::new(),
        workers: JoinSet::new(),
        whose: BTreeMap::new(),
    };
    let mut live = builds.live().unwrap_or_default();
    crews.follow(&live);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            now = builds.changed() => {
                live = now;
                crews.follow(&live);
            }
            Some(ended) = crews.workers.join_next_with_id() => {
                if !crews.ended(ended).await {
                    break;
                }
                // It may be live again.
                crews.follow(&live);
            }
        }
    }
    crews.end().await;
}

impl Crews {
    /// Starts the crews that are missing and stops those of builds that are live no more.
    fn follow(&mut self, live: &[LiveBuild]) {
        let mut wanted: BTreeMap<BuildName, (&'static Registered, &Build)> = BTreeMap::new();
        for LiveBuild { build, .. } in live {
            let feeds = |known: &&&'static Registered| {
                (known.name, known.code_version) == (build.projection.as_str(), build.code_version)
            };
            if let Some(projection) = self.projections.iter().find(feeds) {
                wanted.insert(BuildName::of(build), (projection, build));
            }
        }
        for (name, crew) in &self.by_build {
            if !wanted.contains_key(name) && !crew.stop.is_cancelled() {
                tracing::info!(build = %name, "this build is fed no more");
                crew.stop.cancel();
            }
        }
        for (name, (projection, build)) in wanted {
            // One that is stopping starts again when it has stopped.
            if !self.by_build.contains_key(&name) {
                self.start(name, projection, build.clone());
            }
        }
    }

    fn start(&mut self, name: BuildName, projection: &'static Registered, build: Build) {
        let pin = self.builds.pin([&build]);
        let target = Target::new(projection, build, self.ctx.surroundings.clone());
        let leases = (0..target.partitions()).map(|partition| name.lease(partition));
        let group = Group::shared(name.to_string(), leases);
        self.keeper.join(group.clone());
        let stop = self.shutdown.child_token();
        let mut at_work = 0;
        for partition in 0..target.partitions() {
            let Some(lease) = self.keeper.lease(&name.lease(partition)) else {
                continue;
            };
            let worker = Worker {
                ctx: self.ctx.clone(),
                target: target.clone(),
                partition,
                lease,
                link: self.link.as_ref().map(Link::watch),
                shutdown: stop.clone(),
            };
            let task = self.workers.spawn(worker.run());
            self.whose.insert(task.id(), name.clone());
            at_work += 1;
        }
        let crew = Crew {
            group,
            stop,
            at_work,
            _pin: pin,
        };
        self.by_build.insert(name, crew);
    }

    /// Takes in that a worker has ended; false if it panicked.
    async fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) -> bool {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        if let Err(error) = ended
            && error.is_panic()
        {
            // Its lease would be renewed with nobody behind it: better that the whole role ends.
            tracing::error!(%error, "a worker panicked");
            return false;
        }
        let Some(name) = self.whose.remove(&id) else {
            return true;
        };
        let Some(crew) = self.by_build.get_mut(&name) else {
            return true;
        };
        crew.at_work -= 1;
        if crew.at_work == 0 {
            let group = crew.group.clone();
            self.by_build.remove(&name);
            self.keeper.leave(&group).await;
        }
        true
    }

    async fn end(mut self) {
        if self.shutdown.is_cancelled() {
            while let Some(ended) = self.workers.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a worker panicked");
                }
            }
        } else {
            self.workers.shutdown().await;
        }
        self.keeper.close().await;
        if let Some(link) = self.link {
            link.close().await;
        }
    }
}
