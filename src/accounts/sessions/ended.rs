//! Which sessions have ended while access tokens of theirs may still live, as every process has to
//! know at every request without asking the database.
//!
//! An end is heard of when it is committed; who missed the word looks every second. Whoever has not been
//! able to look for some seconds knows nothing any more, and asks the database for every request.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::{Instant, error::Elapsed, sleep, timeout};
use uuid::Uuid;

use super::SessionId;
use crate::clock::Surroundings;

/// What the trigger of the table notifies.
const CHANNEL: &str = "jangbu_session_ends";
/// Between two looks if nothing is heard.
const LOOK: Duration = Duration::from_secs(1);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// What was known so long ago is not relied upon.
const STALE: Duration = Duration::from_secs(3);
/// A look reads so far back: an end is noted a moment before it is committed.
const OVERLAP: Duration = Duration::from_secs(60);
/// Looks until one reads everything again and forgets what is of no interest any more.
const LOOKS_UNTIL_WHOLE: u32 = 60;
/// Longer than the clocks of processes may differ, beyond the life of an access token.
const MARGIN: Duration = Duration::from_secs(120);

/// The ended sessions, kept up to date as long as this or a clone of it is there.
#[derive(Clone)]
pub struct EndedSessions {
    db: PgPool,
    surroundings: Surroundings,
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// With the latest moment at which they were known to have.
    ended: HashMap<Uuid, Instant>,
    /// When the latest look that succeeded was begun.
    looked_at: Option<Instant>,
}

impl Known {
    fn hear(&mut self, sessions: impl IntoIterator<Item = Uuid>, at: Instant) {
        self.ended.extend(sessions.into_iter().map(|session| (session, at)));
    }
}

impl EndedSessions {
    /// Begins to listen, through a connection of its own. `access_lifetime` is the longest that an access
    /// token lives, under the configuration of any process.
    pub fn start(
        options: &PgConnectOptions,
        db: PgPool,
        surroundings: Surroundings,
        access_lifetime: Duration,
    ) -> Self {
        let known = Arc::default();
        let listening = Listening {
            options: options.clone(),
            window: access_lifetime + MARGIN,
            known: Arc::downgrade(&known),
        };
        tokio::spawn(listening.run());
        Self {
            db,
            surroundings,
            known,
        }
    }

    /// Whether requests of a session are to be answered. Asks the database if this process has been cut off
    /// from it for three seconds, or has not heard from it yet; an error then means that nobody knows, and that the
    /// request must be refused.
    pub async fn is_open(&self, session: SessionId) -> sqlx::Result<bool> {
        let fresh = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.ended.contains_key(&session.uuid()) {
                return Ok(false);
            }
            known.looked_at.is_some_and(|at| at.elapsed() < STALE)
        };
        if fresh {
            return Ok(true);
        }
        metrics::counter!("jangbu_session_checks_total").increment(1);
        let asked = super::is_open(&self.db, session.uuid(), self.surroundings.now());
        timeout(PATIENCE, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// These have ended: for the process that ended them, which need not wait to hear of it. After the commit.
    pub fn note(&self, sessions: impl IntoIterator<Item = SessionId>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.hear(sessions.into_iter().map(SessionId::uuid), Instant::now());
    }
}

impl std::fmt::Debug for EndedSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EndedSessions")
    }
}

struct Listening {
    options: PgConnectOptions,
    window: Duration,
    known: Weak<RwLock<Known>>,
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
        while self.known.strong_count() > 0 {
            if let Err(error) = self.hear().await {
                tracing::debug!(%error, "listening to ends of sessions was interrupted");
            }
            sleep(PAUSE).await;
        }
    }

    async fn hear(&self) -> Result<(), Interrupted> {
        let mut listener = timeout(PATIENCE, self.listen()).await??;
        for look in 0_u32.. {
            // Whatever is committed from now on is heard of, or seen by the next look.
            let begun = Instant::now();
            let whole = look.is_multiple_of(LOOKS_UNTIL_WHOLE);
            let back = if whole { self.window } else { OVERLAP };
            let ended = timeout(PATIENCE, ended_since(&mut listener, back)).await??;
            let Some(known) = self.known.upgrade() else {
                return Ok(());
            };
            {
                let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
                known.hear(ended, begun);
                if whole {
                    // What was heard of since the look was begun need not be in its answer.
                    known.ended.retain(|_, at| *at + OVERLAP >= begun);
                }
                known.looked_at = Some(begun);
            }
            let next = begun + LOOK;
            while let Ok(word) = tokio::time::timeout_at(next, listener.try_recv()).await {
                let Some(word) = word? else {
                    return Ok(());
                };
                if let Ok(session) = word.payload().parse() {
                    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
                    known.hear([session], Instant::now());
                }
            }
        }
        Ok(())
    }

    async fn listen(&self) -> sqlx::Result<PgListener> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(self.options.clone())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}

async fn ended_since(listener: &mut PgListener, back: Duration) -> sqlx::Result<Vec<Uuid>> {
    let seconds = i64::try_from(back.as_secs()).unwrap_or(i64::MAX / 1_000_000);
    sqlx::query_scalar!(
        "select session_id from sessions
         where end_noted_at > clock_timestamp() - $1::bigint * interval '1 second'",
        seconds
    )
    .fetch_all(listener)
    .await
}
