//! Commands decided one on top of another, before the log has taken any of them.
//!
//! A decision made on what another command will leave is good only if that command is appended as it
//! was decided. Sequences alone do not tell: where the other was refused, a foreign event may stand
//! at its sequence, and the next command would fit behind it. So the commands of a chain are
//! numbered; the first that is not appended breaks the chain behind it, before anybody hears of it,
//! and the appender sends nothing that stands behind a break.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// Nothing is broken.
const WHOLE: u64 = u64::MAX;

/// Commands of one aggregate that are on their way to the log.
#[derive(Debug)]
pub struct Chain {
    /// The first link that was not appended.
    broken_at: AtomicU64,
    /// Links whose fate is not known yet.
    pending: AtomicU64,
    settled: Notify,
}

/// One command's place in a chain. Dropped without a word, it is a break.
#[derive(Debug)]
pub struct Link {
    chain: Arc<Chain>,
    number: u64,
    appended: bool,
}

impl Chain {
    /// Without links.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            broken_at: AtomicU64::new(WHOLE),
            pending: AtomicU64::new(0),
            settled: Notify::new(),
        })
    }

    /// The next link; whoever makes links of one chain does so one after the other, in the order in
    /// which they are sent to the appender.
    pub fn link(self: &Arc<Self>, number: u64) -> Link {
        self.pending.fetch_add(1, Ordering::SeqCst);
        Link {
            chain: Arc::clone(self),
            number,
            appended: false,
        }
    }

    /// Whether some command was not appended.
    pub fn is_broken(&self) -> bool {
        self.broken_at.load(Ordering::SeqCst) != WHOLE
    }

    /// Whether the fate of every command is known.
    pub fn is_settled(&self) -> bool {
        self.pending.load(Ordering::SeqCst) == 0
    }

    /// Waits until the fate of every command is known.
    pub async fn settled(&self) {
        loop {
            let mut told = std::pin::pin!(self.settled.notified());
            told.as_mut().enable();
            if self.is_settled() {
                return;
            }
            told.await;
        }
    }
}

impl Link {
    /// Its command is in the log, as it was decided.
    pub const fn appended(&mut self) {
        self.appended = true;
    }

    /// Its command will not be appended as it was decided: nothing behind it may be.
    pub fn broken(&self) {
        self.chain.broken_at.fetch_min(self.number, Ordering::SeqCst);
    }

    /// Its place in the chain, from 0.
    #[cfg(test)]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether something it was decided on was not appended.
    pub fn is_unfounded(&self) -> bool {
        self.number > self.chain.broken_at.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.appended {
            self.broken();
        }
        // Last: whoever finds the chain settled must find it broken as well.
        if self.chain.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.chain.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_break_is_unfounded() {
        let chain = Chain::new();
        let mut links: Vec<Link> = (0..4).map(|number| chain.link(number)).collect();
        assert!(!chain.is_settled());
        links[0].appended();
        drop(links.remove(0));
        assert!(!chain.is_broken());
        // Never told what became of it: not appended.
        drop(links.remove(0));
        assert!(chain.is_broken() && links.iter().all(Link::is_unfounded));
        links.clear();
        assert!(chain.is_settled());
    }

    #[test]
    fn a_break_leaves_what_stands_before_it() {
        let chain = Chain::new();
        let (first, second, third) = (chain.link(0), chain.link(1), chain.link(2));
        second.broken();
        assert!(!first.is_unfounded() && !second.is_unfounded() && third.is_unfounded());
    }

    #[tokio::test]
    async fn a_chain_is_settled_when_the_last_link_is_gone() {
        let chain = Chain::new();
        chain.settled().await;
        let link = chain.link(0);
        let waiting = tokio::spawn({
            let chain = Arc::clone(&chain);
            async move { chain.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(link);
        waiting.await.expect("it ends");
    }
}
