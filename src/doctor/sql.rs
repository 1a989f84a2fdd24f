//! Projections in SQL: which are run, and what keeps the others from it.

use jangbu_projections::{
    analyst::{Analyst, Problem, admit},
    builds,
};
use sqlx::PgPool;

use super::{Finding, database::unreadable};
use crate::{
    analysts::{self, Source},
    feed,
};

/// Each file in a line. None of them is needed to sell anything, so the worst is a warning.
pub(super) async fn examine(source: &Source, db: &PgPool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for found in analysts::find(source) {
        findings.push(match found.read {
            Ok(analyst) => one(analyst, db).await,
            Err(problems) => refused(&found.file, &all(&problems)),
        });
    }
    findings
}

async fn one(analyst: Analyst, db: &PgPool) -> Finding {
    let projection = analyst.register();
    if let Err(refusal) = admit(db, &projection).await {
        return refused(projection.name, &refusal.to_string());
    }
    match behind(db, projection.name).await {
        Ok(0) => Finding::ok(projection.name, "in SQL, up to date"),
        Ok(behind) => Finding::ok(projection.name, format!("in SQL, {behind} events behind")),
        Err(error) => unreadable(projection.name, &error),
    }
}

async fn behind(db: &PgPool, name: &str) -> sqlx::Result<i64> {
    let position = builds::positions(db, &[name]).await?.into_values().next().unwrap_or(0);
    Ok((feed::head(db).await? - position).max(0))
}

fn refused(about: &str, why: &str) -> Finding {
    Finding::warn(
        about,
        format!("is not run: {why}"),
        "`jangbu sql check` shows where; everything else runs",
    )
}

fn all(problems: &[Problem]) -> String {
    problems.iter().map(Problem::brief).collect::<Vec<_>>().join("; ")
}
