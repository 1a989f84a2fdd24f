//! Where the commands come from.

use super::*;

/// What an executor keeps of one aggregate, as `Ahead` in `src/executor/cache.rs`.
pub struct Mailbox {
    chain: Arc<Chain>,
    links: u64,
    /// The history as it will be once everything that is on its way is in the log.
    ahead: Option<Vec<Uuid>>,
}

impl Mailbox {
    pub fn new() -> Self {
        Self {
            chain: Chain::new(),
            links: 0,
            ahead: None,
        }
    }

    pub fn is_settled(&self) -> bool {
        self.chain.is_settled()
    }
}

impl World {
    /// Few ids, so that many are used twice.
    fn any_id(&mut self) -> u128 {
        self.random.random_range(0..60)
    }

    /// A client's command, made from what it has read: perhaps not the end of the stream.
    pub fn submit(&mut self, index: usize) {
        let id = self.any_id();
        let stream = STREAMS[self.random.random_range(0..STREAMS.len())];
        let ahead = self.random.random_range(-1..3);
        let expected = (self.database.sequence(stream) + ahead).max(0);
        let mut command = command(id, stream, expected, self.random.random_range(0..3));
        if self.random.random_bool(0.2) {
            command = claiming(command, &self.random.random_range(0..4).to_string());
        }
        let decided = None;
        self.nodes[index].queue.push_back(Submission { command, decided });
    }

    /// An executor's command, decided on everything that is on its way, as `Executor::decide`.
    pub fn submit_chained(&mut self, index: usize) {
        let id = self.any_id();
        let which = self.random.random_range(0..STREAMS.len());
        let events = self.random.random_range(1..3);
        let key = self
            .random
            .random_bool(0.1)
            .then(|| self.random.random_range(0..4).to_string());
        let mailbox = &mut self.nodes[index].mailboxes[which];
        if mailbox.chain.is_broken() {
            // Nothing is decided until the fate of everything is known; then on what is in the log.
            if !mailbox.chain.is_settled() {
                return;
            }
            *mailbox = Mailbox::new();
        }
        let decided_on = mailbox
            .ahead
            .clone()
            .unwrap_or_else(|| self.database.history(STREAMS[which]));
        let mut command = command(id, STREAMS[which], count(decided_on.len()), events);
        if let Some(key) = key {
            command = claiming(command, &key);
        }
        let mut ahead = decided_on.clone();
        ahead.extend(std::iter::repeat_n(command.command_id, events));
        mailbox.ahead = Some(ahead);
        let link = mailbox.chain.link(mailbox.links);
        mailbox.links += 1;
        let decided = Some((link, decided_on));
        self.nodes[index].queue.push_back(Submission { command, decided });
    }
}
