//! Which builds are live, as every process has to know at every moment: queries read one of each
//! projection, workers feed it, and a rebuild puts another in its place while they do.
//!
//! A change is heard of when it is committed; who missed the word looks every second.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use jangbu_projections::builds::{self, Build, Phase};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    time::{error::Elapsed, sleep, timeout},
};

/// What the trigger of the table notifies.
const CHANNEL: &str = "jangbu_builds";
/// Between two looks if nothing is heard.
const LOOK: Duration = Duration::from_secs(1);
/// The same while something is to be let go, and at the beginning, when nothing is used yet.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// How long a look may take: of one that hangs, nothing would be heard.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// A build that workers feed, and queries of its code version may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBuild {
    /// Which.
    pub build: Build,
    /// Whether queries read it.
    pub active: bool,
}

/// The live builds of all projections and code versions, kept up to date as long as this or a clone
/// of it is there.
#[derive(Clone)]
pub struct Builds {
    live: watch::Receiver<Option<Vec<LiveBuild>>>,
    pins: Pins,
    pinned: Arc<Notify>,
}

/// Schemas that are not to be dropped, for as long as the other end is there.
type Pins = Arc<Mutex<Vec<(String, Weak<()>)>>>;

impl Builds {
    /// Begins to listen, through a connection of its own.
    pub fn start(options: &PgConnectOptions) -> Self {
        let (live, receiver) = watch::channel(None);
        let pins = Pins::default();
        let pinned = Arc::new(Notify::new());
        let listening = Listening {
            options: options.clone(),
            live,
            pins: pins.clone(),
            pinned: pinned.clone(),
        };
        tokio::spawn(listening.run());
        Self {
            live: receiver,
            pins,
            pinned,
        }
    }

    /// What is live now; `None` before the first answer.
    pub fn live(&self) -> Option<Vec<LiveBuild>> {
        self.live.borrow().clone()
    }

    /// Waits for another answer than the last that [`Self::live`] or this has given, and gives it.
    pub async fn changed(&mut self) -> Vec<LiveBuild> {
        loop {
            if self.live.changed().await.is_err() {
                // Its task is gone, with the runtime.
                std::future::pending::<()>().await;
            }
            if let Some(live) = self.live.borrow_and_update().clone() {
                return live;
            }
        }
    }

    /// Keeps these builds from being dropped, whatever becomes of them, as long as the pin is there.
    pub fn pin<'a>(&self, builds: impl IntoIterator<Item = &'a Build>) -> Arc<()> {
        let pin = Arc::new(());
        let names = builds.into_iter().map(|build| build.schema_name.clone());
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.extend(names.map(|name| (name, Arc::downgrade(&pin))));
        drop(pins);
        self.pinned.notify_one();
        pin
    }
}

struct Listening {
    options: PgConnectOptions,
    live: watch::Sender<Option<Vec<LiveBuild>>>,
    pins: Pins,
    pinned: Arc<Notify>,
}

/// Why it has to begin anew.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the database took too long")]
    Slow(#[from] Elapsed),
}

impl Listening {
    async fn run(self) {
        while !self.live.is_closed() {
            tokio::select! {
                () = self.live.closed() => return,
                heard = self.hear() => if let Err(error) = heard {
                    tracing::debug!(%error, "listening to changes of builds was interrupted");
                },
            }
            sleep(PAUSE).await;
        }
    }

    async fn hear(&self) -> Result<(), Interrupted> {
        let mut listener = timeout(PATIENCE, self.listen()).await??;
        let mut held = BTreeSet::new();
        loop {
            let wanted = pinned(&self.pins);
            let now = timeout(PATIENCE, async {
                let now = look(&mut listener).await?;
                hold(&mut listener, &mut held, &wanted).await?;
                Ok::<_, sqlx::Error>(now)
            })
            .await??;
            let is_live = |name: &String| now.iter().any(|live| live.build.schema_name == *name);
            let soon = !wanted.iter().all(is_live) || wanted.is_empty();
            self.live.send_if_modified(|known| {
                let news = known.as_ref() != Some(&now);
                if news {
                    *known = Some(now);
                }
                news
            });
            tokio::select! {
                () = self.pinned.notified() => {}
                () = sleep(if soon { LOOK_SOON } else { LOOK }) => {}
                word = listener.try_recv() => if word?.is_none() {
                    // The connection was lost, and what it held with it.
                    return Ok(());
                },
            }
        }
    }

    async fn listen(&self) -> sqlx::Result<PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        // It would go on with another connection, which holds nothing.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}

async fn look(listener: &mut PgListener) -> sqlx::Result<Vec<LiveBuild>> {
    let standings = builds::standings(&mut *listener, None).await?;
    Ok(standings
        .into_iter()
        .filter(|standing| standing.phase == Phase::Live)
        .map(|standing| LiveBuild {
            active: standing.active,
            build: standing.build,
        })
        .collect())
}

fn pinned(pins: &Pins) -> BTreeSet<String> {
    let mut pins = pins.lock().unwrap_or_else(PoisonError::into_inner);
    pins.retain(|(_, pin)| pin.strong_count() > 0);
    pins.iter().map(|(name, _)| name.clone()).collect()
}

/// Says, for as long as the connection lives, which builds this process uses.
async fn hold(listener: &mut PgListener, held: &mut BTreeSet<String>, wanted: &BTreeSet<String>) -> sqlx::Result<()> {
    let let_go: Vec<String> = held.difference(wanted).cloned().collect();
    for name in let_go {
        sqlx::query!(
            "select pg_advisory_unlock_shared(hashtextextended('jangbu uses ' || $1, 0))",
            name
        )
        .fetch_one(&mut *listener)
        .await?;
        held.remove(&name);
    }
    let take: Vec<String> = wanted.difference(held).cloned().collect();
    for name in take {
        let taken = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock_shared(hashtextextended('jangbu uses ' || $1, 0)) as "taken!""#,
            name
        )
        .fetch_one(&mut *listener)
        .await?;
        // If not, somebody drops it: then it is not live for long.
        if taken {
            held.insert(name);
        }
    }
    Ok(())
}

/// Whether no process uses a build. One that begins to at this moment finds out by itself.
pub async fn is_unused(db: &PgPool, build: &Build) -> sqlx::Result<bool> {
    let mut tx = db.begin().await?;
    let free = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('jangbu uses ' || $1, 0)) as "free!""#,
        build.schema_name
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.rollback().await?;
    Ok(free)
}
