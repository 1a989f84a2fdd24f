//! Reading one payment for many callers at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::client::Client;
use super::error::{Error, Unreachable};
use super::payment::Payment;

/// Limits of a [`Rereader`].
#[derive(Debug, Clone, Copy)]
pub struct RereaderConfig {
    /// How long a caller waits at most, queueing included.
    pub within: Duration,
    /// How many payments may be under way at once.
    pub payments_max: usize,
    /// How many callers may wait for the next read of one payment.
    pub waiters_max: usize,
}

impl Default for RereaderConfig {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(5),
            payments_max: 1024,
            waiters_max: 256,
        }
    }
}

/// Reads payments, each at most once at a time: the webhook, its repetitions and the shopper's browser tend to ask for
/// the same payment in the same instant.
///
/// A caller is only ever given a read that **began after it came**. A read that was under way may have looked before the
/// change that the caller was told of. So a payment has at most one read running and one queued, and whoever comes
/// during the former shares the latter. Reads run on their own: a caller that goes away takes nothing from the others.
#[derive(Debug, Clone)]
pub struct Rereader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    config: RereaderConfig,
    /// Has an entry for each payment whose reader task is alive: those who wait for its next read.
    queued: Mutex<HashMap<String, Vec<Waiter>>>,
}

#[derive(Debug)]
struct Waiter {
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Option<Arc<Payment>>, Error>;

impl Rereader {
    /// Reads through `client`.
    pub fn new(client: Client, config: RereaderConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                config,
                queued: Mutex::default(),
            }),
        }
    }

    /// The payment's state at some moment after this call began; `None` if `PortOne` has no such payment.
    ///
    /// Fails as [`Client::payment`] does, with [`Unreachable::Timeout`] when waiting took too long, and with
    /// [`Error::Busy`] at the limits. Needs a running tokio runtime.
    pub async fn payment(&self, id: &str) -> Answer {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.shared.config.within;
        self.enqueue(id, Waiter { deadline, answer })?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Unreachable(Unreachable::Dropped)),
            Err(_) => Err(Error::Unreachable(Unreachable::Timeout)),
        }
    }

    fn enqueue(&self, id: &str, waiter: Waiter) -> Result<(), Error> {
        let mut queued = self.shared.queued();
        let payments = queued.len();
        match queued.entry(id.to_owned()) {
            Entry::Occupied(mut entry) => {
                let waiters = entry.get_mut();
                if waiters.len() >= self.shared.config.waiters_max {
                    waiters.retain(Waiter::is_waiting);
                }
                if waiters.len() >= self.shared.config.waiters_max {
                    return Err(Error::Busy);
                }
                waiters.push(waiter);
            }
            Entry::Vacant(entry) => {
                if payments >= self.shared.config.payments_max {
                    return Err(Error::Busy);
                }
                entry.insert(vec![waiter]);
                drop(queued);
                let reader = Reader {
                    shared: Arc::clone(&self.shared),
                    id: id.to_owned(),
                    owns_entry: true,
                };
                tokio::spawn(reader.run());
            }
        }
        Ok(())
    }

    /// How many payments are being read.
    #[cfg(test)]
    pub(super) fn payments_under_way(&self) -> usize {
        self.shared.queued().len()
    }

    /// How many callers wait for the next read of a payment.
    #[cfg(test)]
    pub(super) fn waiters(&self, id: &str) -> usize {
        self.shared.queued().get(id).map_or(0, Vec::len)
    }
}

impl Waiter {
    fn is_waiting(&self) -> bool {
        !self.answer.is_closed()
    }
}

impl Shared {
    /// The map is whole even after a panic elsewhere: every change to it is a single step.
    fn queued(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiter>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that reads one payment until nobody waits for it.
struct Reader {
    shared: Arc<Shared>,
    id: String,
    /// Once it has removed its entry, a new one under the same id belongs to another reader.
    owns_entry: bool,
}

impl Reader {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            let latest = batch
                .iter()
                .map(|waiter| waiter.deadline)
                .max()
                .unwrap_or_else(Instant::now);
            let within = latest.saturating_duration_since(Instant::now());
            let answer = self
                .shared
                .client
                .payment(&self.id, within)
                .await
                .map(|payment| payment.map(Arc::new));
            for waiter in batch {
                // One that went away in the meantime needs no answer.
                let _ = waiter.answer.send(answer.clone());
            }
        }
    }

    /// Takes those who wait, and with them the right to read; removes the entry when there is nobody.
    fn next_batch(&mut self) -> Option<Vec<Waiter>> {
        let mut queued = self.shared.queued();
        let waiters = queued.get_mut(&self.id)?;
        let mut batch = std::mem::take(waiters);
        batch.retain(Waiter::is_waiting);
        if batch.is_empty() {
            queued.remove(&self.id);
            self.owns_entry = false;
            return None;
        }
        Some(batch)
    }
}

impl Drop for Reader {
    /// A task that dies in mid-read (a panic, the runtime's end) must not leave an entry that nobody serves.
    fn drop(&mut self) {
        if self.owns_entry {
            self.shared.queued().remove(&self.id);
        }
    }
}
