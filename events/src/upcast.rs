//! Upcasters: how an event written by an older version is read today. The log is never rewritten.
//!
//! One stored event may mean several today. They share its envelope, position, sequence and id
//! included, and are always told together and in order: whoever folds, projects or cuts a batch goes
//! by stored events, and knows what it has seen by position or sequence. `docs/evolving-events.md`
//! leads through a change; [`faults`] says what a registry lacks.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::envelope::Stored;

/// Type and version of an event: `("order.placed", "1")`.
pub type TypeVersion = (&'static str, &'static str);

/// Turns one stored event of an old version into the events it means today (1 to n).
pub struct Upcaster {
    /// The type it reads.
    pub event_type: &'static str,
    /// The version it reads: 1, 2, 3 …
    pub event_version: &'static str,
    /// What it may give: current, or read by another upcaster.
    pub into: &'static [TypeVersion],
    /// From the old payload to type, version and payload of each event it means; at least one. The old
    /// payload is as its schema says: a field that is not there is a defect of the log, and reads as null.
    pub apply: fn(Value) -> Vec<(&'static str, &'static str, Value)>,
}

/// All upcasters; none yet, since every event still has its first version.
pub const UPCASTERS: &[Upcaster] = &[];

/// Why an old event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UpcastError {
    /// More steps than any real history has.
    #[error("upcasting {event_type} version {event_version} does not come to an end")]
    Endless {
        /// `order.placed`.
        event_type: String,
        /// `1`.
        event_version: String,
    },
    /// An event would vanish from the past.
    #[error("upcasting {event_type} version {event_version} leaves nothing of it")]
    Nothing {
        /// `order.placed`.
        event_type: String,
        /// `1`.
        event_version: String,
    },
    /// An upcaster gave what it did not announce: whoever reads the log by type would miss it.
    #[error("upcasting {event_type} version {event_version} gives {given}, which is not announced")]
    Unannounced {
        /// `order.placed`.
        event_type: String,
        /// `1`.
        event_version: String,
        /// `order.accepted version 1`.
        given: String,
    },
    /// The payload is not JSON.
    #[error("the payload of {event_type} is not JSON")]
    Payload {
        /// `order.placed`.
        event_type: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

/// The most steps from the oldest version to today's.
const STEPS_MAX: u32 = 64;

impl Upcaster {
    fn reads(&self, event_type: &str, event_version: &str) -> bool {
        self.event_type == event_type && self.event_version == event_version
    }

    /// The old events that one stored event means a step later.
    fn step(&self, stored: &Stored) -> Result<Vec<Stored>, UpcastError> {
        let named = || (stored.event_type.clone(), stored.event_version.clone());
        let old = serde_json::from_str(&stored.payload).map_err(|source| UpcastError::Payload {
            event_type: stored.event_type.clone(),
            source,
        })?;
        let given = (self.apply)(old);
        if given.is_empty() {
            let (event_type, event_version) = named();
            return Err(UpcastError::Nothing {
                event_type,
                event_version,
            });
        }
        given
            .into_iter()
            .map(|(to_type, to_version, payload)| {
                if self.into.contains(&(to_type, to_version)) {
                    return Ok(Stored {
                        event_type: to_type.into(),
                        event_version: to_version.into(),
                        payload: payload.to_string(),
                    });
                }
                let (event_type, event_version) = named();
                Err(UpcastError::Unannounced {
                    event_type,
                    event_version,
                    given: format!("{to_type} version {to_version}"),
                })
            })
            .collect()
    }
}

/// Applies upcasters until none fits any more. An event that none fits comes back as it is.
pub fn upcast(upcasters: &[Upcaster], stored: &Stored) -> Result<Vec<Stored>, UpcastError> {
    let mut done = Vec::new();
    let mut todo = vec![(stored.clone(), 0)];
    while let Some((event, steps)) = todo.pop() {
        let Some(upcaster) = upcasters
            .iter()
            .find(|upcaster| upcaster.reads(&event.event_type, &event.event_version))
        else {
            done.push(event);
            continue;
        };
        if steps == STEPS_MAX {
            return Err(UpcastError::Endless {
                event_type: event.event_type,
                event_version: event.event_version,
            });
        }
        // Pushed in reverse: the stack then yields them in order.
        todo.extend(upcaster.step(&event)?.into_iter().rev().map(|event| (event, steps + 1)));
    }
    Ok(done)
}

/// The types under which the log may keep what today reads as one of `wanted`: for whoever asks the
/// log for some types alone.
pub fn stored_types<'a>(upcasters: &'a [Upcaster], wanted: &[&'a str]) -> Vec<&'a str> {
    let mut types = wanted.to_vec();
    loop {
        let leads_there = |upcaster: &&Upcaster| {
            !types.contains(&upcaster.event_type) && upcaster.into.iter().any(|(to, _)| types.contains(to))
        };
        match upcasters.iter().find(leads_there) {
            Some(upcaster) => types.push(upcaster.event_type),
            None => return types,
        }
    }
}

/// What is wrong with a registry of upcasters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Versions are counted, so that a missing one is seen.
    #[error("{0} version `{1}`: versions are 1, 2, 3 …")]
    NotCounted(&'static str, &'static str),
    /// It is not clear which one counts.
    #[error("two upcasters read {0} version {1}")]
    ReadTwice(&'static str, &'static str),
    /// It would never be asked.
    #[error("an upcaster reads {0} version {1}, which is current")]
    Current(&'static str, &'static str),
    /// A version that was released before today's, and that nothing reads.
    #[error("nothing reads {0} version {1}")]
    Unread(&'static str, u32),
    /// An upcaster gives what nothing reads.
    #[error("{0} version {1} leads to {2} version {3}, which nothing reads")]
    Nowhere(&'static str, &'static str, &'static str, &'static str),
    /// An upcaster gives nothing.
    #[error("{0} version {1} leads to nothing")]
    Nothing(&'static str, &'static str),
    /// Upcasters lead back to where they began.
    #[error("{0} version {1} leads back to itself")]
    Circle(&'static str, &'static str),
}

/// What is wrong with upcasters beside the versions that are current; empty if every version of every
/// type, from 1 on, leads to current ones.
pub fn faults(upcasters: &[Upcaster], current: &[TypeVersion]) -> Vec<Fault> {
    let read: Vec<TypeVersion> = upcasters.iter().map(|u| (u.event_type, u.event_version)).collect();
    let mut faults = Vec::new();
    for &(event_type, version) in current.iter().chain(&read) {
        if number(version).is_none() {
            faults.push(Fault::NotCounted(event_type, version));
        }
    }
    for (at, &(event_type, version)) in read.iter().enumerate() {
        if read[..at].contains(&(event_type, version)) {
            faults.push(Fault::ReadTwice(event_type, version));
        }
        if current.contains(&(event_type, version)) {
            faults.push(Fault::Current(event_type, version));
        }
        if leads_back(upcasters, (event_type, version)) {
            faults.push(Fault::Circle(event_type, version));
        }
        if upcasters[at].into.is_empty() {
            faults.push(Fault::Nothing(event_type, version));
        }
        for &(to_type, to_version) in upcasters[at].into {
            if !current.contains(&(to_type, to_version)) && !read.contains(&(to_type, to_version)) {
                faults.push(Fault::Nowhere(event_type, version, to_type, to_version));
            }
        }
    }
    let known: BTreeSet<(&str, u32)> = current
        .iter()
        .chain(&read)
        .filter_map(|&(event_type, version)| Some((event_type, number(version)?)))
        .collect();
    for &(event_type, version) in &known {
        // There is no version 3 without a version 2 that was released before it.
        if version > 1 && !known.contains(&(event_type, version - 1)) {
            faults.push(Fault::Unread(event_type, version - 1));
        }
    }
    faults
}

/// A version as it is counted.
fn number(version: &str) -> Option<u32> {
    let number: u32 = version.parse().ok()?;
    (number > 0 && number.to_string() == version).then_some(number)
}

fn leads_back(upcasters: &[Upcaster], start: TypeVersion) -> bool {
    let (mut seen, mut todo) = (BTreeSet::new(), vec![start]);
    while let Some((event_type, version)) = todo.pop() {
        for upcaster in upcasters.iter().filter(|u| u.reads(event_type, version)) {
            if upcaster.into.contains(&start) {
                return true;
            }
            todo.extend(upcaster.into.iter().filter(|to| seen.insert(**to)));
        }
    }
    false
}

#[cfg(test)]
mod tests;
