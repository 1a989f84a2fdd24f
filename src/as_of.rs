//! As of: a moment of the past, as people name it, and the place in the log that it comes to.
//!
//! `recorded_at` never runs backwards along positions, so a moment is a position: that of the last
//! event which had been recorded by then. It is resolved once, and the position is told with the
//! answer, since what comes after it can never change what is before it.

#[cfg(test)]
mod tests;

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use jangbu_events::Timestamp;
use jangbu_projections::korea::DayRange;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sqlx::PgExecutor;

use crate::clock::korean_time;

/// A moment of the past, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Right after the event at this position; 0 is before every event.
    Position(i64),
    /// Everything that had been recorded at this time or before.
    Time(Timestamp),
}

/// A place in the log that was reached: what an answer rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Everything up to here counts; 0 is before every event.
    pub position: i64,
    /// When the log learnt the event there, told in Korean time; `None` before every event.
    #[serde(serialize_with = "in_korea")]
    pub recorded_at: Option<Timestamp>,
}

/// To the microsecond: sent back, it means the same event.
pub fn exactly(at: Timestamp) -> String {
    korean_time(at).to_rfc3339_opts(SecondsFormat::Micros, false)
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn in_korea<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(exactly).serialize(serializer)
}

/// A text that names no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AsOfError {
    /// Below zero.
    #[error("a position is 0 or more")]
    Negative,
    /// A time of day that may be meant in Korea or elsewhere.
    #[error("a time says how far it is from UTC: 2026-08-01T00:00:00+09:00, or ending in Z")]
    NoOffset,
    /// Anything else.
    #[error(
        "must be a position of the log (1234), a time (2026-08-01T00:00:00+09:00) or a day in Korea (2026-08-01, \
         meaning its end)"
    )]
    Unreadable,
}

/// Why a moment comes to no position.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The log is not that long.
    #[error("the log ends at position {head}")]
    BeyondHead {
        /// Its last position.
        head: i64,
    },
    /// What will have been recorded by then is not known yet.
    #[error("that time has not come yet")]
    Future,
    /// The log lacks a position: it is damaged, and its past cannot be told.
    #[error("the log lacks the position {position}")]
    Hole {
        /// Which.
        position: i64,
    },
    /// The database did not answer.
    #[error(transparent)]
    Unavailable(#[from] sqlx::Error),
}

impl FromStr for AsOf {
    type Err = AsOfError;

    /// Digits are a position. `YYYY-MM-DD` is the end of that day in Korea. Everything else is a time
    /// as in RFC 3339; its `+` may have become a space, which happens to those in an address that is
    /// not escaped.
    fn from_str(text: &str) -> Result<Self, AsOfError> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits(text) {
            // However many digits: no log is that long, which is said when it is looked up.
            return Ok(Self::Position(text.parse().unwrap_or(i64::MAX)));
        }
        if text.strip_prefix('-').is_some_and(digits) {
            return Err(AsOfError::Negative);
        }
        // Chrono would also take `2026-8-1` and `2026-08- 1`.
        if text.len() == "2026-08-01".len() && text.starts_with(|c: char| c.is_ascii_digit()) {
            let day: NaiveDate = text.parse().map_err(|_| AsOfError::Unreadable)?;
            if day.to_string() != text {
                return Err(AsOfError::Unreadable);
            }
            // The database counts in microseconds: the last one of the day.
            return Ok(Self::Time(DayRange::new(day, day).ends() - TimeDelta::microseconds(1)));
        }
        time(text).map(Self::Time)
    }
}

fn time(text: &str) -> Result<Timestamp, AsOfError> {
    let offset_at = text.len().checked_sub("+09:00".len());
    let restored = match offset_at.and_then(|at| text.split_at_checked(at)) {
        Some((time, offset)) if offset.starts_with(' ') => format!("{time}+{}", &offset[1..]),
        Some(_) | None => text.to_owned(),
    };
    if let Ok(time) = DateTime::parse_from_rfc3339(&restored) {
        return Ok(time.to_utc());
    }
    let would_do = DateTime::parse_from_rfc3339(&format!("{text}Z")).is_ok();
    Err(if would_do {
        AsOfError::NoOffset
    } else {
        AsOfError::Unreadable
    })
}

impl<'de> Deserialize<'de> for AsOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl AsOf {
    /// Finds its position. A time that has not come yet, by `now` and by the log itself, has none; one
    /// that has is settled once anything was recorded after it.
    pub async fn resolve(self, db: impl PgExecutor<'_>, now: Timestamp) -> Result<Moment, ResolveError> {
        match self {
            Self::Position(position) => at(db, position).await,
            Self::Time(time) => before(db, time, now).await,
        }
    }
}

async fn at(db: impl PgExecutor<'_>, position: i64) -> Result<Moment, ResolveError> {
    let found = sqlx::query!(
        r#"select coalesce((select max(position) from events), 0) as "head!",
             (select recorded_at from events where position = $1) as recorded_at"#,
        position
    )
    .fetch_one(db)
    .await?;
    if position > found.head {
        return Err(ResolveError::BeyondHead { head: found.head });
    }
    if position > 0 && found.recorded_at.is_none() {
        return Err(ResolveError::Hole { position });
    }
    Ok(Moment {
        position,
        recorded_at: found.recorded_at,
    })
}

/// Halves the log until one position is left. The primary key is all it needs: every step is one look
/// into it, and a log of 2^30 events takes 30. An index on `recorded_at` would cost every append.
async fn before(db: impl PgExecutor<'_>, time: Timestamp, now: Timestamp) -> Result<Moment, ResolveError> {
    // `limit 1` keeps the planner from joining the whole log instead.
    let found = sqlx::query!(
        r#"with recursive search (low, high) as (
             select 0::bigint, coalesce((select max(position) from events), 0)
             union all
             select case when event.recorded_at <= $1 then middle.position else low end,
               case when event.recorded_at <= $1 then high else middle.position - 1 end
             from search
             cross join lateral (select (low + high + 1) / 2) as middle (position)
             cross join lateral (
               select recorded_at from events where position = middle.position limit 1) as event
             where low < high)
           select high as "high!", low as "low!",
             (select recorded_at from events where position = low) as recorded_at,
             (select recorded_at from events order by position desc limit 1) as head_recorded_at
           from search
           order by high - low
           limit 1"#,
        time
    )
    .fetch_one(db)
    .await?;
    if found.low != found.high {
        // The search ended early, at a position that is not there.
        return Err(ResolveError::Hole {
            position: i64::midpoint(found.low, found.high + 1),
        });
    }
    // The clock of whoever recorded last may be ahead of ours.
    if time > now && found.head_recorded_at.is_none_or(|head| time > head) {
        return Err(ResolveError::Future);
    }
    Ok(Moment {
        position: found.low,
        recorded_at: found.recorded_at,
    })
}
