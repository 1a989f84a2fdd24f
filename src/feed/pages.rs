//! The log in pages, for readers who keep their own place in it.
//!
//! A place is a [`Cursor`], which names its log: after a restore and `jangbu log fence` the positions of
//! before may mean other events, and whoever went on from one would miss some without ever noticing.

use std::{fmt, str::FromStr};

use jangbu_events::{
    RawEvent,
    event::CURRENT_VERSIONS,
    upcast::{UPCASTERS, stored_types},
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::log::reading;

/// Events that are read at once, so that a page of large ones stays small in memory.
const CHUNK: i64 = 128;
/// A page ends at the first chunk that takes its payloads beyond this many bytes. (One command has up to
/// 8 MiB, and a chunk could have several: pages of this size are the rule, not a guarantee.)
const BYTES_MAX: usize = 1 << 20;
/// Positions that one page looks at for the few of its types. A page of nothing says how far it looked.
const SPAN: i64 = 20_000;

/// A place in a log: everything up to it was seen. Written `<log id>:<position>`, or just the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Which log; `None` if nobody said.
    pub log: Option<Uuid>,
    /// 0 is before every event.
    pub position: i64,
}

impl Cursor {
    /// Before every event, of whichever log.
    pub const START: Self = Self { log: None, position: 0 };

    /// In a log.
    pub const fn new(log: Uuid, position: i64) -> Self {
        Self {
            log: Some(log),
            position,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            Some(log) => write!(f, "{}:{}", log.simple(), self.position),
            None => write!(f, "{}", self.position),
        }
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor as an earlier answer gave it, or a position of the log")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (log, position) = match text.split_once(':') {
            Some((log, position)) => (Some(Uuid::try_parse(log).map_err(|_| CursorError)?), position),
            None => (None, text),
        };
        // Digits alone: the standard parser would take a sign.
        let digits = !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_digit());
        let position = position.parse().ok().filter(|_| digits).ok_or(CursorError)?;
        Ok(Self { log, position })
    }
}

/// The event types that somebody wants; none named is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Types(Vec<&'static str>);

impl Types {
    /// Of the names of types, sorted and each once; or those that are no event's.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<String>> {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            match CURRENT_VERSIONS.iter().find(|(known, _)| *known == name) {
                Some((name, _)) => known.push(*name),
                None => unknown.push(name.to_owned()),
            }
        }
        known.sort_unstable();
        known.dedup();
        if unknown.is_empty() {
            Ok(Self(known))
        } else {
            Err(unknown)
        }
    }

    /// Whether every type is wanted, those of the future too.
    pub const fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// The names.
    pub fn names(&self) -> &[&'static str] {
        &self.0
    }

    /// The names under which the log may have such events: also those that they had before.
    pub fn stored(&self) -> Vec<&'static str> {
        stored_types(UPCASTERS, &self.0)
    }
}

/// Some events of the log, and how far it was looked at for them.
#[derive(Debug)]
pub struct Page {
    /// Which log.
    pub log: Uuid,
    /// The last position there was.
    pub head: i64,
    /// Everything up to here was looked at; the next page begins after it.
    pub through: i64,
    /// In position order.
    pub events: Vec<RawEvent>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The cursor is of another history.
    #[error("the cursor is of another log; this one is {}, and ends at {head}", log.simple())]
    OtherLog {
        /// Which log there is now.
        log: Uuid,
        /// The last position there is.
        head: i64,
    },
    /// The position is not there yet.
    #[error("the log ends at {head}")]
    BeyondHead {
        /// The last position there is.
        head: i64,
    },
    /// The log is damaged.
    #[error("the log has no event at position {position}")]
    Hole {
        /// Where one is missing.
        position: i64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Which log this is, and its last position.
pub async fn log_and_head(db: &PgPool) -> sqlx::Result<(Uuid, i64)> {
    let row =
        sqlx::query!(r#"select log_id, (select coalesce(max(position), 0) from events) as "head!" from log_identity"#)
            .fetch_one(db)
            .await?;
    Ok((row.log_id, row.head))
}

/// Up to `limit` events of some types after a place.
pub async fn page(db: &PgPool, after: Cursor, types: &Types, limit: i64) -> Result<Page, PageError> {
    let (log, head) = log_and_head(db).await?;
    if after.log.is_some_and(|named| named != log) {
        return Err(PageError::OtherLog { log, head });
    }
    if after.position > head {
        return Err(PageError::BeyondHead { head });
    }
    let end = head.min(after.position.saturating_add(if types.is_all() { limit } else { SPAN }));
    let mut page = Page {
        log,
        head,
        through: after.position,
        events: Vec::new(),
    };
    let mut bytes = 0;
    while page.through < end && bytes < BYTES_MAX {
        let missing = limit - i64::try_from(page.events.len()).unwrap_or(i64::MAX);
        let wanted = missing.min(CHUNK);
        if wanted == 0 {
            break;
        }
        let chunk = chunk(db, page.through, end, types, wanted).await?;
        bytes += chunk.iter().map(|event| event.payload.payload.len()).sum::<usize>();
        // As many as there may be: there can be more before the end.
        let is_full = i64::try_from(chunk.len()).is_ok_and(|read| read == wanted);
        page.through = match chunk.last() {
            Some(last) if is_full => last.position,
            _ => end,
        };
        page.events.extend(chunk);
    }
    Ok(page)
}

async fn chunk(db: &PgPool, after: i64, end: i64, types: &Types, wanted: i64) -> Result<Vec<RawEvent>, PageError> {
    if !types.is_all() {
        return Ok(reading::read_types(db, after, end, &types.stored(), wanted).await?);
    }
    let events = reading::read(db, after, wanted.min(end - after)).await?;
    let positions = after + 1..=after + wanted.min(end - after);
    let mut found = events.iter().map(|event| event.position);
    for position in positions {
        if found.next() != Some(position) {
            return Err(PageError::Hole { position });
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_its_text() {
        let log = Uuid::from_u128(0xabc);
        for cursor in [Cursor::new(log, 17), Cursor::START, Cursor { log: None, position: 9 }] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        assert_eq!(Cursor::new(log, 17).to_string(), format!("{}:17", log.simple()));
        for wrong in [
            "",
            ":",
            "x",
            "-1",
            "+1",
            "1:",
            ":1",
            "1:2",
            "99999999999999999999",
            " 1",
            "1.0",
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(CursorError), "{wrong:?}");
        }
    }

    #[test]
    fn only_known_types_are_taken() {
        let types = Types::named(["order.placed", "cart.opened", "order.placed"]).expect("known");
        assert_eq!(types.names(), ["cart.opened", "order.placed"]);
        assert!(Types::named([]).expect("none").is_all());
        assert_eq!(
            Types::named(["order.placed", "order.*", ""]),
            Err(vec!["order.*".to_owned(), String::new()])
        );
    }
}
