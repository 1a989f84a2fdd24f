//! Business days: Korea has kept to nine hours before UTC, without summer time, since 1988. Older
//! orders are counted the same way, so that a day has 24 hours in every table and every year.

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveTime};
use jangbu_events::Timestamp;

const OFFSET_SECONDS: i32 = 9 * 60 * 60;

/// `+09:00`.
pub fn offset() -> FixedOffset {
    FixedOffset::east_opt(OFFSET_SECONDS).expect("nine hours are an offset")
}

/// The day in Korea on which a moment falls.
pub fn day_of(moment: Timestamp) -> NaiveDate {
    moment.with_timezone(&offset()).date_naive()
}

/// Begins the hour in which a moment falls; the same hour in Korea and in UTC.
pub fn hour_of(moment: Timestamp) -> Timestamp {
    let seconds = moment.timestamp();
    DateTime::from_timestamp(seconds - seconds.rem_euclid(3_600), 0).expect("the hour of a moment is a moment")
}

/// A range of days in Korea, both ends included. Days that no shop has seen (before the year 1, after
/// 9999) count as the first or last that PostgreSQL can hold with certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRange {
    /// The first day.
    pub from: NaiveDate,
    /// The last day; a range that ends before it begins is empty.
    pub to: NaiveDate,
}

impl DayRange {
    /// Both ends, brought into the years 1 to 9999.
    pub fn new(from: NaiveDate, to: NaiveDate) -> Self {
        Self {
            from: clamp(from),
            to: clamp(to),
        }
    }

    /// The first moment inside.
    pub fn begins(&self) -> Timestamp {
        midnight(self.from)
    }

    /// The first moment after.
    pub fn ends(&self) -> Timestamp {
        midnight(self.to + Days::new(1))
    }
}

fn clamp(day: NaiveDate) -> NaiveDate {
    let year = day.year().clamp(1, 9_999);
    if year == day.year() {
        return day;
    }
    let (month, day_of_month) = if year == 1 { (1, 1) } else { (12, 31) };
    NaiveDate::from_ymd_opt(year, month, day_of_month).expect("the ends of a year are days")
}

fn midnight(day: NaiveDate) -> Timestamp {
    day.and_time(NaiveTime::MIN)
        .and_local_timezone(offset())
        .single()
        .expect("a fixed offset has every time once")
        .to_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn a_day_begins_at_midnight_in_korea() {
        assert_eq!(day_of(moment("2026-03-01T14:59:59.999999Z")), day("2026-03-01"));
        assert_eq!(day_of(moment("2026-03-01T15:00:00Z")), day("2026-03-02"));
        let march_second = DayRange::new(day("2026-03-02"), day("2026-03-02"));
        assert_eq!(march_second.begins(), moment("2026-03-01T15:00:00Z"));
        assert_eq!(march_second.ends(), moment("2026-03-02T15:00:00Z"));
    }

    #[test]
    fn an_hour_is_cut_down_before_1970_too() {
        assert_eq!(hour_of(moment("2026-03-02T04:05:06Z")), moment("2026-03-02T04:00:00Z"));
        assert_eq!(hour_of(moment("1969-12-31T23:59:59Z")), moment("1969-12-31T23:00:00Z"));
    }

    #[test]
    fn days_beyond_all_calendars_are_brought_back() {
        let all = DayRange::new(NaiveDate::MIN, NaiveDate::MAX);
        assert_eq!((all.from, all.to), (day("0001-01-01"), day("9999-12-31")));
        assert_eq!(all.ends(), moment("9999-12-31T15:00:00Z"));
    }
}
