//! From a text to its parts: the header, the tables, and what is done on which event.

use std::ops::Range;

use jangbu_events::event::CURRENT_VERSIONS;

use super::{
    lexer::{Kind, Token, tokens},
    problem::{Problem, Source, meant},
    shape,
};

/// Longer names would make names of schemas and roles that PostgreSQL cuts off.
pub(super) const NAME_MAX: usize = 32;
const KEYS: [&str; 3] = ["projection", "version", "description"];

/// A file, cut into its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub name: String,
    pub version: i32,
    pub description: String,
    /// What stands before the first section.
    pub tables: Vec<Statement>,
    pub sections: Vec<Section>,
}

/// What is done on one type of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub event_type: &'static str,
    /// Where its heading is.
    pub heading: Range<usize>,
    pub statements: Vec<Statement>,
}

/// One statement, without the semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Without comments; never empty.
    pub tokens: Vec<Token>,
}

impl Statement {
    pub fn span(&self) -> Range<usize> {
        let start = self.tokens.first().map_or(0, |token| token.span.start);
        start..self.tokens.last().map_or(start, |token| token.span.end)
    }

    /// The first line's worth of it, to point at.
    pub fn start(&self) -> Range<usize> {
        self.tokens.first().map_or(0..0, |token| token.span.clone())
    }
}

/// Reads the parts of a file, and everything that is wrong with how they are put together. `stem` is
/// what the file is called without `.sql`.
pub(super) fn parse(source: &Source, stem: Option<&str>) -> (Parsed, Vec<Problem>) {
    let mut parser = Parser {
        source,
        problems: Vec::new(),
        parsed: Parsed {
            name: String::new(),
            version: 0,
            description: String::new(),
            tables: Vec::new(),
            sections: Vec::new(),
        },
        open: Some(0),
    };
    let tokens = tokens(&source.text);
    parser.header(&tokens, stem);
    parser.statements(tokens);
    if parser.parsed.tables.is_empty() {
        parser.wrong(
            0..0,
            "there is no table: `create table … (…);` stands before the first `-- on …`",
        );
    }
    if parser.parsed.sections.is_empty() && parser.open.is_some() {
        let end = source.text.trim_end().len();
        parser.wrong(
            end..end,
            "nothing is done on any event: write `-- on order.confirmed` and statements below it",
        );
    }
    (parser.parsed, parser.problems)
}

struct Parser<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    parsed: Parsed,
    /// How many sections, the last ones, statements are of; none below a heading that is wrong.
    open: Option<usize>,
}

impl Parser<'_> {
    fn wrong(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(self.source.problem(span, message));
    }

    /// The comments before anything else: `-- key: value`.
    fn header(&mut self, tokens: &[Token], stem: Option<&str>) {
        let mut seen: Vec<&str> = Vec::new();
        let comments = tokens.iter().take_while(|token| token.kind == Kind::Comment);
        for comment in comments {
            let text = comment.text(&self.source.text);
            let Some((key, value)) = text.strip_prefix("--").and_then(|text| text.split_once(':')) else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            let span = comment.span.clone();
            if seen.contains(&key) {
                self.wrong(span, format!("`{key}:` is said twice"));
                continue;
            }
            match key {
                "projection" => self.name(span, value, stem),
                "version" => match value.parse() {
                    Ok(version @ 1..=1_000_000) => self.parsed.version = version,
                    _ => self.wrong(span, "a version is a whole number from 1, raised with every change"),
                },
                "description" => value.clone_into(&mut self.parsed.description),
                other => {
                    if let Some(key) = meant(other, KEYS)
                        && !other.contains(' ')
                    {
                        self.wrong(span, format!("did you mean `-- {key}:`?"));
                    }
                    continue;
                }
            }
            seen.extend(KEYS.iter().find(|known| **known == key));
        }
        for (key, example) in [("projection", stem.unwrap_or("repeat_purchase")), ("version", "1")] {
            if !seen.contains(&key) {
                self.wrong(0..0, format!("the file does not begin with `-- {key}: {example}`"));
            }
        }
    }

    fn name(&mut self, span: Range<usize>, name: &str, stem: Option<&str>) {
        let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if name.len() > NAME_MAX || !letters || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            self.wrong(
                span,
                format!("a projection is called by 1 to {NAME_MAX} of a-z _, and begins with a letter"),
            );
        } else if crate::built_in().iter().any(|known| known.name == name) {
            self.wrong(
                span,
                format!("{name} is a projection of Jangbu's own; choose another name"),
            );
        } else if stem.is_some_and(|stem| stem != name) {
            self.wrong(
                span,
                format!("the projection {name} stands in a file that is called {name}.sql"),
            );
        } else {
            name.clone_into(&mut self.parsed.name);
        }
    }

    fn statements(&mut self, tokens: Vec<Token>) {
        let mut statement: Vec<Token> = Vec::new();
        let mut depth: Vec<Token> = Vec::new();
        for token in tokens {
            match token.kind {
                Kind::Comment => {
                    let Some(headings) = headings(token.text(&self.source.text)) else {
                        continue;
                    };
                    if !statement.is_empty() {
                        let start = statement[0].span.clone();
                        self.wrong(start, "this statement does not end with ; before the next `-- on …`");
                        self.keep(std::mem::take(&mut statement));
                        depth.clear();
                    }
                    self.sections(&token.span, &headings);
                    continue;
                }
                Kind::Refused(why) => {
                    self.wrong(token.span.clone(), why);
                    continue;
                }
                Kind::Symbol => match token.text(&self.source.text) {
                    "(" | "[" => depth.push(token.clone()),
                    closing @ (")" | "]") => {
                        let opened = depth.pop();
                        let opening = if closing == ")" { "(" } else { "[" };
                        if opened.is_none_or(|opened| opened.text(&self.source.text) != opening) {
                            self.wrong(token.span.clone(), format!("there is no {opening} to this {closing}"));
                        }
                    }
                    ";" => {
                        if let Some(open) = depth.first() {
                            self.wrong(open.span.clone(), "this is not closed before the statement ends");
                        }
                        depth.clear();
                        self.keep(std::mem::take(&mut statement));
                        continue;
                    }
                    _ => {}
                },
                Kind::Word | Kind::Quoted | Kind::Text | Kind::Number | Kind::Parameter => {}
            }
            statement.push(token);
        }
        if let Some(open) = depth.first() {
            self.wrong(open.span.clone(), "this is not closed");
        }
        self.keep(statement);
    }

    fn keep(&mut self, tokens: Vec<Token>) {
        let (false, Some(open)) = (tokens.is_empty(), self.open) else {
            return;
        };
        let statement = Statement { tokens };
        if open == 0 {
            self.parsed.tables.push(statement);
            return;
        }
        for section in self.parsed.sections.iter_mut().rev().take(open) {
            section.statements.push(statement.clone());
        }
    }

    /// What follows is done on each of these types.
    fn sections(&mut self, span: &Range<usize>, headings: &[Heading<'_>]) {
        self.open = None;
        let before = self.parsed.sections.len();
        for heading in headings {
            self.section(span.clone(), heading);
        }
        let opened = self.parsed.sections.len() - before;
        self.open = Some(opened).filter(|opened| *opened > 0);
    }

    fn section(&mut self, span: Range<usize>, heading: &Heading<'_>) {
        let known = || CURRENT_VERSIONS.iter().map(|(known, _)| *known);
        let Some(event_type) = known().find(|known| *known == heading.event_type) else {
            let hint = meant(heading.event_type, known()).map_or_else(
                || "`jangbu sql events` lists them".to_owned(),
                |meant| format!("did you mean {meant}?"),
            );
            return self.wrong(span, format!("there is no event {}; {hint}", heading.event_type));
        };
        if self
            .parsed
            .sections
            .iter()
            .any(|section| section.event_type == event_type)
        {
            return self.wrong(
                span,
                format!("`-- on {event_type}` stands above already; put the statements there"),
            );
        }
        let current = shape::version(event_type).unwrap_or_default();
        if let Some(version) = heading.version
            && version != current
        {
            return self.wrong(
                span,
                format!(
                    "{event_type} has version {current} here: see what changed, write v{current}, and raise `-- version:`"
                ),
            );
        }
        self.parsed.sections.push(Section {
            event_type,
            heading: span,
            statements: Vec::new(),
        });
    }
}

struct Heading<'a> {
    event_type: &'a str,
    version: Option<&'a str>,
}

/// `-- on order.confirmed`, `-- on order.confirmed v1, order.imported v1`; any other comment is prose.
fn headings(comment: &str) -> Option<Vec<Heading<'_>>> {
    let rest = comment.strip_prefix("--")?.trim_start().strip_prefix("on")?;
    let is_one = rest.split_whitespace().count() == 1;
    let first = rest.split([',', ' ']).find(|word| !word.is_empty())?;
    if !rest.starts_with(char::is_whitespace) || !(is_one || first.contains('.')) {
        return None;
    }
    rest.split(',').map(heading).collect()
}

fn heading(text: &str) -> Option<Heading<'_>> {
    let mut words = text.split_whitespace();
    let event_type = words.next()?;
    let version = words.next().map(|version| version.strip_prefix('v').unwrap_or(version));
    let is_version = version.is_none_or(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    (is_version && words.next().is_none()).then_some(Heading { event_type, version })
}
