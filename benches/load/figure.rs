//! Figures with their limits and goals, as a table and as JSON.

use std::{borrow::Cow, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

/// What a figure is held against.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Against {
    /// What was measured for it in the same run.
    pub what: String,
    /// In the figure's unit.
    pub value: u64,
}

/// What would be good enough, in hundredths of the limit or in the figure's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At least so many hundredths of the limit.
    TimesAtLeast(u64),
    /// At most so many hundredths of the limit.
    TimesAtMost(u64),
    /// At least so much.
    AtLeast(u64),
    /// At most so much.
    AtMost(u64),
    /// It is only written down.
    None,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// Its name on the command line.
    pub row: Cow<'static, str>,
    /// What was measured.
    pub measure: String,
    /// The median of the runs.
    pub value: u64,
    /// `us`, `/s` …
    pub unit: Cow<'static, str>,
    /// Each run.
    pub runs: Vec<u64>,
    /// Beside what.
    pub limit: Option<Against>,
    /// What would be good enough.
    pub goal: Goal,
    /// Over all runs.
    pub verdict: Option<Verdict>,
    /// Whatever else was seen.
    pub notes: String,
}

impl Figure {
    /// In hundredths of the limit.
    pub fn times(&self) -> Option<u64> {
        let limit = self.limit.as_ref()?;
        Some(self.value * 100 / limit.value.max(1))
    }

    /// Whether it is good enough; `None` without a goal.
    pub fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::TimesAtLeast(goal) => self.times().map(|times| times >= goal),
            Goal::TimesAtMost(goal) => self.times().map(|times| times <= goal),
            Goal::AtLeast(goal) => Some(self.value >= goal),
            Goal::AtMost(goal) => Some(self.value <= goal),
            Goal::None => None,
        }
    }

    /// Per cent of the goal that was reached: 100 and more is met. `None` without a goal.
    pub fn percent_of_goal(&self) -> Option<u64> {
        match self.goal {
            Goal::TimesAtLeast(goal) => self.times().map(|times| times * 100 / goal.max(1)),
            Goal::TimesAtMost(goal) => self.times().map(|times| goal * 100 / times.max(1)),
            Goal::AtLeast(goal) => Some(self.value * 100 / goal.max(1)),
            Goal::AtMost(goal) => Some(goal * 100 / self.value.max(1)),
            Goal::None => None,
        }
    }

    /// `1.18 x` if it is held against a limit, else `252 /s`.
    pub fn said(&self) -> String {
        match (self.goal, self.times()) {
            (Goal::TimesAtLeast(_) | Goal::TimesAtMost(_), Some(times)) => format!("{} x", hundredths(times)),
            _ => format!("{} {}", thousands(self.value), self.unit),
        }
    }

    fn goal(&self) -> String {
        let text = match self.goal {
            Goal::TimesAtLeast(goal) => format!("≥ {} x", hundredths(goal)),
            Goal::TimesAtMost(goal) => format!("≤ {} x", hundredths(goal)),
            Goal::AtLeast(goal) => format!("≥ {} {}", thousands(goal), self.unit),
            Goal::AtMost(goal) => format!("≤ {} {}", thousands(goal), self.unit),
            Goal::None => return String::new(),
        };
        match self.is_met() {
            Some(true) => format!("{text}: met"),
            _ => format!("{text}: **missed**"),
        }
    }
}

/// A Markdown table.
pub fn table(figures: &[Figure]) -> String {
    let mut table = String::from(
        "| row | measure | figure | limit of the same run | x limit | goal | lost / duplicated / reordered | notes |\n\
         | --- | --- | ---: | ---: | ---: | --- | --- | --- |\n",
    );
    for figure in figures {
        let limit = figure.limit.as_ref().map_or(String::new(), |limit| {
            format!("{} {} ({})", thousands(limit.value), figure.unit, limit.what)
        });
        writeln!(
            table,
            "| {} | {} | {} {} | {limit} | {} | {} | {} | {} |",
            figure.row,
            figure.measure,
            thousands(figure.value),
            figure.unit,
            figure.times().map_or(String::new(), hundredths),
            figure.goal(),
            figure.verdict.map_or(String::new(), |verdict| verdict.to_string()),
            figure.notes,
        )
        .expect("a string takes everything");
    }
    table
}

/// `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.42` for 142.
pub fn hundredths(number: u64) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}
