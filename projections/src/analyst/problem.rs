//! What is wrong with a file, and where: the line is shown with a caret below.

use std::{fmt, ops::Range};

/// One thing that is wrong with a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Of the file, as it was asked for.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The line as it stands in the file, without its end.
    shown: String,
    /// How many characters are marked.
    marked: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            shown,
            marked,
        } = self;
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        let number = line.to_string();
        writeln!(f, "{number} | {shown}")?;
        // Tabs stay tabs and wide letters take two places, so that the caret stands below what it means.
        let before: String = shown.chars().take(column - 1).map(blank).collect();
        let below: usize = shown.chars().skip(column - 1).take(*marked).map(width).sum();
        write!(
            f,
            "{:gap$} | {before}{}",
            "",
            "^".repeat(below.max(1)),
            gap = number.len()
        )
    }
}

impl Problem {
    /// With a file as a whole, that cannot be read for example.
    pub fn with_file(file: &str, message: impl Into<String>) -> Self {
        let source = Source {
            file: file.to_owned(),
            text: String::new(),
        };
        source.problem(0..0, message)
    }

    /// In one line, for logs.
    pub fn brief(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Hangul, kana and Han are two places wide in a terminal.
fn is_wide(letter: char) -> bool {
    matches!(letter, '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FF60}')
}

fn width(letter: char) -> usize {
    if is_wide(letter) { 2 } else { 1 }
}

fn blank(letter: char) -> &'static str {
    match letter {
        '\t' => "\t",
        letter if is_wide(letter) => "  ",
        _ => " ",
    }
}

/// The text of a file and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub file: String,
    pub text: String,
}

impl Source {
    /// A problem with a part of the text; of a part of several lines the first is shown.
    pub fn problem(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let shown = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = span.end.min(line_start + shown.len());
        Problem {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
            shown: shown.to_owned(),
            marked: self.text.get(start..end).map_or(0, |marked| marked.chars().count()),
        }
    }
}

/// The closest of some names, if one is close enough to have been meant.
pub(super) fn meant<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = wrong.chars().count().div_ceil(3).min(4);
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(far, _)| *far <= most)
        .map(|(_, name)| name)
}

/// How many letters must be changed, put in or taken out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_with_a_caret_below() {
        let source = Source {
            file: "a.sql".to_owned(),
            text: "first\r\n\t가격 wrong here\nlast".to_owned(),
        };
        let at = source.text.find("wrong").expect("it is there");
        let problem = source.problem(at..at + 5, "what is this?");
        assert_eq!((problem.line, problem.column), (2, 5));
        assert_eq!(
            problem.to_string(),
            "a.sql:2:5: what is this?\n2 | \t가격 wrong here\n  | \t     ^^^^^"
        );
        assert_eq!(problem.brief(), "a.sql:2:5: what is this?");
        let end = source.problem(source.text.len()..source.text.len() + 9, "more?");
        assert_eq!(end.to_string(), "a.sql:3:5: more?\n3 | last\n  |     ^");
    }

    #[test]
    fn what_was_meant_is_close() {
        let known = ["order.confirmed", "order.cancelled", "order.placed"];
        assert_eq!(meant("order.confirmd", known), Some("order.confirmed"));
        assert_eq!(meant("sale", known), None);
    }
}
