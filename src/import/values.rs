//! Reading the values of a row, strictly: a figure that can be read in two ways is refused.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SubsecRound, Utc};
use jangbu_domain::Cart;
use jangbu_events::{
    Money, Sku, Timestamp,
    text::{self, TextError},
};

use super::fault::{Fault, Quoted};

/// The longest note (an attribute, an external reference), in characters.
pub const NOTE_CHARS_MAX: usize = 10_000;

/// One line of text of at most `max` characters.
pub fn line(column: &str, value: &str, max: usize) -> Result<String, Fault> {
    text::line(value, max).map_err(|source| match source {
        TextError::Empty => Fault::Missing {
            column: column.to_owned(),
        },
        source @ (TextError::TooLong { .. } | TextError::Control) => Fault::Text {
            column: column.to_owned(),
            source,
        },
    })
}

/// Any text, on several lines too; blank is empty.
pub fn note<'a>(column: &str, value: &'a str) -> Result<&'a str, Fault> {
    let value = value.trim();
    let text = |source| Fault::Text {
        column: column.to_owned(),
        source,
    };
    if value.len() > NOTE_CHARS_MAX && value.chars().count() > NOTE_CHARS_MAX {
        return Err(text(TextError::TooLong { max: NOTE_CHARS_MAX }));
    }
    if value
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(text(TextError::Control));
    }
    Ok(value)
}

/// Refuses what looks like an e-mail address or a mobile number: the log is for ever.
pub fn not_personal(column: &str, value: &str) -> Result<(), Fault> {
    let address = value
        .split_once('@')
        .is_some_and(|(who, host)| !who.is_empty() && host.contains('.'));
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let mobile =
        value.starts_with("010") && digits == 11 && value.bytes().all(|b| b.is_ascii_digit() || b"- .".contains(&b));
    if address || mobile {
        return Err(Fault::Personal {
            column: column.to_owned(),
        });
    }
    Ok(())
}

/// A sku.
pub fn sku(value: &str) -> Result<Sku, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Err(Fault::Missing { column: "sku".into() });
    }
    value.parse().map_err(|_| Fault::Sku(Quoted::new(value)))
}

/// 1 to 99, as in a cart.
pub fn quantity(value: &str) -> Result<u32, Fault> {
    let value = value.trim();
    whole(value)
        .and_then(|quantity| u32::try_from(quantity).ok())
        .filter(|quantity| (1..=Cart::QUANTITY_MAX).contains(quantity))
        .ok_or_else(|| Fault::Quantity(Quoted::new(value)))
}

/// Whole won.
pub fn price(value: &str) -> Result<Money, Fault> {
    let value = value.trim();
    whole(value)
        .filter(|amount| *amount <= Money::AMOUNT_MAX)
        .map(Money::won)
        .ok_or_else(|| Fault::Price(Quoted::new(value)))
}

/// Digits and nothing else.
fn whole(value: &str) -> Option<i64> {
    value
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| value.parse().ok())
        .flatten()
}

/// A past moment, to the microsecond: the log keeps no more.
pub fn past_time(value: &str, now: Timestamp) -> Result<Timestamp, Fault> {
    let value = value.trim();
    let Ok(time) = DateTime::parse_from_rfc3339(value) else {
        return Err(if is_local_time(value) {
            Fault::TimeWithoutOffset(Quoted::new(value))
        } else {
            Fault::Time(Quoted::new(value))
        });
    };
    let time = time.with_timezone(&Utc).trunc_subsecs(6);
    if time.year() < 1970 {
        return Err(Fault::Time(Quoted::new(value)));
    }
    if time > now {
        return Err(Fault::FutureTime(Quoted::new(value)));
    }
    Ok(time)
}

fn is_local_time(value: &str) -> bool {
    const LOCAL: &[&str] = &[
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    LOCAL
        .iter()
        .any(|format| NaiveDateTime::parse_from_str(value, format).is_ok())
        || NaiveDate::parse_from_str(value, "%Y-%m-%d").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_plain_digits_in_range() {
        assert_eq!(quantity(" 99 "), Ok(99));
        for bad in [
            "",
            "0",
            "100",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "1,0",
            "½",
            "１",
            "99999999999999999999",
        ] {
            assert_eq!(
                quantity(bad).map_err(|fault| fault.code()),
                Err("bad_quantity"),
                "{bad}"
            );
        }
        assert_eq!(price("0"), Ok(Money::ZERO));
        assert_eq!(price("1000000000000"), Ok(Money::won(Money::AMOUNT_MAX)));
        for bad in [
            "",
            "-1",
            "1,000",
            "1000.5",
            "1000.0",
            "1e3",
            "₩1000",
            "1000원",
            "1000000000001",
        ] {
            assert_eq!(price(bad).map_err(|fault| fault.code()), Err("bad_price"), "{bad}");
        }
    }

    #[test]
    fn a_time_says_its_offset_and_is_past() {
        let now = "2020-01-01T00:00:00Z".parse().expect("a time");
        let code = |text: &str| past_time(text, now).map_err(|fault| fault.code());
        assert_eq!(
            past_time("2017-03-01T00:17:09.1234567+09:00", now),
            Ok("2017-02-28T15:17:09.123456Z".parse().expect("a time"))
        );
        assert_eq!(code("2020-01-01T09:00:00+09:00"), Ok(now));
        assert_eq!(code("2020-01-01T00:00:01Z"), Err("future_time"));
        for local in [
            "2017-03-01T00:17:09",
            "2017-03-01 00:17:09.5",
            "2017-03-01 00:17",
            "2017-03-01",
        ] {
            assert_eq!(code(local), Err("time_without_offset"), "{local}");
        }
        for bad in [
            "",
            "yesterday",
            "1488291429",
            "2017-02-30T00:00:00Z",
            "1969-12-31T00:00:00Z",
            "2017-03-01T25:00:00Z",
        ] {
            assert_eq!(code(bad), Err("bad_time"), "{bad}");
        }
    }

    #[test]
    fn notes_keep_their_lines_but_no_control_characters() {
        assert_eq!(note("memo", " two\nlines "), Ok("two\nlines"));
        assert_eq!(note("memo", "\0").map_err(|fault| fault.code()), Err("bad_text"));
        assert!(note("memo", &"가".repeat(NOTE_CHARS_MAX)).is_ok());
        assert!(note("memo", &"가".repeat(NOTE_CHARS_MAX + 1)).is_err());
        assert!(not_personal("memo", "kim@example.com").is_err());
        assert!(not_personal("household_id", "010-1234-5678").is_err());
        for fine in ["2 @ 500", "27", "0101234567", "010-1234-5678-9", "20170301"] {
            assert!(not_personal("memo", fine).is_ok(), "{fine}");
        }
    }
}
