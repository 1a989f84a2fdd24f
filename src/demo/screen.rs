//! What a person reads: short lines in Korean and English, colour only on a terminal.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use jangbu_events::RawEvent;
use tokio::sync::watch;

use crate::{clock::korean_time, log::Log};

/// Events read at once.
const BATCH: i64 = 500;
/// Looked for without being told, as words between processes may be missed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Standard output. A reader that goes away ends nothing.
pub(super) struct Screen {
    colours: bool,
    steps: u32,
}

impl Screen {
    pub(super) fn on_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self {
            colours: wanted && std::io::stdout().is_terminal(),
            steps: 0,
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn line(text: &str) {
        let mut out = std::io::stdout().lock();
        // Whoever closed the pipe does not want to read it.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    pub(super) fn title(&self, korean: &str, english: &str) {
        Self::line(&self.painted("1", &format!("{korean} · {english}")));
    }

    /// A new part, numbered from 0: the start comes before the first step of a buyer.
    pub(super) fn step(&mut self, korean: &str, english: &str) {
        Self::line("");
        let number = self.steps;
        Self::line(&self.painted("1;36", &format!("{number}  {korean} · {english}")));
        self.steps += 1;
    }

    /// A heading without a number.
    pub(super) fn heading(&self, korean: &str, english: &str) {
        Self::line("");
        Self::line(&self.painted("1;36", &format!("{korean} · {english}")));
    }

    pub(super) fn fact(&self, korean: &str, english: &str, value: &str) {
        Self::line(&format!(
            "   {} {value}",
            self.painted("36", &padded(&format!("{korean} {english}"), 20))
        ));
    }

    pub(super) fn note(&self, text: &str) {
        Self::line(&self.painted("2", &format!("   {text}")));
    }

    /// A call and how it was answered.
    pub(super) fn call(&self, call: &str, status: u16) {
        Self::line(&format!("   {call} {}", self.painted("32", &format!("-> {status}"))));
    }

    pub(super) fn good(&self, text: &str) {
        Self::line(&self.painted("1;32", text));
    }

    /// `#31  22:13:05  order.placed  ord_…5d6e7f80`, in Korean time.
    pub(super) fn event(&self, event: &RawEvent) {
        let at = korean_time(event.recorded_at).format("%H:%M:%S");
        let mut line = format!("   {} ", self.painted("2", &format!("#{:<5} {at}", event.position)));
        let kind = padded(&event.payload.event_type, 28);
        write!(line, " {} {}", self.painted("33", &kind), short(&event.aggregate_id)).expect("a string takes text");
        Self::line(&line);
    }
}

/// The end of an id is what tells it from others made in the same second.
fn short(id: &str) -> String {
    match id.split_once('_') {
        Some((prefix, digits)) if digits.len() > 8 => format!("{prefix}_…{}", &digits[digits.len() - 8..]),
        _ => id.to_owned(),
    }
}

/// Filled up to so many columns; Korean letters take two.
pub(super) fn padded(text: &str, columns: usize) -> String {
    let taken: usize = text
        .chars()
        .map(|letter| if letter >= '\u{1100}' { 2 } else { 1 })
        .sum();
    format!("{text}{}", " ".repeat(columns.saturating_sub(taken)))
}

/// `459,000원`.
pub(super) fn won(amount: i64) -> String {
    let digits = amount.unsigned_abs().to_string();
    let mut text = if amount < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text.push('원');
    text
}

/// Reads the log on, event by event.
pub(super) struct Follower {
    log: Log,
    head: watch::Receiver<i64>,
    position: i64,
}

impl Follower {
    pub(super) async fn from_head(log: &Log) -> sqlx::Result<Self> {
        let head = log.watch();
        Ok(Self {
            log: log.clone(),
            head,
            position: log.head().await?.position,
        })
    }

    /// What is new, without waiting.
    pub(super) async fn news(&mut self) -> sqlx::Result<Vec<RawEvent>> {
        let events = self.log.read(self.position, BATCH).await?;
        self.position = events.last().map_or(self.position, |last| last.position);
        Ok(events)
    }

    /// The next events, however long it takes.
    pub(super) async fn wait(&mut self) -> sqlx::Result<Vec<RawEvent>> {
        loop {
            let events = self.news().await?;
            if !events.is_empty() {
                return Ok(events);
            }
            // Told or not, the log itself is asked.
            let _ = tokio::time::timeout(LOOK_EVERY, self.head.changed()).await;
        }
    }

    /// How far it has read.
    pub(super) const fn position(&self) -> i64 {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn korean_letters_take_two_columns() {
        assert_eq!(padded("골프공", 8), "골프공  ");
        assert_eq!(padded("a골", 2), "a골");
    }

    #[test]
    fn won_are_grouped_by_thousands() {
        let shown: Vec<String> = [0, 999, 1_000, 459_000, -1_234_567].into_iter().map(won).collect();
        assert_eq!(shown, ["0원", "999원", "1,000원", "459,000원", "-1,234,567원"]);
    }

    #[test]
    fn ids_are_shown_by_their_end() {
        assert_eq!(short("ord_8c1f0a2b3d4e5f60718293a4b5c6d7e8"), "ord_…b5c6d7e8");
        assert_eq!(short("sales"), "sales");
    }
}
