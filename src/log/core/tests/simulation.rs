//! Several appenders and one database in memory, which takes a batch whole or not at all under the
//! rules of the real one. Requests and replies get lost at any point, requests that were given up
//! arrive late, processes die, clocks jump, and steps of different appenders interleave in any order.
//!
//! Commands come from clients who know of a stream what they have read, and from executors, which
//! decide each command on what those before it will leave ([`Chain`]).

mod submitting;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use self::submitting::Mailbox;
use super::*;
use crate::{
    log::chain::{Chain, Link},
    simulation::each_seed,
};

const NODES: usize = 3;
const STREAMS: [&str; 3] = ["a", "b", "c"];

/// As the log counts.
fn count(number: usize) -> i64 {
    i64::try_from(number).expect("it is small")
}

/// What the real database keeps.
#[derive(Default)]
struct Database {
    /// In the order of positions: (stream, sequence, command, when).
    events: Vec<(String, i64, Uuid, Timestamp)>,
    commands: HashMap<Uuid, CommandRow>,
    keys: HashMap<(String, String), String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Committed,
    NotTaken(Head),
    Violation,
}

impl Database {
    fn head(&self) -> Head {
        Head {
            position: count(self.events.len()),
            recorded_at: self.events.last().map(|event| event.3),
        }
    }

    fn sequence(&self, stream: &str) -> i64 {
        count(self.history(stream).len())
    }

    /// The commands that the events of a stream are of: what a decision is made on.
    fn history(&self, stream: &str) -> Vec<Uuid> {
        let own = self.events.iter().filter(|event| event.0 == stream);
        own.map(|event| event.2).collect()
    }

    /// As `sql::append`; `place` becomes where a batch that queues stands.
    fn append(&mut self, commands: &[&NewCommand], place: &mut Place, turn: Turn) -> Reply {
        let head = self.head();
        if turn == Turn::Queue {
            place.after = head.position;
            place.recorded_at = head
                .recorded_at
                .map_or(place.recorded_at, |at| at.max(place.recorded_at));
        }
        let place = *place;
        if head.position != place.after {
            return Reply::NotTaken(head);
        }
        let mut sequences: HashMap<&str, i64> = STREAMS.map(|stream| (stream, self.sequence(stream))).into();
        let mut keys = self.keys.clone();
        let mut violated = false;
        for command in commands {
            let current = sequences
                .get_mut(command.aggregate_id.as_str())
                .expect("a known stream");
            if !command.events.is_empty() {
                if command.expected_sequence > *current {
                    return Reply::NotTaken(head);
                }
                violated |= command.expected_sequence < *current;
                *current += count(command.events.len());
            }
            violated |= self.commands.contains_key(&command.command_id);
            for key in &command.unique_keys {
                let taken = keys.insert((key.scope.to_owned(), key.value.clone()), key.owner.clone());
                violated |= taken.is_some();
            }
        }
        if violated {
            return Reply::Violation;
        }
        self.keys = keys;
        for (command, appended) in zip(commands, appended(commands, place)) {
            for n in 0..count(command.events.len()) {
                self.events.push((
                    command.aggregate_id.clone(),
                    command.expected_sequence + 1 + n,
                    command.command_id,
                    place.recorded_at,
                ));
            }
            let row = row(command, appended.sequence, appended.position, appended.recorded_at);
            self.commands.insert(command.command_id, row);
        }
        Reply::Committed
    }

    /// As `sql::find`.
    fn find(&self, commands: &[&NewCommand]) -> Findings {
        Findings {
            commands: commands
                .iter()
                .filter_map(|command| Some((command.command_id, self.commands.get(&command.command_id)?.clone())))
                .collect(),
            sequences: STREAMS
                .iter()
                .map(|stream| (("order".to_owned(), (*stream).to_owned()), self.sequence(stream)))
                .collect(),
            taken: self.keys.clone(),
        }
    }
}

/// Where an appender is in `commit_or_find_poison`; between two of these anything may happen.
enum Step {
    Idle,
    Send,
    Classify,
}

/// A command on its way to the log.
struct Submission {
    command: NewCommand,
    /// Its place among those of its aggregate, and the history that it was decided on.
    decided: Option<(Link, Vec<Uuid>)>,
}

struct Node {
    core: Core,
    clock: i64,
    queue: VecDeque<Submission>,
    work: Vec<Submission>,
    sent_at: Option<Place>,
    /// A batch that queued may still be on its way; before anything else its backend is ended.
    unheard: bool,
    step: Step,
    mailboxes: [Mailbox; STREAMS.len()],
}

impl Node {
    fn new(head: Head) -> Self {
        Self {
            core: Core::new(head),
            clock: 0,
            queue: VecDeque::new(),
            work: Vec::new(),
            sent_at: None,
            unheard: false,
            step: Step::Idle,
            mailboxes: std::array::from_fn(|_| Mailbox::new()),
        }
    }

    /// Takes what has queued; equal ids are folded before they are sent.
    fn gather(&mut self, batch: usize) {
        while let Some(next) = self.queue.front() {
            let id = next.command.command_id;
            let seen = self.work.iter().any(|other| other.command.command_id == id);
            if self.work.len() > batch || seen {
                break;
            }
            self.work.extend(self.queue.pop_front());
        }
        if !self.work.is_empty() {
            self.sent_at = None;
            self.step = Step::Send;
        }
    }
}

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy)]
enum Network {
    Works,
    LosesTheReply,
    LosesTheRequest,
}

struct World {
    random: StdRng,
    database: Database,
    nodes: Vec<Node>,
    /// Requests that were given up and may still arrive.
    late: Vec<(Vec<NewCommand>, Place, Turn)>,
    answers: Vec<(NewCommand, Outcome)>,
    /// Commands whose fate nobody could be told: their process died.
    orphaned: HashSet<Uuid>,
    /// Commands that went out with a batch that queued, and nobody heard what became of it.
    queued_unheard: HashSet<Uuid>,
    /// How many commands of chains were appended, and how many of them behind another.
    chained: (usize, usize),
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            database: Database::default(),
            nodes: (0..NODES).map(|_| Node::new(Database::default().head())).collect(),
            late: Vec::new(),
            answers: Vec::new(),
            orphaned: HashSet::new(),
            queued_unheard: HashSet::new(),
            chained: (0, 0),
        }
    }

    /// As `Waiting::tell`.
    fn answer(&mut self, submission: Submission, outcome: Outcome) {
        let Submission { command, decided } = submission;
        let in_the_log = self.database.commands.get(&command.command_id);
        match &outcome {
            Outcome::Appended(appended) => {
                let its_own = in_the_log.is_some_and(|row| appended.is(row) && command.made(row));
                assert!(its_own, "{command:?} was answered {appended:?}");
            }
            Outcome::Duplicate(row) => assert_eq!(in_the_log, Some(row)),
            Outcome::Conflict { .. } | Outcome::KeyTaken { .. } => assert_eq!(in_the_log, None, "{outcome:?}"),
            // Nobody is told: it is decided anew. Another may have used the id.
            Outcome::Unfounded => {}
            Outcome::Rejected { .. } => panic!("nothing here is bad data"),
        }
        if let Some((mut link, decided_on)) = decided
            && matches!(outcome, Outcome::Appended(_))
        {
            link.appended();
            if !command.events.is_empty() {
                let history = self.database.history(&command.aggregate_id);
                assert_eq!(
                    history[..decided_on.len()],
                    decided_on,
                    "{} stands behind something that it was not decided on",
                    command.command_id
                );
            }
            self.chained.0 += 1;
            self.chained.1 += usize::from(link.number() > 0);
        }
        self.answers.push((command, outcome));
    }

    /// One step of one appender, as `src/log/appender.rs` takes it.
    fn step(&mut self, index: usize, network: Network, batch: usize) {
        match self.nodes[index].step {
            Step::Idle => self.nodes[index].gather(batch),
            Step::Send => {
                self.answer_unfounded(index);
                if self.nodes[index].work.is_empty() {
                    self.nodes[index].step = Step::Idle;
                } else {
                    self.send(index, network);
                }
            }
            Step::Classify => self.classify(index),
        }
    }

    /// As `answer_unfounded` where the appender calls it: what may be in the log goes again as it was.
    fn answer_unfounded(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.sent_at.is_some() || node.unheard {
            return;
        }
        for submission in std::mem::take(&mut node.work) {
            let unfounded = matches!(&submission.decided, Some((link, _)) if link.is_unfounded());
            if unfounded {
                self.answer(submission, Outcome::Unfounded);
            } else {
                self.nodes[index].work.push(submission);
            }
        }
    }

    fn send(&mut self, index: usize, network: Network) {
        let node = &mut self.nodes[index];
        node.unheard = false;
        let turn = node.core.turn(node.sent_at);
        let mut place = node.sent_at.unwrap_or_else(|| node.core.place(at(node.clock)));
        let commands: Vec<&NewCommand> = node.work.iter().map(|submission| &submission.command).collect();
        let sent_at = (turn == Turn::Race).then_some(place);
        if turn == Turn::Queue && !matches!(network, Network::Works) {
            self.queued_unheard
                .extend(commands.iter().map(|command| command.command_id));
        }
        match network {
            Network::Works => {}
            Network::LosesTheReply => {
                self.database.append(&commands, &mut place, turn);
                (node.sent_at, node.unheard) = (sent_at, sent_at.is_none());
                return;
            }
            Network::LosesTheRequest => {
                // What queued cannot come late: the appender sees to it that its old backend is gone.
                if turn == Turn::Race {
                    let commands = commands.into_iter().cloned().collect();
                    self.late.push((commands, place, turn));
                }
                (node.sent_at, node.unheard) = (sent_at, sent_at.is_none());
                return;
            }
        }
        match self.database.append(&commands, &mut place, turn) {
            Reply::Committed => {
                let answers = appended(&commands, place);
                node.core.committed(place, event_count(&commands));
                node.step = Step::Idle;
                for (submission, appended) in zip(std::mem::take(&mut node.work), answers) {
                    self.answer(submission, Outcome::Appended(appended));
                }
            }
            Reply::NotTaken(head) if turn == Turn::Race && node.sent_at.is_none() && head != node.core.head() => {
                node.core.lost_race(head);
            }
            Reply::NotTaken(_) | Reply::Violation => node.step = Step::Classify,
        }
    }

    fn classify(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let commands: Vec<&NewCommand> = node.work.iter().map(|submission| &submission.command).collect();
        let verdicts = judge(&commands, &self.database.find(&commands), node.sent_at.take());
        let head = self.database.head();
        if head == node.core.head() {
            node.core.stands_at(head);
        } else {
            node.core.lost_race(head);
        }
        let mut answers = Vec::new();
        for (submission, verdict) in zip(std::mem::take(&mut node.work), verdicts) {
            match verdict {
                Verdict::Keep => node.work.push(submission),
                Verdict::Answer(outcome) => answers.push((submission, outcome)),
            }
        }
        node.step = if node.work.is_empty() { Step::Idle } else { Step::Send };
        for (submission, outcome) in answers {
            self.answer(submission, outcome);
        }
    }

    /// A given-up request arrives after all; nobody hears the reply.
    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let which = self.random.random_range(0..self.late.len());
            let (commands, mut place, turn) = self.late.swap_remove(which);
            self.database
                .append(&commands.iter().collect::<Vec<_>>(), &mut place, turn);
        }
    }

    /// A process dies over what it was doing, and another takes its place. What it had just sent may
    /// be on its way, also a batch that queues: nobody is there to end its backend.
    fn crash(&mut self, index: usize) {
        let clock = self.nodes[index].clock;
        let node = std::mem::replace(&mut self.nodes[index], Node::new(self.database.head()));
        self.nodes[index].clock = clock;
        let lost = node.work.iter().chain(&node.queue);
        self.orphaned
            .extend(lost.map(|submission| submission.command.command_id));
        if matches!(node.step, Step::Send) && self.random.random_bool(0.5) {
            let turn = node.core.turn(node.sent_at);
            let place = node.sent_at.unwrap_or_else(|| node.core.place(at(clock)));
            let commands = node.work.iter().map(|submission| submission.command.clone());
            self.late.push((commands.collect(), place, turn));
        }
    }

    fn happen(&mut self) {
        let index = self.random.random_range(0..NODES);
        match self.random.random_range(0..100) {
            0..12 => self.submit(index),
            12..30 => self.submit_chained(index),
            30..90 => {
                let network = match self.random.random_range(0..8) {
                    0 => Network::LosesTheReply,
                    1 => Network::LosesTheRequest,
                    _ => Network::Works,
                };
                let batch = self.random.random_range(0..5);
                self.step(index, network, batch);
            }
            90..96 => self.arrive_late(),
            96..99 => self.nodes[index].clock += self.random.random_range(-100..100),
            _ => self.crash(index),
        }
    }

    /// The network heals; everyone gets an answer.
    fn settle(&mut self) {
        let busy = |node: &Node| !(node.queue.is_empty() && node.work.is_empty());
        for round in 0.. {
            if !self.nodes.iter().any(busy) {
                break;
            }
            assert!(round < 10_000, "it never settles");
            for index in 0..NODES {
                self.step(index, Network::Works, 4);
            }
        }
        while !self.late.is_empty() {
            self.arrive_late();
        }
    }

    fn check(&self) {
        let mut sequences: HashMap<&str, i64> = HashMap::new();
        let mut time = None;
        for (stream, sequence, _, recorded_at) in &self.database.events {
            let last = sequences.entry(stream).or_default();
            assert_eq!(*sequence, *last + 1, "sequences are dense");
            *last = *sequence;
            assert!(time <= Some(*recorded_at), "time runs backwards");
            time = Some(*recorded_at);
        }
        for row in self.database.commands.values() {
            let own = self.database.events.iter().filter(|event| event.2 == row.command_id);
            assert_eq!(
                count(own.count()),
                i64::from(row.events),
                "each command is in the log once"
            );
            let last = usize::try_from(row.position).expect("positions are not negative");
            let at_its_place = self.database.events[..last]
                .iter()
                .rev()
                .take(usize::try_from(row.events).expect("a count is not negative"));
            assert!(at_its_place.clone().all(|event| event.2 == row.command_id));
        }
        // Whoever was told no, and whose command nobody else got through, has nothing in the log.
        for (command, outcome) in &self.answers {
            if self.orphaned.contains(&command.command_id) {
                continue;
            }
            let went_in = self.answers.iter().any(|(other, outcome)| {
                other.command_id == command.command_id
                    && matches!(outcome, Outcome::Appended(_) | Outcome::Duplicate(_))
            });
            let in_the_log = self.database.commands.contains_key(&command.command_id);
            assert_eq!(in_the_log, went_in, "{command:?} was answered {outcome:?}");
            let sent = self
                .answers
                .iter()
                .filter(|(other, _)| other.command_id == command.command_id);
            // Where a batch that queued would stand is not known when its reply is lost.
            if sent.count() == 1 && !self.queued_unheard.contains(&command.command_id) {
                assert!(
                    !matches!(outcome, Outcome::Duplicate(_)),
                    "{command:?} was sent once and taken for a repeat"
                );
            }
        }
        for mailbox in self.nodes.iter().flat_map(|node| &node.mailboxes) {
            assert!(
                mailbox.is_settled(),
                "everyone was answered and something is on its way"
            );
        }
    }
}

#[test]
fn whatever_happens_the_log_is_sound_and_answers_are_true() {
    each_seed(3_000, |seed| {
        let mut world = World::new(seed);
        for _ in 0..world.random.random_range(0..200) {
            world.happen();
        }
        world.settle();
        world.check();
    });
}

/// Or the chains of the test above would prove nothing.
#[test]
fn many_commands_stand_behind_another() {
    let (mut appended, mut behind) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed);
        (0..200).for_each(|_| world.happen());
        world.settle();
        appended += world.chained.0;
        behind += world.chained.1;
    }
    assert!(
        behind > 500 && appended > behind,
        "{appended} were appended, {behind} of them behind another"
    );
}
