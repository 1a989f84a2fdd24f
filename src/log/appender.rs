//! The appender: one task, one connection, one batch in flight. While a batch is on its way the next
//! one gathers in the queue, so one fsync serves many commands and nobody waits for a timer.

use std::{
    collections::{HashMap, VecDeque},
    io,
    time::Duration,
};

use chrono::TimeDelta;
use sqlx::{Connection, PgConnection, error::ErrorKind, postgres::PgConnectOptions};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{
    chain::Link,
    core::{Core, Place, Turn, Verdict, appended, event_count, judge},
    rows::{CommandRow, Head, NewCommand, Outcome},
    sql::{self, Backend},
};
use crate::clock::Surroundings;

/// Most commands in one statement.
const COMMANDS_MAX: usize = 512;
/// Most events in one statement.
const EVENTS_MAX: usize = 2_048;
/// Most JSON in one statement, in bytes; a single command may be larger.
const BYTES_MAX: usize = 1 << 20;
/// Most JSON in one command, in bytes.
pub const COMMAND_BYTES_MAX: usize = 8 << 20;
/// Commands that may wait for the next batch.
pub const QUEUE_MAX: usize = 8_192;
/// How often those who were just answered are let run before the next batch goes.
const YIELDS_MAX: usize = 3;
/// How long the database may take over one exchange. A connection that fell silent without a word
/// would otherwise hold up the log for as long as TCP has patience; sending again is always safe.
const EXCHANGE_MAX: Duration = Duration::from_secs(6);
/// How far the clock may be ahead of the database's.
const CLOCK_AHEAD_MAX: TimeDelta = TimeDelta::seconds(5);
/// Sends of a batch that changed nothing and found nothing wrong before it is cut in two.
const FRUITLESS_MAX: u32 = 8;

/// A command on its way, with everyone who waits for its answer.
pub struct Submission {
    /// What to append.
    pub command: NewCommand,
    /// Who waits.
    pub waiting: Waiting,
}

/// Whoever waits for a command, and what was decided on top of it.
#[derive(Debug)]
pub struct Waiting {
    /// Where the answer goes.
    pub answer: oneshot::Sender<Outcome>,
    /// Its place among the commands of its aggregate.
    pub link: Link,
}

impl Waiting {
    /// Answers. Whoever has given up waiting is passed over.
    pub fn tell(self, outcome: Outcome) {
        let Self { answer, mut link } = self;
        if matches!(outcome, Outcome::Appended(_)) {
            link.appended();
        }
        // Whoever hears of it and decides anew finds the chain as this leaves it.
        drop(link);
        _ = answer.send(outcome);
    }
}

/// A batch under way: distinct commands, each with everyone who waits for it.
type Work = Vec<(NewCommand, Vec<Waiting>)>;

/// How one send ended.
enum Sent {
    /// The batch is in the log.
    Committed,
    /// The head was here, or else a stream was not where it was thought to be; nothing was written.
    NotTaken(Head),
    /// Some unique constraint said no, whichever: its name depends on execution order.
    Violation,
    /// The connection or the reply was lost: it may be in the log or not.
    Unknown(sqlx::Error),
    /// The database refuses the data itself.
    Poison(sqlx::Error),
}

/// Runs until the queue is closed.
pub struct Appender {
    options: PgConnectOptions,
    connection: Option<(PgConnection, Backend)>,
    /// Was sent a batch that queues, and nobody heard what it did.
    unheard: Option<Backend>,
    core: Core,
    surroundings: Surroundings,
    /// The highest position this process knows of.
    known: watch::Sender<i64>,
    /// The highest position this process has appended.
    own: watch::Sender<i64>,
}

impl Appender {
    /// Connects and reads the end of the log.
    pub async fn connect(
        options: PgConnectOptions,
        surroundings: Surroundings,
        known: watch::Sender<i64>,
        own: watch::Sender<i64>,
    ) -> sqlx::Result<Self> {
        let options = options.options([
            // Every statement here finds its rows by an index. PostgreSQL would scan the tables while
            // they are small and keep that plan long after.
            ("enable_seqscan", "off"),
            // A batch of one would look cheaper to plan anew each time than the plan for any: planning
            // takes longer than the work.
            ("plan_cache_mode", "force_generic_plan"),
            // The server gives up first, in ms: else each connection that we give up while something
            // holds the table would leave a waiting backend behind, until there are no more.
            ("statement_timeout", "4000"),
            // A partition of the network must not leave the append lock held.
            ("idle_in_transaction_session_timeout", "8000"),
            // The head is read in a snapshot that is younger than the append lock.
            ("default_transaction_isolation", r"read\ committed"),
        ]);
        let mut connection = PgConnection::connect_with(&options).await?;
        check_clock(&mut connection, &surroundings).await?;
        let core = Core::new(sql::read_head(&mut connection).await?);
        let backend = sql::backend(&mut connection).await?;
        publish(&known, core.head());
        Ok(Self {
            options,
            connection: Some((connection, backend)),
            unheard: None,
            core,
            surroundings,
            known,
            own,
        })
    }

    /// Takes whatever has queued, as one batch, again and again.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Submission>) {
        let mut next = None;
        // How many were answered last. Their next commands are on their way, and share a commit with the
        // first of them if it lets them run before it goes.
        let mut answered = 1;
        loop {
            let first = match next.take() {
                Some(submission) => submission,
                None => match queue.recv().await {
                    Some(submission) => submission,
                    None => return,
                },
            };
            for _ in 0..YIELDS_MAX {
                if queue.len() + 1 >= answered {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let work = gather(first, &mut queue, &mut next);
            answered = work.len();
            metrics::histogram!("jangbu_append_batch_commands").record(u32::try_from(work.len()).unwrap_or(u32::MAX));
            self.commit(work).await;
        }
    }

    /// Appends a batch, cutting it in two where the database refuses it as a whole without a reason
    /// that can be found, until everyone has an answer.
    async fn commit(&mut self, work: Work) {
        let mut todo = VecDeque::from([work]);
        while let Some(mut work) = todo.pop_front() {
            let Some(poison) = self.commit_or_find_poison(&mut work).await else {
                continue;
            };
            if work.len() > 1 {
                let rest = work.split_off(work.len() / 2);
                todo.push_front(rest);
                todo.push_front(work);
            } else {
                tracing::error!(error = %poison, "the log refused a command");
                answer_all(work, |_| Outcome::Rejected {
                    reason: poison.to_string(),
                });
            }
        }
    }

    /// Sends a batch until it is in the log. Commands that turn out to be duplicates or conflicts
    /// are answered and taken out on the way. `Some` if the database refuses what is left.
    async fn commit_or_find_poison(&mut self, work: &mut Work) -> Option<sqlx::Error> {
        let mut sent_at: Option<Place> = None;
        let mut fruitless = 0;
        loop {
            // What may be in the log is sent again as it was.
            if sent_at.is_none() && self.unheard.is_none() {
                answer_unfounded(work);
            }
            if work.is_empty() {
                return None;
            }
            let commands: Vec<&NewCommand> = work.iter().map(|(command, _)| command).collect();
            // After a lost reply the same rows go again: were they renumbered, a first send that
            // did commit could not be told from another process's work.
            let turn = self.core.turn(sent_at);
            let mut place = sent_at.unwrap_or_else(|| self.core.place(self.surroundings.now()));
            let sent = self.send(&commands, &mut place, turn).await;
            match sent {
                Sent::Committed => {
                    let answers = appended(&commands, place);
                    let events = event_count(&commands);
                    self.core.committed(place, events);
                    publish(&self.known, self.core.head());
                    publish(&self.own, self.core.head());
                    metrics::counter!("jangbu_events_appended").increment(events as u64);
                    let mut answers = answers.into_iter();
                    answer_all(std::mem::take(work), |_| {
                        Outcome::Appended(answers.next().expect("there is an answer for every command"))
                    });
                    return None;
                }
                // With a lost reply before, the head may have moved because of us. If it has not
                // moved at all, a stream is shorter than a command expects. Either way: look.
                Sent::NotTaken(head) if turn == Turn::Race && sent_at.is_none() && head != self.core.head() => {
                    self.core.lost_race(head);
                    publish(&self.known, head);
                }
                Sent::NotTaken(_) | Sent::Violation => {
                    let known = self.core.head();
                    let before = work.len();
                    self.classify(work, sent_at.take()).await;
                    fruitless = if work.len() == before && self.core.head() == known {
                        fruitless + 1
                    } else {
                        0
                    };
                    if fruitless == FRUITLESS_MAX {
                        return Some(sqlx::Error::Protocol(
                            "a unique violation that nothing explains".to_owned(),
                        ));
                    }
                }
                Sent::Unknown(error) => {
                    tracing::warn!(%error, "the outcome of an append is unknown; it is sent again");
                    metrics::counter!("jangbu_append_outcome_unknown").increment(1);
                    let lost = self.connection.take();
                    // At a place of its own a batch may arrive late: the place is taken by then. One that
                    // queues would be let in wherever the log ends, so its backend must be gone before
                    // anything else. What of it is in the log is then answered as carried out before.
                    match turn {
                        Turn::Race => sent_at = Some(place),
                        Turn::Queue => self.unheard = lost.map(|(_, backend)| backend),
                    }
                    // What did not come back may have been anything, a COMMIT included.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Sent::Poison(error) => return Some(error),
            }
        }
    }

    /// Sends a batch once; `place` becomes where it stands, which a batch that queues learns only then.
    async fn send(&mut self, commands: &[&NewCommand], place: &mut Place, turn: Turn) -> Sent {
        if turn == Turn::Queue {
            metrics::counter!("jangbu_append_locked_batches").increment(1);
        }
        let connection = self.connection().await;
        match in_time(sql::append(connection, commands, *place, turn)).await {
            Ok(sent) if sent.taken => {
                place.after = sent.after;
                place.recorded_at = sent.recorded_at.unwrap_or(place.recorded_at);
                Sent::Committed
            }
            Ok(sent) => Sent::NotTaken(Head {
                position: sent.after,
                recorded_at: sent.recorded_at,
            }),
            Err(error) => sort(error),
        }
    }

    /// Looks at everything the batch touches and answers what can be answered.
    async fn classify(&mut self, work: &mut Work, sent_at: Option<Place>) {
        let commands: Vec<&NewCommand> = work.iter().map(|(command, _)| command).collect();
        let (findings, head) = loop {
            match in_time(sql::find(self.connection().await, &commands)).await {
                Ok(found) => break found,
                Err(error) => {
                    tracing::warn!(%error, "a batch cannot be classified yet");
                    self.connection = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let verdicts = judge(&commands, &findings, sent_at);
        if head == self.core.head() {
            self.core.stands_at(head);
        } else {
            self.core.lost_race(head);
        }
        publish(&self.known, head);
        for ((command, waiting), verdict) in std::mem::take(work).into_iter().zip(verdicts) {
            match verdict {
                Verdict::Keep => work.push((command, waiting)),
                Verdict::Answer(outcome) => answer(&command, waiting, outcome),
            }
        }
    }

    async fn connection(&mut self) -> &mut PgConnection {
        let open = match self.connection.take() {
            Some(open) => open,
            None => self.connect_anew().await,
        };
        &mut self.connection.insert(open).0
    }

    /// Connects, however long it takes: callers are told 503 at their own deadlines.
    async fn connect_anew(&mut self) -> (PgConnection, Backend) {
        let mut wait = Duration::from_millis(20);
        loop {
            match in_time(self.try_to_connect()).await {
                Ok(open) => {
                    self.unheard = None;
                    return open;
                }
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be reached yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    async fn try_to_connect(&self) -> sqlx::Result<(PgConnection, Backend)> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let backend = sql::backend(&mut connection).await?;
        if let Some(unheard) = self.unheard {
            sql::end_backend(&mut connection, unheard).await?;
        }
        Ok((connection, backend))
    }
}

/// Refuses a clock that is far ahead of the database's: times in the log never run backwards, so one
/// process that believes it is 2099 would pin the log there for ever.
async fn check_clock(connection: &mut PgConnection, surroundings: &Surroundings) -> sqlx::Result<()> {
    let theirs = sql::read_clock(connection).await?;
    let ahead = surroundings.now() - theirs;
    if surroundings.clock.is_real() && ahead > CLOCK_AHEAD_MAX {
        let seconds = ahead.num_seconds();
        let problem = format!("the clock of this machine is {seconds} s ahead of the database's; set it right first");
        return Err(sqlx::Error::Configuration(problem.into()));
    }
    Ok(())
}

/// Gives up on a database that does not answer: what was asked of it may be done or not.
async fn in_time<T>(exchange: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(EXCHANGE_MAX, exchange)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

/// Takes what has queued up to the limits, folding equal command ids into one.
fn gather(first: Submission, queue: &mut mpsc::Receiver<Submission>, next: &mut Option<Submission>) -> Work {
    let mut events = first.command.events.len();
    let mut bytes = first.command.weight();
    let mut seen: HashMap<Uuid, usize> = HashMap::from([(first.command.command_id, 0)]);
    let mut work: Work = vec![(first.command, vec![first.waiting])];
    while work.len() < COMMANDS_MAX {
        let Ok(submission) = queue.try_recv() else { break };
        if let Some(&index) = seen.get(&submission.command.command_id) {
            // It may have been decided otherwise than the first, which alone is appended.
            submission.waiting.link.broken();
            work[index].1.push(submission.waiting);
            continue;
        }
        if !submission.command.beside.released_keys.is_empty() {
            // Keys are given back before any of the batch is claimed.
            *next = Some(submission);
            break;
        }
        events += submission.command.events.len();
        bytes += submission.command.weight();
        if events > EVENTS_MAX || bytes > BYTES_MAX {
            *next = Some(submission);
            break;
        }
        seen.insert(submission.command.command_id, work.len());
        work.push((submission.command, vec![submission.waiting]));
    }
    work
}

fn answer_all(work: Work, mut outcome: impl FnMut(&NewCommand) -> Outcome) {
    for (command, waiting) in work {
        let outcome = outcome(&command);
        answer(&command, waiting, outcome);
    }
}

/// Takes out what was decided on a command that was not appended. In the order of the batch: each may
/// have others behind it.
fn answer_unfounded(work: &mut Work) {
    for (command, waiting) in std::mem::take(work) {
        if waiting.first().is_some_and(|first| first.link.is_unfounded()) {
            answer(&command, waiting, Outcome::Unfounded);
        } else {
            work.push((command, waiting));
        }
    }
}

/// Tells everyone who waits for a command. Only the first who sent it appended it; for the others
/// it is a duplicate.
fn answer(command: &NewCommand, waiting: Vec<Waiting>, outcome: Outcome) {
    let mut waiting = waiting.into_iter();
    let Some(first) = waiting.next() else { return };
    for other in waiting {
        let theirs = match &outcome {
            Outcome::Appended(appended) => Outcome::Duplicate(CommandRow {
                command_id: command.command_id,
                aggregate_type: command.aggregate_type.to_owned(),
                aggregate_id: command.aggregate_id.clone(),
                sequence: appended.sequence,
                position: appended.position,
                events: i32::try_from(command.events.len()).expect("a batch is small"),
                body_hash: command.body_hash.map(Vec::from),
                recorded_at: appended.recorded_at,
            }),
            other => other.clone(),
        };
        other.tell(theirs);
    }
    first.tell(outcome);
}

/// Raises what this process knows of the head.
fn publish(sender: &watch::Sender<i64>, head: Head) {
    sender.send_if_modified(|known| {
        let news = head.position > *known;
        *known = head.position.max(*known);
        news
    });
}

/// Tells a refusal of the data from everything that may pass.
fn sort(error: sqlx::Error) -> Sent {
    let Some(database) = error.as_database_error() else {
        return Sent::Unknown(error);
    };
    if database.kind() == ErrorKind::UniqueViolation {
        return Sent::Violation;
    }
    // Data exceptions, integrity constraints, and statements the server cannot run are about the
    // data; shutdowns, resources, locks and everything else pass.
    match database.code().as_deref().and_then(|code| code.get(..2)) {
        Some("21" | "22" | "23" | "42" | "54") => Sent::Poison(error),
        _ => Sent::Unknown(error),
    }
}
