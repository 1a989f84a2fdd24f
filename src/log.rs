//! The log: one ordered table of events, dense and in commit order.
//!
//! Only this module writes `events` and `commands`, and only through its one [`appender`]. A
//! position that was read once has all lower positions behind it, so a checkpoint is one number and
//! a missing event can be proven.

pub mod appender;
pub mod chain;
pub mod copy;
pub mod core;
pub mod reading;
pub mod rows;
mod sql;

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc, time::Duration};

use jangbu_events::RawEvent;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

pub use self::rows::{
    Appended, Beside, CommandRow, EndedSessions, Head, NewCommand, NewEvent, NewPersonalKey, Outcome, PasswordRow,
    UniqueKey,
};
use self::{
    appender::{Appender, COMMAND_BYTES_MAX, QUEUE_MAX, Submission, Waiting},
    chain::{Chain, Link},
};
use crate::clock::Surroundings;

/// The channel on which processes tell each other that the log has grown.
const CHANNEL: &str = "jangbu_log";
/// A process tells the others at most this often: NOTIFY takes a global lock at commit.
const NOTIFY_EVERY: Duration = Duration::from_millis(5);

/// The log of one database. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    pool: PgPool,
    identity: Uuid,
    queue: mpsc::Sender<Submission>,
    head: watch::Receiver<i64>,
    surroundings: Surroundings,
    _tasks: Arc<Tasks>,
}

/// Ends the listening and telling tasks with the last clone of the log. The appender ends by itself
/// once its queue is closed and empty.
struct Tasks(Vec<tokio::task::AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Why an append has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue is full: try again later, with the same command id.
    #[error("the log is busy")]
    Busy,
    /// The deadline passed before the database answered: the command may be in the log or not.
    #[error("it is not known whether the command was recorded; send it again with the same key")]
    OutcomeUnknown,
}

/// Room for one command in the appender's queue.
#[derive(Debug)]
pub struct Place<'a>(mpsc::Permit<'a, Submission>);

/// Where the log's answer to a command comes.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Outcome>);

impl Place<'_> {
    /// Sends a command to the appender, behind all that were sent before. From here on it is appended
    /// or refused whether or not anybody waits.
    pub fn append(self, command: NewCommand, link: Link) -> Answer {
        let (answer, answered) = oneshot::channel();
        let refused = if command.has_null_character() {
            Some("U+0000 cannot be read back from json".to_owned())
        } else if command.weight() > COMMAND_BYTES_MAX {
            Some(format!("a command has at most {COMMAND_BYTES_MAX} bytes"))
        } else {
            None
        };
        let waiting = Waiting { answer, link };
        match refused {
            Some(reason) => waiting.tell(Outcome::Rejected { reason }),
            None => self.0.send(Submission { command, waiting }),
        }
        Answer(answered)
    }
}

impl Answer {
    /// Waits for it.
    pub async fn within(self, deadline: Duration) -> Result<Outcome, AppendError> {
        match tokio::time::timeout(deadline, self.0).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) | Err(_) => Err(AppendError::OutcomeUnknown),
        }
    }
}

impl Log {
    /// Connects the appender with `options` and reads through `pool`, a pool of the same database.
    pub async fn open(options: PgConnectOptions, pool: PgPool, surroundings: Surroundings) -> sqlx::Result<Self> {
        let identity = sqlx::query_scalar!("select log_id from log_identity")
            .fetch_one(&pool)
            .await?;
        let (known, head) = watch::channel(0);
        let (own, told) = watch::channel(0);
        let appender = Appender::connect(options, surroundings.clone(), known.clone(), own).await?;
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(appender.run(receiver));
        let listening = tokio::spawn(listen(pool.clone(), known)).abort_handle();
        let telling = tokio::spawn(tell(pool.clone(), told)).abort_handle();
        Ok(Self {
            pool,
            identity,
            queue,
            head,
            surroundings,
            _tasks: Arc::new(Tasks(vec![listening, telling])),
        })
    }

    /// For reading.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Which log this is.
    pub fn log_id(&self) -> Uuid {
        self.identity
    }

    /// Clock and ids.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Appends one command; commands that many callers append at once share a commit.
    pub async fn append(&self, command: NewCommand, deadline: Duration) -> Result<Outcome, AppendError> {
        let started = tokio::time::Instant::now();
        // A chain of one rests on nothing.
        let place = self.place(deadline).await?;
        let answer = place.append(command, Chain::new().link(0));
        answer.within(deadline.saturating_sub(started.elapsed())).await
    }

    /// Waits for room in the appender's queue.
    pub async fn place(&self, deadline: Duration) -> Result<Place<'_>, AppendError> {
        match tokio::time::timeout(deadline, self.queue.reserve()).await {
            Ok(Ok(permit)) => Ok(Place(permit)),
            Ok(Err(_)) | Err(_) => Err(AppendError::Busy),
        }
    }

    /// The end of the log.
    pub async fn head(&self) -> sqlx::Result<Head> {
        sql::read_head(&mut *self.pool.acquire().await?).await
    }

    /// Up to `limit` events after a position, in position order, without a gap.
    pub async fn read(&self, after: i64, limit: i64) -> sqlx::Result<Vec<RawEvent>> {
        reading::read(&self.pool, after, limit).await
    }

    /// Up to `limit` events of a range of slots in `(after, through]`, in position order.
    pub async fn read_slots(
        &self,
        after: i64,
        through: i64,
        slots: RangeInclusive<i16>,
        limit: i64,
    ) -> sqlx::Result<Vec<RawEvent>> {
        reading::read_slots(&self.pool, after, through, slots, limit).await
    }

    /// Events of one stream after a sequence, in order.
    pub async fn stream(&self, aggregate_type: &str, aggregate_id: &str, after: i64) -> sqlx::Result<Vec<RawEvent>> {
        reading::stream(&self.pool, aggregate_type, aggregate_id, after, i64::MAX).await
    }

    /// Which of these commands are in the log, with what came of them.
    pub async fn commands(&self, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, CommandRow>> {
        sql::commands_by_id(&mut *self.pool.acquire().await?, ids).await
    }

    /// Who has a unique key.
    pub async fn key_owner(
        &self,
        store: jangbu_events::StoreId,
        scope: &str,
        value: &str,
    ) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar!(
            "select owner from unique_keys where store_id = $1 and scope = $2 and value = $3",
            jangbu_events::AggregateId::uuid(&store),
            scope,
            value,
        )
        .fetch_optional(&self.pool)
        .await
    }

    /// Resolves if the appender has ended, which it does only by a fault: nothing can be appended any
    /// more, and the process should end.
    pub async fn broken(&self) {
        self.queue.closed().await;
    }

    /// The highest position this process knows of; changes wake whoever tails the log.
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.head.clone()
    }
}

/// Hears from other processes that the log has grown. A missed word costs nothing but time: whoever
/// tails the log also looks for itself.
async fn listen(pool: PgPool, head: watch::Sender<i64>) {
    loop {
        if let Err(error) = hear(&pool, &head).await {
            tracing::debug!(%error, "listening to the log was interrupted");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn hear(pool: &PgPool, head: &watch::Sender<i64>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let word = listener.recv().await?;
        if let Ok(position) = word.payload().parse::<i64>() {
            head.send_if_modified(|known| {
                let news = position > *known;
                *known = position.max(*known);
                news
            });
        }
    }
}

/// Tells other processes that this one has appended.
async fn tell(pool: PgPool, mut head: watch::Receiver<i64>) {
    while head.changed().await.is_ok() {
        let position = head.borrow_and_update().to_string();
        if let Err(error) = sqlx::query!("select pg_notify($1, $2)", CHANNEL, position)
            .execute(&pool)
            .await
        {
            tracing::debug!(%error, "other processes could not be told of the head");
        }
        tokio::time::sleep(NOTIFY_EVERY).await;
    }
}

/// What [`fence`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The new identity.
    pub log_id: Uuid,
    /// Checkpoints that stood above the head and were set back.
    pub reset: u64,
}

/// Gives the log a new identity after a restore or a failover, and takes back what stands above its
/// head: builds that have seen events which are gone are emptied for good and built anew, and the
/// relay, the process managers and webhooks go on from the head at most.
pub async fn fence(db: &mut sqlx::PgConnection, surroundings: &Surroundings) -> sqlx::Result<Fenced> {
    use sqlx::Connection;

    let mut tx = db.begin().await?;
    let log_id = surroundings.ids.uuid();
    sqlx::query!(
        "update log_identity set log_id = $1, fenced_at = $2",
        log_id,
        surroundings.now()
    )
    .execute(&mut *tx)
    .await?;
    let head = sql::read_head(&mut tx).await?.position;
    let relay = sqlx::query!(
        "update relay_checkpoint set position = least(position, $1) where position > $1",
        head
    )
    .execute(&mut *tx)
    .await?;
    let processes = sqlx::query!("update process_checkpoints set position = $1 where position > $1", head)
        .execute(&mut *tx)
        .await?;
    // Nothing that waits beyond the head is there any more.
    let webhooks = sqlx::query!(
        "update webhook_endpoints set position = least(position, $1), revision = revision + 1 where position > $1",
        head
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("delete from webhook_held where position > $1", head)
        .execute(&mut *tx)
        .await?;
    let ahead = sqlx::query!(
        "select distinct b.projection, b.code_version, b.build, b.schema_name
        from builds b join checkpoints c using (projection, code_version, build)
        where c.position > $1",
        head,
    )
    .fetch_all(&mut *tx)
    .await?;
    for build in &ahead {
        // The next process that starts finds no such build and makes it anew, from the first event.
        sqlx::query(&format!(r#"drop schema if exists "{}" cascade"#, build.schema_name))
            .execute(&mut *tx)
            .await?;
        sqlx::query!(
            "delete from builds where projection = $1 and code_version = $2 and build = $3",
            build.projection,
            build.code_version,
            build.build,
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(Fenced {
        log_id,
        reset: relay.rows_affected() + processes.rows_affected() + webhooks.rows_affected() + ahead.len() as u64,
    })
}
