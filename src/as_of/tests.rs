use chrono::FixedOffset;
use jangbu_projections::korea;
use proptest::prelude::*;

use super::*;

fn time_of(text: &str) -> Timestamp {
    match text.parse() {
        Ok(AsOf::Time(time)) => time,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_moment_is_a_position_a_day_in_korea_or_a_time() {
    assert_eq!("0".parse(), Ok(AsOf::Position(0)));
    assert_eq!("1234".parse(), Ok(AsOf::Position(1_234)));
    // Eight digits are a position as well, not a day.
    assert_eq!("20260801".parse(), Ok(AsOf::Position(20_260_801)));
    assert_eq!("99999999999999999999".parse(), Ok(AsOf::Position(i64::MAX)));
    let end_of_july = "2026-07-31T14:59:59.999999Z".parse().expect("a time");
    assert_eq!("2026-07-31".parse(), Ok(AsOf::Time(end_of_july)));
    let midnight: Timestamp = "2026-07-31T15:00:00Z".parse().expect("a time");
    for text in [
        "2026-08-01T00:00:00+09:00",
        "2026-07-31T15:00:00Z",
        "2026-07-31t15:00:00.000z",
        "2026-08-01 00:00:00+09:00",
        // As an address gives it that was not escaped.
        "2026-08-01T00:00:00 09:00",
        "2026-07-31T10:00:00-05:00",
    ] {
        assert_eq!(time_of(text), midnight, "{text}");
    }
}

#[test]
fn what_names_no_moment_is_told_why() {
    for (text, error) in [
        ("", AsOfError::Unreadable),
        ("-1", AsOfError::Negative),
        ("-99999999999999999999", AsOfError::Negative),
        ("-", AsOfError::Unreadable),
        ("+5", AsOfError::Unreadable),
        (" 5", AsOfError::Unreadable),
        ("5 ", AsOfError::Unreadable),
        ("1.5", AsOfError::Unreadable),
        ("１２", AsOfError::Unreadable),
        ("2026-02-30", AsOfError::Unreadable),
        ("2026-8-1", AsOfError::Unreadable),
        ("2026-08- 1", AsOfError::Unreadable),
        ("2026-08-01T00:00:00", AsOfError::NoOffset),
        ("2026-08-01T24:00:00Z", AsOfError::Unreadable),
        ("2026-08-01T00:00Z", AsOfError::Unreadable),
        ("어제", AsOfError::Unreadable),
        ("어제 오늘 내일", AsOfError::Unreadable),
        ("yesterday", AsOfError::Unreadable),
        ("now'; drop table events --", AsOfError::Unreadable),
        ("1\0", AsOfError::Unreadable),
    ] {
        assert_eq!(text.parse::<AsOf>(), Err(error), "{text:?}");
    }
}

/// Whole microseconds between the years 1 and 9999.
fn any_time() -> impl Strategy<Value = Timestamp> {
    (-62_000_000_000_000_000..253_000_000_000_000_000_i64)
        .prop_map(|micros| DateTime::from_timestamp_micros(micros).expect("in range"))
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in any::<String>()) {
        _ = text.parse::<AsOf>();
    }

    #[test]
    fn no_text_of_the_right_letters_is_too_strange(text in "[-+ 0-9TZ:.]{0,32}") {
        _ = text.parse::<AsOf>();
    }

    #[test]
    fn every_position_is_read_as_it_is_written(position in 0..=i64::MAX) {
        prop_assert_eq!(position.to_string().parse(), Ok(AsOf::Position(position)));
    }

    #[test]
    fn every_time_is_read_as_it_is_written(time in any_time(), minutes in -14 * 60..=14 * 60_i32) {
        let offset = FixedOffset::east_opt(minutes * 60).expect("an offset");
        let written = time.with_timezone(&offset).to_rfc3339();
        prop_assert_eq!(written.parse(), Ok(AsOf::Time(time)));
        prop_assert_eq!(written.replace('+', " ").parse(), Ok(AsOf::Time(time)));
    }

    #[test]
    fn a_day_holds_its_own_moments_and_none_of_the_next(time in any_time()) {
        let end = time_of(&korea::day_of(time).to_string());
        prop_assert!(time <= end);
        prop_assert_eq!(korea::day_of(end), korea::day_of(time));
        prop_assert_ne!(korea::day_of(end + TimeDelta::microseconds(1)), korea::day_of(time));
    }
}
