//! From statements to SQL that PostgreSQL runs: parameters become parts of one JSON value, the event.

use std::ops::Range;

use super::{
    lexer::{Kind, Token},
    parse::Statement,
    problem::Source,
    rules::did_you_mean,
    shape::{ENVELOPE, Shape, Type},
};

/// Where a parameter is in the event, and what it is.
pub(super) struct Parameter {
    pub path: Vec<String>,
    pub known: Type,
}

/// Reads a parameter; what is wrong with it, and where, otherwise.
pub(super) fn parameter(
    source: &Source,
    token: &Token,
    shape: &Shape,
    event_type: &str,
) -> Result<Parameter, (Range<usize>, String)> {
    let names = names(token, &source.text);
    let (first, span) = &names[0];
    if first != "payload" {
        let envelope = ENVELOPE.iter().find(|(name, _)| name == first);
        return match (envelope, names.get(1)) {
            (Some((_, known)), None) => Ok(Parameter {
                path: vec![first.clone()],
                known: *known,
            }),
            (Some(_), Some((_, behind))) => Err((behind.clone(), format!(":{first} has no parts"))),
            (None, _) => {
                let known = ENVELOPE.iter().map(|(name, _)| *name);
                let hint = match shape.at(std::slice::from_ref(first)) {
                    Ok(_) => format!("did you mean :payload.{first}? "),
                    Err(_) => did_you_mean(first, known.clone().chain(["payload"])),
                };
                let all: Vec<&str> = known.collect();
                let message = format!("there is no :{first}; {hint}There are :payload.…, :{}", all.join(", :"));
                Err((span.clone(), message))
            }
        };
    }
    let path: Vec<String> = names.iter().skip(1).map(|(name, _)| name.clone()).collect();
    match shape.at(&path) {
        Ok(known) => Ok(Parameter {
            path: std::iter::once("payload".to_owned()).chain(path).collect(),
            known,
        }),
        Err(nowhere) => {
            let (wrong, span) = &names[nowhere.at + 1];
            let upto = path[..nowhere.at].join(".");
            let place = if upto.is_empty() {
                event_type.to_owned()
            } else {
                format!("{upto} of {event_type}")
            };
            let message = if nowhere.list {
                format!("{place} is a list; its rows are `jsonb_array_elements(:payload.{upto})`")
            } else if nowhere.known.is_empty() {
                format!("{place} has no parts")
            } else {
                let hint = did_you_mean(wrong, nowhere.known.iter().map(String::as_str));
                format!("{place} has no {wrong}; {hint}There are {}", nowhere.known.join(", "))
            };
            Err((span.clone(), message))
        }
    }
}

/// The names of a parameter with where they stand, without the colon.
fn names(token: &Token, source: &str) -> Vec<(String, Range<usize>)> {
    let text = token.text(source);
    let (mut names, mut from, mut quoted) = (Vec::new(), 1, false);
    for (at, letter) in text.char_indices().skip(1).chain([(text.len(), '.')]) {
        match letter {
            '"' => quoted = !quoted,
            '.' if !quoted => {
                let span = token.span.start + from..token.span.start + at;
                let name = &text[from..at];
                let name = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                    Some(name) => name.replace("\"\"", "\""),
                    None => name.to_lowercase(),
                };
                names.push((name, span));
                from = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// A statement for PostgreSQL, and which of its bytes come from where in the file.
pub(super) struct Rendered {
    pub sql: String,
    /// Starts of tokens: in the SQL, and the token's place in the file.
    places: Vec<(usize, Range<usize>)>,
}

impl Rendered {
    /// What stands in the file at a position that PostgreSQL names: in characters, from 1.
    pub fn place(&self, position: usize) -> Option<Range<usize>> {
        let at = self
            .sql
            .char_indices()
            .nth(position.checked_sub(1)?)
            .map_or(self.sql.len(), |(at, _)| at);
        let before = self.places.iter().rev().find(|(start, _)| *start <= at);
        before.or(self.places.first()).map(|(_, place)| place.clone())
    }
}

/// A statement of a section. `event` is the SQL of a jsonb value: the event with its envelope.
pub(super) fn change(source: &Source, statement: &Statement, shape: &Shape, event_type: &str, event: &str) -> Rendered {
    render(source, statement, |token| {
        // Checked before; a null is as good as anything for what is not there.
        parameter(source, token, shape, event_type).map_or_else(|_| "null".to_owned(), |found| value(event, &found))
    })
}

/// A statement that makes a table.
pub(super) fn definition(source: &Source, statement: &Statement) -> Rendered {
    render(source, statement, |_| "null".to_owned())
}

fn value(event: &str, parameter: &Parameter) -> String {
    let path: Vec<String> = parameter
        .path
        .iter()
        .map(|name| format!("'{}'", name.replace('\'', "''")))
        .collect();
    let path = format!("array[{}]", path.join(", "));
    match parameter.known {
        Type::Jsonb => format!("({event} #> {path})"),
        Type::Text => format!("({event} #>> {path})"),
        other => format!("({event} #>> {path})::{}", other.name()),
    }
}

fn render(source: &Source, statement: &Statement, mut parameter: impl FnMut(&Token) -> String) -> Rendered {
    let mut sql = String::new();
    let mut places = Vec::new();
    let mut end = statement.span().start;
    for token in &statement.tokens {
        // Comments go, lines stay.
        let between = source.text.get(end..token.span.start).unwrap_or_default();
        if between.contains('\n') {
            sql.push('\n');
        } else if !between.is_empty() {
            sql.push(' ');
        }
        places.push((sql.len(), token.span.clone()));
        if token.kind == Kind::Parameter {
            sql.push_str(&parameter(token));
        } else {
            sql.push_str(token.text(&source.text));
        }
        end = token.span.end;
    }
    Rendered { sql, places }
}
