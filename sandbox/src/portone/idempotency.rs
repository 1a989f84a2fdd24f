//! `Idempotency-Key`: the first call with a key has the effect, later ones get its stored answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::errors::{Answer, ApiError};

/// How long an answer is kept: PortOne guarantees three hours.
const KEPT_FOR: TimeDelta = TimeDelta::hours(3);

/// (method, path as sent, key without its quotes).
type Name = (String, String, String);

#[derive(Debug)]
enum Entry {
    Running,
    Done { answer: Answer, at: DateTime<Utc> },
}

/// The stored answers, at most `entries_max` of them.
#[derive(Debug)]
pub(crate) struct IdempotencyStore {
    state: Mutex<State>,
    entries_max: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Arc<Name>, Entry>,
    finished: VecDeque<Arc<Name>>,
}

/// What a call with a key finds.
#[derive(Debug)]
pub(crate) enum Begun {
    /// There is no key: every call has its effect.
    Unkeyed,
    /// The first: do it, then [`Running::finish`].
    First(Running),
    /// Already answered.
    Stored(Answer),
    /// Another one is at it.
    Outstanding,
}

/// The right to have the effect. Dropped unfinished (the call died), it frees the key.
#[derive(Debug)]
pub(crate) struct Running {
    store: Arc<IdempotencyStore>,
    name: Option<Arc<Name>>,
}

impl IdempotencyStore {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            entries_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(self: &Arc<Self>, method: &str, path: &str, key: &str, now: DateTime<Utc>) -> Begun {
        let name = Arc::new((method.to_owned(), path.to_owned(), key.to_owned()));
        let mut state = self.lock();
        match state.entries.get(&name) {
            Some(Entry::Running) => return Begun::Outstanding,
            Some(Entry::Done { answer, at }) if now - *at < KEPT_FOR => return Begun::Stored(answer.clone()),
            // Too old: its name goes from the queue too, or it would throw out the answer that comes now.
            Some(Entry::Done { .. }) => state.finished.retain(|old| *old != name),
            None => {}
        }
        state.entries.insert(Arc::clone(&name), Entry::Running);
        Begun::First(Running {
            store: Arc::clone(self),
            name: Some(name),
        })
    }
}

impl Running {
    /// Stores the answer, which later calls with this key will get.
    pub(crate) fn finish(mut self, answer: &Answer, now: DateTime<Utc>) {
        let Some(name) = self.name.take() else { return };
        let mut state = self.store.lock();
        state.entries.insert(
            Arc::clone(&name),
            Entry::Done {
                answer: answer.clone(),
                at: now,
            },
        );
        state.finished.push_back(name);
        if state.finished.len() > self.store.entries_max
            && let Some(oldest) = state.finished.pop_front()
        {
            state.entries.remove(&oldest);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.store.lock().entries.remove(&name);
        }
    }
}

/// The key inside the header's value. PortOne defines it with double quotes around; without them is let pass.
/// What remains must be 16 to 256 visible ASCII characters.
pub(crate) fn parse_key(header: &[u8]) -> Result<&str, ApiError> {
    let wrong = || ApiError::InvalidRequest("Idempotency-Key must be 16 to 256 visible ASCII characters".to_owned());
    let text = std::str::from_utf8(header).map_err(|_| wrong())?.trim();
    let key = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if is_plain && (16..=256).contains(&key.len()) {
        Ok(key)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use bytes::Bytes;

    use super::*;

    fn answer(text: &'static str) -> Answer {
        Answer {
            status: StatusCode::OK,
            body: Bytes::from_static(text.as_bytes()),
        }
    }

    fn first(begun: Begun) -> Running {
        match begun {
            Begun::First(running) => running,
            other => panic!("expected to be first, got {other:?}"),
        }
    }

    #[test]
    fn a_key_is_taken_while_running_and_then_answers_for_three_hours() {
        let store = Arc::new(IdempotencyStore::new(10));
        let at = DateTime::UNIX_EPOCH;
        let begin = |path: &str, now| store.begin("POST", path, "key-0123456789abc", now);
        let running = first(begin("/a", at));
        assert!(matches!(begin("/a", at), Begun::Outstanding));
        let elsewhere = first(begin("/b", at));
        running.finish(&answer("one"), at);
        assert!(matches!(begin("/a", at + TimeDelta::minutes(179)), Begun::Stored(stored) if stored == answer("one")));
        first(begin("/a", at + TimeDelta::hours(3))).finish(&answer("two"), at + TimeDelta::hours(3));
        drop(elsewhere);
        assert!(
            matches!(begin("/b", at), Begun::First(_)),
            "a call that died must free its key"
        );
    }

    #[test]
    fn the_store_forgets_the_oldest_answer_first() {
        let store = Arc::new(IdempotencyStore::new(2));
        let begin = |path: &str| store.begin("POST", path, "key", DateTime::UNIX_EPOCH);
        for path in ["/1", "/2", "/3"] {
            first(begin(path)).finish(&answer("done"), DateTime::UNIX_EPOCH);
        }
        assert!(matches!(begin("/1"), Begun::First(_)));
        assert!(matches!(begin("/2"), Begun::Stored(_)));
        assert!(matches!(begin("/3"), Begun::Stored(_)));
    }

    #[test]
    fn keys_are_read_with_and_without_their_quotes() {
        assert_eq!(parse_key(b"\"refund-0123456789\""), Ok("refund-0123456789"));
        assert_eq!(parse_key(b"refund-0123456789"), Ok("refund-0123456789"));
        for bad in [
            "",
            "\"\"",
            "short",
            "\"fifteen-letters\"",
            "\"no spaces allowed here\"",
            "한글로된열쇠는안됩니다",
        ] {
            assert!(parse_key(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse_key("k".repeat(257).as_bytes()).is_err());
    }
}
