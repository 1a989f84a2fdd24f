//! Tells a projection the log from its beginning: for analysts all partitions at once and in bulk, for one
//! answer in one transaction.

use std::{pin::pin, sync::Arc, time::Duration};

use jangbu_projections::builds::{AdvanceError, Replay};
use sqlx::PgConnection;
use tokio::time::interval;

use super::Workshop;
use crate::{
    log::reading,
    rebuild::copy::{CopyError, Done, Job, copy},
};

/// Positions in one step.
const STEP: i64 = 5_000;
/// Positions that are counted at once.
const COUNTED: i64 = 100_000;
/// How often it is said how far it is.
const SAID_EVERY: Duration = Duration::from_millis(200);

/// Why tables could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The log lacks a position: it is damaged.
    #[error("the log lacks a position behind {after} and up to {through}")]
    Hole {
        /// Before it.
        after: i64,
        /// Behind it, or it.
        through: i64,
    },
    /// An event that this version of the program cannot read, or tables that do not take it.
    #[error("{}", .0.reason())]
    Apply(AdvanceError),
    /// The bulk copy stopped.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The database did not answer.
    #[error(transparent)]
    Unavailable(#[from] sqlx::Error),
}

impl From<AdvanceError> for FillError {
    /// Without a source: who prints the whole chain would print a decoder's words, which quote values.
    fn from(error: AdvanceError) -> Self {
        Self::Apply(error)
    }
}

/// Tells a projection all partitions at once, and says how far it is. Gives how many events it wanted.
/// Dropped, it stops.
pub(super) async fn tell(workshop: &Workshop, job: Job, mut progress: impl FnMut(i64, i64)) -> Result<u64, FillError> {
    let Workshop { db, surroundings, .. } = workshop;
    let through = job.up_to.iter().copied().max().unwrap_or(0);
    let mut after = 0;
    while after < through {
        let next = through.min(after + COUNTED);
        require_whole(&mut *db.acquire().await?, after, next).await?;
        after = next;
    }
    let done = Arc::new(Done::default());
    let mut copying = pin!(copy(db, job, surroundings, &done));
    let mut tick = interval(SAID_EVERY);
    let events = loop {
        tokio::select! {
            copied = &mut copying => break copied?,
            _ = tick.tick() => progress(done.position(), through),
        }
    };
    progress(through, through);
    Ok(events)
}

/// The copy is shown what the projection wants, and cannot tell what is missing from what is not wanted.
async fn require_whole(db: &mut PgConnection, after: i64, through: i64) -> Result<(), FillError> {
    if reading::count(db, after, through).await? == through - after {
        Ok(())
    } else {
        Err(FillError::Hole { after, through })
    }
}

/// Fills the tables that [`Replay::create`] made in this transaction from the log up to `through`.
pub async fn fill(db: &mut PgConnection, replay: Replay, through: i64) -> Result<(), FillError> {
    let passed_over = replay.passed_over();
    let mut after = 0;
    while after < through {
        let next = through.min(after + STEP);
        require_whole(db, after, next).await?;
        let events = reading::read_but(&mut *db, after, next, &passed_over).await?;
        replay.apply(db, &events).await?;
        after = next;
    }
    Ok(())
}
