//! The pool that queries read through. Its search path leads to the active builds; when another
//! becomes active, another pool takes its place, and the old one goes when its last reader has left.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

use jangbu_projections::builds::Build;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use crate::{
    node,
    rebuild::watch::{Builds, LiveBuild},
};

/// Between two looks whether the readers of an old pool have left.
const LEAVING: Duration = Duration::from_millis(50);
/// After a pool could not be opened.
const PAUSE: Duration = Duration::from_millis(200);

/// A pool, and which builds it reads. Held while they are read.
pub struct Reading {
    pool: PgPool,
    builds: BTreeMap<String, Build>,
    _pin: Arc<()>,
}

impl Reading {
    /// The pool itself.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The build that it reads of a projection.
    pub fn build(&self, projection: &str) -> Option<&Build> {
        self.builds.get(projection)
    }
}

impl Deref for Reading {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

/// Gives whoever queries the pool of this moment. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    current: watch::Receiver<Arc<Reading>>,
    task: AbortHandle,
}

impl Readers {
    /// Waits until every projection has an active build, and opens a pool of at most `connections`.
    pub async fn open(options: &PgConnectOptions, connections: u32, mut builds: Builds) -> sqlx::Result<Self> {
        let active = loop {
            if let Some(active) = builds.live().as_deref().and_then(active) {
                break active;
            }
            builds.changed().await;
        };
        let opener = Opener {
            options: options.clone(),
            connections,
            builds,
        };
        let (sender, current) = watch::channel(Arc::new(opener.open(active).await?));
        let task = tokio::spawn(opener.follow(sender)).abort_handle();
        Ok(Self { current, task })
    }

    /// What to read through now: at least as far as anything that was read before.
    pub fn now(&self) -> Arc<Reading> {
        self.current.borrow().clone()
    }

    /// Ends; whoever reads is waited for.
    pub async fn close(&self) {
        self.task.abort();
        self.now().pool.close().await;
    }
}

/// Of every projection that queries read; `None` while one has none.
fn active(live: &[LiveBuild]) -> Option<BTreeMap<String, Build>> {
    let active: BTreeMap<String, Build> = live
        .iter()
        .filter(|live| live.active && is_ours(&live.build))
        .map(|live| (live.build.projection.clone(), live.build.clone()))
        .collect();
    (active.len() == jangbu_projections::built_in().len()).then_some(active)
}

fn is_ours(build: &Build) -> bool {
    jangbu_projections::built_in()
        .iter()
        .any(|known| (known.name, known.code_version) == (build.projection.as_str(), build.code_version))
}

struct Opener {
    options: PgConnectOptions,
    connections: u32,
    builds: Builds,
}

impl Opener {
    async fn open(&self, builds: BTreeMap<String, Build>) -> sqlx::Result<Reading> {
        let pin = self.builds.pin(builds.values());
        let mut path: Vec<&str> = builds.values().map(|build| build.schema_name.as_str()).collect();
        path.push("public");
        let options = self.options.clone().options([("search_path", path.join(","))]);
        let pool = node::pool(&options, self.connections).await?;
        Ok(Reading {
            pool,
            builds,
            _pin: pin,
        })
    }

    async fn follow(mut self, current: watch::Sender<Arc<Reading>>) {
        let mut known = self.builds.live();
        loop {
            if let Some(active) = known.as_deref().and_then(active)
                && active != current.borrow().builds
            {
                match self.open(active).await {
                    Ok(new) => {
                        tracing::info!(reads = ?new.builds.values().map(|build| &build.schema_name).collect::<Vec<_>>(),
                            "queries read other builds now");
                        let old = current.send_replace(Arc::new(new));
                        tokio::spawn(let_go(old));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "queries stay with the old builds: no pool can be opened");
                        sleep(PAUSE).await;
                        known = self.builds.live();
                        continue;
                    }
                }
            }
            tokio::select! {
                live = self.builds.changed() => known = Some(live),
                () = current.closed() => return,
            }
        }
    }
}

/// Closes a pool once nobody reads through it any more.
async fn let_go(old: Arc<Reading>) {
    while Arc::strong_count(&old) > 1 {
        sleep(LEAVING).await;
    }
    old.pool.close().await;
}
