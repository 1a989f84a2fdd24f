//! Looks a set-up over and says in one line each what is well and what is not, with what to do.
//!
//! It changes nothing: no table, no key and no database is made by asking how things are.

mod database;
mod outside;
mod setup;
mod shop;
mod sql;

use std::fmt;

use serde::Serialize;

use crate::{clock::Surroundings, config::Config};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It works, but not all of it, or not for long.
    Warn,
    /// Something does not work.
    Wrong,
}

/// One line. Never holds a secret or personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub mark: Mark,
    /// What was looked at, in a word or two.
    pub about: String,
    /// How it is.
    pub says: String,
    /// What to do about it; always there unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            mark: Mark::Ok,
            about: about.into(),
            says: says.into(),
            advice: None,
        }
    }

    fn warn(about: impl Into<String>, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            mark: Mark::Warn,
            advice: Some(advice.into()),
            ..Self::ok(about, says)
        }
    }

    fn wrong(about: impl Into<String>, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            mark: Mark::Wrong,
            ..Self::warn(about, says, advice)
        }
    }

    /// Whether something does not work; one such finding makes `jangbu doctor` fail.
    pub fn is_wrong(&self) -> bool {
        self.mark == Mark::Wrong
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.mark {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Wrong => "WRONG",
        };
        // Messages of libraries come with line breaks, and a finding is one line.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{mark:<6} {:<19} {}", self.about, line(&self.says))?;
        match &self.advice {
            Some(advice) => write!(f, " -> {}", line(advice)),
            None => Ok(()),
        }
    }
}

/// Looks everything over, outside services included; takes a few seconds at most for each of them
/// that does not answer.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let surroundings = Surroundings::system();
    let mut findings = setup::examine(config);
    let (database, broker, portone) = tokio::join!(
        database::examine(config, &surroundings),
        outside::broker(config),
        outside::portone(config, &surroundings),
    );
    findings.extend(database);
    findings.push(broker);
    findings.extend(portone);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_what_to_do() {
        let finding = Finding::wrong("RabbitMQ", "does not answer:\n  refused", "start it");
        assert_eq!(
            finding.to_string(),
            "WRONG  RabbitMQ            does not answer: refused -> start it"
        );
        assert!(finding.is_wrong() && !Finding::warn("a", "b", "c").is_wrong());
        assert_eq!(
            serde_json::to_value(Finding::ok("clock", "right")).expect("it serialises"),
            serde_json::json!({"mark": "ok", "about": "clock", "says": "right"})
        );
    }
}
