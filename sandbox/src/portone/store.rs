//! The payments in memory, split over shards so that concurrent calls seldom meet, and bounded in number.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::payment::Payment;

const SHARDS: usize = 64;

type Shard = HashMap<String, Payment>;

/// All payments. No lock is held across an await, and never two at once.
#[derive(Debug)]
pub(crate) struct Store {
    shards: Box<[Mutex<Shard>]>,
    /// Ids in order of arrival: the oldest goes first.
    arrivals: Mutex<VecDeque<String>>,
    sequence: AtomicU64,
    payments_max: usize,
}

impl Store {
    pub(crate) fn new(payments_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            arrivals: Mutex::default(),
            sequence: AtomicU64::new(0),
            payments_max,
        }
    }

    fn shard(&self, id: &str) -> MutexGuard<'_, Shard> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % SHARDS as u64).expect("the remainder is below 64");
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a payment that exists.
    pub(crate) fn with<T>(&self, id: &str, work: impl FnOnce(&mut Payment) -> T) -> Option<T> {
        self.shard(id).get_mut(id).map(work)
    }

    /// Works on a payment, which is made if it does not exist.
    pub(crate) fn with_or_new<T>(&self, id: &str, store_id: &str, work: impl FnOnce(&mut Payment) -> T) -> T {
        let mut shard = self.shard(id);
        if let Some(payment) = shard.get_mut(id) {
            return work(payment);
        }
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let result = work(
            shard
                .entry(id.to_owned())
                .or_insert_with(|| Payment::new(id, store_id, sequence)),
        );
        drop(shard);
        self.forget_oldest(id);
        result
    }

    fn forget_oldest(&self, newest: &str) {
        let oldest = {
            let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.push_back(newest.to_owned());
            if arrivals.len() > self.payments_max {
                arrivals.pop_front()
            } else {
                None
            }
        };
        if let Some(id) = oldest {
            self.shard(&id).remove(&id);
        }
    }

    /// Looks at every payment, one shard at a time, in no order.
    pub(crate) fn each(&self, mut look: impl FnMut(&Payment)) {
        for shard in &self.shards {
            for payment in shard.lock().unwrap_or_else(PoisonError::into_inner).values() {
                look(payment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_the_oldest_payment_is_forgotten() {
        let store = Store::new(3);
        for id in ["a", "b", "a", "c", "d"] {
            store.with_or_new(id, "store", |_| ());
        }
        assert!(store.with("a", |_| ()).is_none());
        let mut left = Vec::new();
        store.each(|payment| left.push(payment.id.clone()));
        left.sort();
        assert_eq!(left, ["b", "c", "d"]);
    }
}
