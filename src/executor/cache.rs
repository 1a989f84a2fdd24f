//! A bounded memory of folded aggregates: where the next decision begins, never what it rests on
//! alone, since every append checks the stream it appends to.

use std::{
    any::{Any, TypeId},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use jangbu_domain::Decide;
use jangbu_events::{AggregateId, Recorded, Slot};
use lru::LruCache;
use uuid::Uuid;

/// Independent parts, so that commands of different aggregates rarely wait for one lock.
const SHARDS: usize = 16;
/// Aggregates remembered in each part.
const CELLS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("4,096 is not zero");

type Key = (TypeId, Uuid);

/// Aggregates of all types.
pub struct Cache {
    shards: Vec<Mutex<LruCache<Key, Arc<dyn Any + Send + Sync>>>>,
}

/// One aggregate: its mailbox, and what is known of it.
pub struct Cell<A> {
    /// Whoever holds it decides next.
    pub mailbox: tokio::sync::Mutex<()>,
    folded: Mutex<Option<Folded<A>>>,
}

/// An aggregate folded up to a sequence.
#[derive(Debug)]
pub struct Folded<A> {
    /// So far.
    pub state: Arc<A>,
    /// So far; 0 for nothing.
    pub sequence: i64,
    /// Of the last event folded.
    pub position: i64,
    /// Of the stream, once it exists.
    pub slot: Option<Slot>,
}

impl Cache {
    /// Knows nothing.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(CELLS_MAX))).collect(),
        }
    }

    /// The cell of one aggregate. After it was pushed out while somebody held it there may be two
    /// for a while; their commands then meet at the log.
    pub fn cell<A: Decide>(&self, id: A::Id) -> Arc<Cell<A>> {
        let key = (TypeId::of::<A>(), id.uuid());
        let shard = usize::from(id.uuid().as_bytes()[15]) % SHARDS;
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let cell = shard.get_or_insert(key, || {
            Arc::new(Cell::<A> {
                mailbox: tokio::sync::Mutex::new(()),
                folded: Mutex::new(None),
            })
        });
        Arc::clone(cell).downcast().expect("a key names cells of one type only")
    }
}

impl<A> Cell<A> {
    /// What is known, if anything.
    pub fn folded(&self) -> Option<Folded<A>> {
        self.folded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what was read or appended, unless more is known already.
    pub fn keep(&self, folded: Folded<A>) {
        let mut known = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.sequence < folded.sequence) {
            *known = Some(folded);
        }
    }

    /// Forgets what is known.
    pub fn forget(&self) {
        *self.folded.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<A: Decide> Folded<A> {
    /// After events that were appended to it.
    pub fn with(mut self, events: &[Recorded<A::Event>], slot: Slot) -> Self {
        let state = Arc::make_mut(&mut self.state);
        for event in events {
            state.apply(event.payload.clone());
            self.sequence = event.sequence;
            self.position = event.position;
        }
        self.slot = Some(slot);
        self
    }
}

impl<A> Clone for Folded<A> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            sequence: self.sequence,
            position: self.position,
            slot: self.slot,
        }
    }
}

impl<A: Default> Default for Folded<A> {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            sequence: 0,
            position: 0,
            slot: None,
        }
    }
}
