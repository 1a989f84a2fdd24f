//! What an import says while it runs and when it is done.

use std::{
    fmt::Write as _,
    io::IsTerminal,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jangbu_events::Money;
use serde::Serialize;
use tokio::time::Instant;

use super::flow::Done;

/// Where nobody watches a bar, a line is written this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Products.
    Products,
    /// Past orders.
    Orders,
}

/// What an import did. `read = imported + unchanged + revised + rejected`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was imported.
    pub kind: Kind,
    /// Rows of the file, without the header.
    pub rows: u64,
    /// Products or baskets that were read.
    pub read: u64,
    /// Newly in the log.
    pub imported: u64,
    /// Were in the log already: nothing was done.
    pub unchanged: u64,
    /// Products whose name or price was brought up to date, or that were drafts and are published.
    pub revised: u64,
    /// Products or baskets that were not imported; the reasons are in the rejects file.
    pub rejected: u64,
    /// Products whose attributes in the file differ from the catalog's, which stay as registered.
    pub attributes_kept: u64,
    /// What the newly imported orders come to, in won.
    pub total_krw: i128,
    /// Whether it was stopped before the end of the file. The same command goes on.
    pub stopped: bool,
    /// How long it took.
    pub seconds: f64,
    /// Every row that was not imported, if there is one.
    pub rejects_file: Option<PathBuf>,
}

impl Report {
    /// Nothing yet.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            rows: 0,
            read: 0,
            imported: 0,
            unchanged: 0,
            revised: 0,
            rejected: 0,
            attributes_kept: 0,
            total_krw: 0,
            stopped: false,
            seconds: 0.0,
            rejects_file: None,
        }
    }

    pub(super) fn count(&mut self, rows: u64, items: u64, done: &Done) {
        self.rows += rows;
        self.read += items;
        self.imported += done.imported;
        self.unchanged += done.unchanged;
        self.revised += done.revised;
        self.rejected += done.rejected;
        self.attributes_kept += done.attributes_kept;
        self.total_krw += done.total_krw;
    }

    /// For people: Korean first, then English.
    pub fn summary(&self) -> String {
        let (korean, unit, english) = match self.kind {
            Kind::Products => ("상품", "개", "products"),
            Kind::Orders => ("주문", "건", "orders"),
        };
        let n = |count: u64| grouped(i128::from(count));
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("a string takes text");
        let (imported, unchanged, rejected) = (n(self.imported), n(self.unchanged), n(self.rejected));
        let (revised_ko, revised_en) = match self.kind {
            Kind::Products => (
                format!(", 수정 {}", n(self.revised)),
                format!(", {} revised", n(self.revised)),
            ),
            Kind::Orders => (String::new(), String::new()),
        };
        let total = match self.kind {
            Kind::Products => String::new(),
            Kind::Orders => format!(", {}원", grouped(self.total_krw)),
        };
        line(format_args!(
            "{korean} {imported}{unit} 가져옴{total}{revised_ko}, 그대로 {unchanged}, 거절 {rejected}"
        ));
        line(format_args!(
            "{imported} {english} imported{total}{revised_en}, {unchanged} unchanged, {rejected} rejected \
             ({} rows in {:.1} s)",
            n(self.rows),
            self.seconds
        ));
        if self.attributes_kept > 0 {
            line(format_args!(
                "속성은 등록 때 그대로 둠 / attributes stay as registered: {}",
                n(self.attributes_kept)
            ));
        }
        if let Some(file) = &self.rejects_file {
            line(format_args!("거절된 행 / rejected rows: {}", file.display()));
        }
        if self.stopped {
            line(format_args!(
                "중단됨: 같은 명령으로 이어짐 / stopped: the same command goes on"
            ));
        }
        text
    }
}

/// Writes the report to stdout: for people, or as one JSON object.
pub fn print(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::to_string(report).expect("a report is JSON"));
    } else {
        print!("{}", report.summary());
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Finding out which rows belong together.
    Reading,
    /// Appending to the log.
    Importing(Kind),
}

/// Is told how far an import is.
pub trait Progress: Send + Sync {
    /// A phase begins, of a file of so many bytes.
    fn start(&self, phase: Phase, bytes: u64);
    /// So many bytes of it are done, and so many products or baskets in all.
    fn advance(&self, bytes: u64, items: u64);
    /// The phase is over.
    fn finish(&self);
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: Phase, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
    fn finish(&self) {}
}

/// Draws a bar with rate and time left on stderr, or writes a line now and then where stderr is no
/// terminal.
#[derive(Default)]
pub struct Console(Mutex<Option<Drawn>>);

struct Drawn {
    bar: ProgressBar,
    phase: Phase,
    started: Instant,
    said: Instant,
    terminal: bool,
    bytes: u64,
}

impl Progress for Console {
    fn start(&self, phase: Phase, bytes: u64) {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {msg} {eta} left");
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        bar.set_prefix(phase.name());
        let now = Instant::now();
        let drawn = Drawn {
            bar,
            phase,
            started: now,
            said: now,
            terminal,
            bytes,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(drawn);
    }

    fn advance(&self, bytes: u64, items: u64) {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(drawn) = &mut *drawn else { return };
        let elapsed = drawn.started.elapsed();
        let rate = rate(items, elapsed);
        let message = match drawn.phase {
            Phase::Reading => String::new(),
            Phase::Importing(_) => format!("{} · {}/s ·", grouped(items.into()), grouped(rate.into())),
        };
        if drawn.terminal {
            drawn.bar.set_message(message);
            drawn.bar.set_position(bytes);
        } else if drawn.said.elapsed() >= LINE_EVERY {
            drawn.said = Instant::now();
            let percent = (bytes * 100).checked_div(drawn.bytes).unwrap_or(100);
            let left = rate_left(bytes, drawn.bytes, elapsed);
            eprintln!("{} {percent}% {message} {left} s left", drawn.phase.name());
        }
    }

    fn finish(&self) {
        let drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawn) = drawn {
            drawn.bar.finish_and_clear();
        }
    }
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Importing(Kind::Products) => "products",
            Self::Importing(Kind::Orders) => "orders",
        }
    }
}

/// Per second.
fn rate(items: u64, elapsed: Duration) -> u64 {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    items.saturating_mul(1_000) / elapsed_ms
}

/// Seconds, at the rate so far.
fn rate_left(bytes: u64, of: u64, elapsed: Duration) -> u64 {
    let left = of.saturating_sub(bytes);
    left.checked_div(rate(bytes, elapsed)).unwrap_or(0)
}

fn grouped(number: i128) -> String {
    let won = Money::won(i64::try_from(number).unwrap_or(i64::MAX)).to_string();
    won.trim_end_matches('원').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_well_in_both_languages() {
        let report = Report {
            rows: 5_745,
            read: 609,
            imported: 607,
            rejected: 2,
            total_krw: 21_774_230,
            rejects_file: Some("orders.csv.rejects.csv".into()),
            ..Report::new(Kind::Orders)
        };
        assert_eq!(
            report.summary(),
            "주문 607건 가져옴, 21,774,230원, 그대로 0, 거절 2\n\
             607 orders imported, 21,774,230원, 0 unchanged, 2 rejected (5,745 rows in 0.0 s)\n\
             거절된 행 / rejected rows: orders.csv.rejects.csv\n"
        );
        let json = serde_json::to_value(&report).expect("a report is JSON");
        assert_eq!(json["kind"], "orders");
        assert_eq!(json["total_krw"], 21_774_230);
    }

    #[test]
    fn time_left_follows_the_rate() {
        assert_eq!(rate(1_000, Duration::from_millis(500)), 2_000);
        assert_eq!(rate_left(1_000, 4_000, Duration::from_secs(1)), 3);
        assert_eq!(rate_left(0, 4_000, Duration::from_secs(1)), 0);
    }
}
