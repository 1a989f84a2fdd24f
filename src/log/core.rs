//! The appender's decisions, without any I/O: how a batch is numbered, and what became of its
//! commands when the database said no.

use std::collections::HashMap;

use jangbu_events::Timestamp;
use uuid::Uuid;

use super::rows::{Appended, CommandRow, Head, NewCommand, Outcome};

/// Races lost in a row after which batches queue.
const LOST_RACES_MAX: u32 = 2;
/// Batches that queue before racing is tried again.
const QUEUED_BATCHES: u32 = 64;

/// What the appender knows between two batches.
#[derive(Debug)]
pub struct Core {
    head: Head,
    lost_races: u32,
    queued_batches_left: u32,
}

/// Where a batch goes: after `after`, at `recorded_at`. Sent again unchanged until the outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first event gets the next position.
    pub after: i64,
    /// One moment for the whole batch, never before the head's.
    pub recorded_at: Timestamp,
}

/// How a batch meets those of other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It races them for the next position, and loses if the head is not where it is thought to be.
    Race,
    /// It waits until it is its turn, and stands wherever the log ends then.
    Queue,
}

/// What one consistent read found about a batch that was not taken.
#[derive(Debug, Default)]
pub struct Findings {
    /// Commands that are in the log already.
    pub commands: HashMap<Uuid, CommandRow>,
    /// Last sequence of each stream that the batch writes to.
    pub sequences: HashMap<(String, String), i64>,
    /// Who has the unique keys that are taken, by (scope, value).
    pub taken: HashMap<(String, String), String>,
}

/// What the findings mean for one command.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong with it; send it again.
    Keep,
    /// Answer it.
    Answer(Outcome),
}

impl Core {
    /// Begins at the end of the log.
    pub const fn new(head: Head) -> Self {
        Self {
            head,
            lost_races: 0,
            queued_batches_left: 0,
        }
    }

    /// The end of the log as far as it is known.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Where the next batch goes.
    pub fn place(&self, now: Timestamp) -> Place {
        let recorded_at = self.head.recorded_at.map_or(now, |head| head.max(now));
        Place {
            after: self.head.position,
            recorded_at,
        }
    }

    /// The head was read again: another process has appended, or a race was lost.
    pub fn lost_race(&mut self, head: Head) {
        self.head = head;
        self.lost_races += 1;
        if self.lost_races >= LOST_RACES_MAX {
            self.queued_batches_left = QUEUED_BATCHES;
        }
    }

    /// The head was read, and no race was lost over it.
    pub const fn stands_at(&mut self, head: Head) {
        self.head = head;
    }

    /// How the next batch should meet those of other processes: racing one that appends all the time
    /// costs more than queueing with it. What may have been sent to a place goes there again.
    pub const fn turn(&self, sent_at: Option<Place>) -> Turn {
        if self.queued_batches_left > 0 && sent_at.is_none() {
            Turn::Queue
        } else {
            Turn::Race
        }
    }

    /// A batch is in the log.
    pub fn committed(&mut self, place: Place, events: usize) {
        self.lost_races = 0;
        self.queued_batches_left = self.queued_batches_left.saturating_sub(1);
        if events > 0 {
            let position = place.after + i64::try_from(events).expect("a batch is small");
            self.head = Head {
                position,
                recorded_at: Some(place.recorded_at),
            };
        }
    }
}

/// How many events a batch has.
pub fn event_count(commands: &[&NewCommand]) -> usize {
    commands.iter().map(|command| command.events.len()).sum()
}

/// What each command gets when the batch stands at `place`.
pub fn appended(commands: &[&NewCommand], place: Place) -> Vec<Appended> {
    let mut position = place.after;
    commands
        .iter()
        .map(|command| {
            let events = i64::try_from(command.events.len()).expect("a batch is small");
            position += events;
            Appended {
                sequence: command.expected_sequence + events,
                position,
                recorded_at: place.recorded_at,
            }
        })
        .collect()
}

/// Judges every command of a batch that was not taken. A duplicate wins over everything; then the
/// stream must stand where the decision was made (commands earlier in the batch count); then the
/// keys must be free. `sent_at` is the place of a send whose outcome was never learnt: commands
/// found exactly there, recorded at the same moment, are that send's own: another process may have
/// appended the same command, decided differently, at the same place.
pub fn judge(commands: &[&NewCommand], findings: &Findings, sent_at: Option<Place>) -> Vec<Verdict> {
    let own = sent_at.map(|place| appended(commands, place));
    let mut sequences = findings.sequences.clone();
    let mut taken = findings.taken.clone();
    let mut verdicts = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        if let Some(row) = findings.commands.get(&command.command_id) {
            let own = own.as_ref().map(|own| own[index]);
            verdicts.push(Verdict::Answer(match own {
                Some(own) if own.is(row) && command.made(row) => Outcome::Appended(own),
                _ => Outcome::Duplicate(row.clone()),
            }));
            continue;
        }
        let stream = (command.aggregate_type.to_owned(), command.aggregate_id.clone());
        let current = sequences.get(&stream).copied().unwrap_or(0);
        if !command.events.is_empty() && current != command.expected_sequence {
            verdicts.push(Verdict::Answer(Outcome::Conflict { current }));
            continue;
        }
        let key_of = |key: &super::rows::UniqueKey| (key.scope.to_owned(), key.value.clone());
        let has = |key: &&super::rows::UniqueKey| taken.get(&key_of(key)) == Some(&key.owner);
        let released: Vec<_> = command.beside.released_keys.iter().filter(has).map(key_of).collect();
        let is_taken = |key: &&super::rows::UniqueKey| {
            let key = key_of(key);
            taken.contains_key(&key) && !released.contains(&key)
        };
        if let Some(key) = command.unique_keys.iter().find(is_taken) {
            verdicts.push(Verdict::Answer(Outcome::KeyTaken { scope: key.scope }));
            continue;
        }
        for key in &released {
            taken.remove(key);
        }
        taken.extend(command.unique_keys.iter().map(|key| (key_of(key), key.owner.clone())));
        sequences.insert(
            stream,
            current + i64::try_from(command.events.len()).expect("a batch is small"),
        );
        verdicts.push(Verdict::Keep);
    }
    verdicts
}

#[cfg(test)]
mod tests;
