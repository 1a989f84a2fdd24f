//! A bounded memory of folded aggregates: where the next decision begins, never what it rests on
//! alone, since every append checks the stream it appends to.

use std::{
    any::{Any, TypeId},
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use jangbu_domain::Decide;
use jangbu_events::{AggregateId, Slot};
use lru::LruCache;
use uuid::Uuid;

use crate::log::chain::{Chain, Link};

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
    pub mailbox: tokio::sync::Mutex<Ahead<A>>,
    folded: Mutex<Option<Folded<A>>>,
}

/// What commands that are on their way to the log will leave.
pub struct Ahead<A> {
    chain: Arc<Chain>,
    links: u64,
    folded: Option<Folded<A>>,
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
                mailbox: tokio::sync::Mutex::new(Ahead {
                    chain: Chain::new(),
                    links: 0,
                    folded: None,
                }),
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
}

impl<A> Ahead<A> {
    /// What the next decision is made on; `None` if nothing is on its way.
    pub fn folded(&self) -> Option<&Folded<A>> {
        self.folded.as_ref()
    }

    /// Whether some command was not appended: what was decided on it will not be either.
    pub fn is_broken(&self) -> bool {
        self.chain.is_broken()
    }

    /// Whether the fate of all commands is known.
    pub fn is_settled(&self) -> bool {
        self.chain.is_settled()
    }

    /// Waits until the fate of all commands is known, and begins anew.
    pub async fn settle(&mut self) {
        self.chain.settled().await;
        self.chain = Chain::new();
        self.links = 0;
        self.folded = None;
    }

    /// For the next command, which is sent at once.
    pub fn link(&mut self) -> Link {
        let link = self.chain.link(self.links);
        self.links += 1;
        link
    }

    /// The next decision is made on this.
    pub fn go_on(&mut self, folded: Folded<A>) {
        self.folded = Some(folded);
    }
}

impl<A: Decide> Folded<A> {
    /// As it will be once these events are appended; where in the log is not known yet.
    pub fn ahead(&self, events: &[A::Event], slot: Slot) -> Self {
        let mut ahead = self.clone();
        if !events.is_empty() {
            let state = Arc::make_mut(&mut ahead.state);
            for event in events {
                state.apply(event.clone());
                ahead.sequence += 1;
            }
            ahead.slot = Some(slot);
        }
        ahead
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
