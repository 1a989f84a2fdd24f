//! Several appenders and one database in memory, which takes a batch whole or not at all under the
//! rules of the real one. Requests and replies get lost at any point, requests that were given up
//! arrive late, clocks jump, and steps of different appenders interleave in any order.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*};

use super::*;

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
    keys: HashSet<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Committed,
    NotTaken,
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
        count(self.events.iter().filter(|event| event.0 == stream).count())
    }

    /// As `sql::insert`.
    fn insert(&mut self, commands: &[&NewCommand], place: Place) -> Reply {
        if self.head().position != place.after {
            return Reply::NotTaken;
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
                    return Reply::NotTaken;
                }
                violated |= command.expected_sequence < *current;
                *current += count(command.events.len());
            }
            violated |= self.commands.contains_key(&command.command_id);
            for key in &command.unique_keys {
                violated |= !keys.insert((key.scope.to_owned(), key.value.clone()));
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
    ReadHead,
    Classify,
}

struct Node {
    core: Core,
    clock: i64,
    queue: VecDeque<NewCommand>,
    work: Vec<NewCommand>,
    sent_at: Option<Place>,
    /// The head was read under the lock for the send to come.
    locked: bool,
    step: Step,
}

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy)]
enum Network {
    Works,
    LosesTheReply,
    LosesTheRequest,
}

struct World {
    database: Database,
    nodes: Vec<Node>,
    /// Requests that were given up and may still arrive.
    late: Vec<(Vec<NewCommand>, Place)>,
    answers: Vec<(NewCommand, Outcome)>,
    submitted: usize,
}

impl World {
    fn new() -> Self {
        Self {
            database: Database::default(),
            nodes: (0..NODES)
                .map(|_| Node {
                    core: Core::new(Database::default().head()),
                    clock: 0,
                    queue: VecDeque::new(),
                    work: Vec::new(),
                    sent_at: None,
                    locked: false,
                    step: Step::Idle,
                })
                .collect(),
            late: Vec::new(),
            answers: Vec::new(),
            submitted: 0,
        }
    }

    fn answer(&mut self, command: NewCommand, outcome: Outcome) {
        let in_the_log = self.database.commands.get(&command.command_id);
        match &outcome {
            Outcome::Appended(appended) => assert!(in_the_log.is_some_and(|row| appended.is(row)), "{appended:?}"),
            Outcome::Duplicate(row) => assert_eq!(in_the_log, Some(row)),
            Outcome::Conflict { .. } | Outcome::KeyTaken { .. } => assert_eq!(in_the_log, None, "{outcome:?}"),
            Outcome::Rejected { .. } => panic!("nothing here is bad data"),
        }
        self.answers.push((command, outcome));
    }

    /// One step of one appender, as `src/log/appender.rs` takes it.
    fn step(&mut self, index: usize, network: Network, batch: usize) {
        let database = &mut self.database;
        let node = &mut self.nodes[index];
        match node.step {
            Step::Idle => {
                // Equal ids are folded before they are sent.
                while let Some(command) = node.queue.front() {
                    let seen = node.work.iter().any(|other| other.command_id == command.command_id);
                    if node.work.len() > batch || seen {
                        break;
                    }
                    node.work.extend(node.queue.pop_front());
                }
                if !node.work.is_empty() {
                    node.sent_at = None;
                    node.step = Step::Send;
                }
            }
            Step::Send if node.core.should_lock() && node.sent_at.is_none() && !node.locked => {
                node.core.under_lock(database.head());
                node.locked = true;
            }
            Step::Send => {
                node.locked = false;
                let place = node.sent_at.unwrap_or_else(|| node.core.place(at(node.clock)));
                let commands: Vec<&NewCommand> = node.work.iter().collect();
                match network {
                    Network::Works => {}
                    Network::LosesTheReply => {
                        database.insert(&commands, place);
                        node.sent_at = Some(place);
                        return;
                    }
                    Network::LosesTheRequest => {
                        self.late.push((node.work.clone(), place));
                        node.sent_at = Some(place);
                        return;
                    }
                }
                match database.insert(&commands, place) {
                    Reply::Committed => {
                        let answers = appended(&commands, place);
                        node.core.committed(place, event_count(&commands));
                        node.step = Step::Idle;
                        for (command, appended) in zip(std::mem::take(&mut node.work), answers) {
                            self.answer(command, Outcome::Appended(appended));
                        }
                    }
                    Reply::NotTaken if node.sent_at.is_none() => node.step = Step::ReadHead,
                    Reply::NotTaken | Reply::Violation => node.step = Step::Classify,
                }
            }
            Step::ReadHead => {
                let head = database.head();
                if head == node.core.head() {
                    node.step = Step::Classify;
                } else {
                    node.core.lost_race(head);
                    node.step = Step::Send;
                }
            }
            Step::Classify => {
                let commands: Vec<&NewCommand> = node.work.iter().collect();
                let verdicts = judge(&commands, &database.find(&commands), node.sent_at.take());
                let head = database.head();
                if head == node.core.head() {
                    node.core.under_lock(head);
                } else {
                    node.core.lost_race(head);
                }
                let work = std::mem::take(&mut node.work);
                let mut answers = Vec::new();
                for (command, verdict) in zip(work, verdicts) {
                    match verdict {
                        Verdict::Keep => node.work.push(command),
                        Verdict::Answer(outcome) => answers.push((command, outcome)),
                    }
                }
                node.step = if node.work.is_empty() { Step::Idle } else { Step::Send };
                for (command, outcome) in answers {
                    self.answer(command, outcome);
                }
            }
        }
    }

    /// A given-up request arrives after all; nobody hears the reply.
    fn arrive_late(&mut self, which: usize) {
        if !self.late.is_empty() {
            let (commands, place) = self.late.swap_remove(which % self.late.len());
            self.database.insert(&commands.iter().collect::<Vec<_>>(), place);
        }
    }

    fn happen(&mut self, event: &Happening) {
        match event {
            Happening::Submit { node, command } => {
                self.submitted += 1;
                self.nodes[*node].queue.push_back(command.build(&self.database));
            }
            Happening::Step { node, network, batch } => self.step(*node, *network, *batch),
            Happening::ArriveLate { which } => self.arrive_late(*which),
            Happening::Clock { node, seconds } => self.nodes[*node].clock += seconds,
        }
    }

    /// The network heals; everyone gets an answer.
    fn settle(&mut self) {
        for round in 0.. {
            if self.answers.len() == self.submitted {
                break;
            }
            assert!(round < 10_000, "it never settles");
            for index in 0..NODES {
                self.step(index, Network::Works, 4);
            }
        }
        while !self.late.is_empty() {
            self.arrive_late(0);
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
            if sent.count() == 1 {
                assert!(
                    !matches!(outcome, Outcome::Duplicate(_)),
                    "{command:?} was sent once and taken for a repeat"
                );
            }
        }
    }
}

/// A command as a client would make it from what it has read.
#[derive(Debug, Clone)]
struct Submitted {
    id: u128,
    stream: usize,
    /// Before or behind the end of the stream as it is when the command is made.
    ahead: i64,
    events: usize,
    key: Option<u8>,
}

impl Submitted {
    fn build(&self, database: &Database) -> NewCommand {
        let stream = STREAMS[self.stream];
        let expected = (database.sequence(stream) + self.ahead).max(0);
        let command = command(self.id, stream, expected, self.events);
        match self.key {
            Some(key) => claiming(command, &key.to_string()),
            None => command,
        }
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Submit {
        node: usize,
        command: Submitted,
    },
    Step {
        node: usize,
        network: Network,
        batch: usize,
    },
    ArriveLate {
        which: usize,
    },
    Clock {
        node: usize,
        seconds: i64,
    },
}

fn any_command() -> impl Strategy<Value = Submitted> {
    // Few ids, so that many are used twice.
    (
        0..40_u128,
        0..STREAMS.len(),
        -1..3_i64,
        0..3_usize,
        proptest::option::weighted(0.2, 0..4_u8),
    )
        .prop_map(|(id, stream, ahead, events, key)| Submitted {
            id,
            stream,
            ahead,
            events,
            key,
        })
}

fn anything() -> impl Strategy<Value = Happening> {
    let network = prop_oneof![
        6 => Just(Network::Works),
        1 => Just(Network::LosesTheReply),
        1 => Just(Network::LosesTheRequest),
    ];
    prop_oneof![
        4 => (0..NODES, any_command()).prop_map(|(node, command)| Happening::Submit { node, command }),
        10 => (0..NODES, network, 0..5_usize)
            .prop_map(|(node, network, batch)| Happening::Step { node, network, batch }),
        1 => any::<usize>().prop_map(|which| Happening::ArriveLate { which }),
        1 => (0..NODES, -100..100_i64).prop_map(|(node, seconds)| Happening::Clock { node, seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_log_is_sound_and_answers_are_true(happenings in vec(anything(), 0..150)) {
        let mut world = World::new();
        for happening in &happenings {
            world.happen(happening);
        }
        world.settle();
        world.check();
    }
}
