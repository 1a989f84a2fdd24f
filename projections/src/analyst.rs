//! Projections that are written in SQL alone, by people who do not build this program: one file with
//! tables, and statements for types of events (`docs/sql-projections.md`).
//!
//! A file is checked before anything runs ([`Analyst::read`] by itself, [`check`] by PostgreSQL), and
//! becomes a [`Registered`] like the others. What it does runs in a function of its own schema that
//! belongs to a role without rights elsewhere, and that role sees rows of the partition at work only.

mod compile;
mod database;
mod lexer;
mod parse;
mod problem;
mod render;
mod rules;
mod run;
mod shape;
mod tables;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jangbu_events::event::CURRENT_VERSIONS;

pub use self::{
    database::{Refusal, admit, check, prepare},
    problem::Problem,
    run::PATIENCE,
    shape::parameters,
};
use self::{
    parse::{Parsed, parse},
    problem::Source,
};
use crate::{Registered, Telling};

/// The projections in SQL that come with this program: what their files are called, and the texts.
pub const SHIPPED: &[(&str, &str)] = &[
    ("basket_pairs.sql", include_str!("../sql/basket_pairs.sql")),
    ("repeat_purchase.sql", include_str!("../sql/repeat_purchase.sql")),
];

/// A projection in SQL whose text makes sense by itself.
#[derive(Debug)]
pub struct Analyst {
    source: Source,
    parsed: Parsed,
    event_types: &'static [&'static str],
    schema: String,
    fingerprint: String,
    patience: Duration,
}

impl Analyst {
    /// Reads a file, or says everything that is wrong with it. `file` is how it is called in what is said.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let source = Source {
            file: file.to_owned(),
            text: text.to_owned(),
        };
        let stem = file
            .rsplit(['/', '\\'])
            .next()
            .and_then(|name| name.strip_suffix(".sql"));
        let (parsed, mut problems) = parse(&source, stem);
        problems.extend(rules::check(&source, &parsed));
        if !problems.is_empty() {
            problems.sort_by_key(|problem| (problem.line, problem.column));
            return Err(problems);
        }
        Ok(Self::of(source, parsed))
    }

    fn of(source: Source, parsed: Parsed) -> Self {
        let event_types: Vec<&'static str> = CURRENT_VERSIONS
            .iter()
            .map(|(known, _)| *known)
            .filter(|known| parsed.sections.iter().any(|section| section.event_type == *known))
            .collect();
        let (schema, fingerprint) = compile::schema(&source, &parsed);
        Self {
            source,
            parsed,
            // As long as the program: what is registered is for ever, and there are few files.
            event_types: Vec::leak(event_types),
            schema,
            fingerprint,
            patience: PATIENCE,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.parsed.name
    }

    /// As its file says.
    pub const fn version(&self) -> i32 {
        self.parsed.version
    }

    /// As its file says; empty if it says nothing.
    pub fn description(&self) -> &str {
        &self.parsed.description
    }

    /// What it looks at, in the order of [`CURRENT_VERSIONS`].
    pub const fn event_types(&self) -> &'static [&'static str] {
        self.event_types
    }

    /// The role that its statements run as.
    pub fn role(&self) -> String {
        compile::role(self.name())
    }

    /// Makes it one like the others, for as long as the program runs.
    pub fn register(self) -> Registered {
        let kept: &'static Self = Box::leak(Box::new(self));
        Registered {
            name: kept.name(),
            code_version: kept.version(),
            schema: &kept.schema,
            event_types: kept.event_types,
            apply: Telling::Analyst(kept),
            apply_late: Telling::Analyst(kept),
        }
    }
}
