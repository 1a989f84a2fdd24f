//! How far lists are, and waiting for them: a client that has just changed something passes the
//! `Jangbu-Position` of that answer as `Jangbu-Min-Position` and reads its own writes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{extract::FromRequestParts, http::request::Parts};
use jangbu_projections::builds;
use tokio::time::Instant;

use super::{
    App,
    problem::{Code, FieldError, Problem, Text},
};

/// How long a query waits for its projection.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a position may be told again before it is read anew: it only grows.
const FRESH: Duration = Duration::from_millis(100);

/// The position that a reader must see, at least.
#[derive(Debug, Clone, Copy)]
pub struct MinPosition(Option<i64>);

impl FromRequestParts<App> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("jangbu-min-position") else {
            return Ok(Self(None));
        };
        let position = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        position
            .and_then(|position| i64::try_from(position).ok())
            .map(|position| Self(Some(position)))
            .ok_or_else(|| {
                Problem::field(FieldError::parameter(
                    "Jangbu-Min-Position",
                    "wrong_type",
                    Text::new("must be a position of the log", "로그의 위치(숫자)여야 합니다."),
                ))
            })
    }
}

/// What is known of how far the projections are.
#[derive(Debug, Default)]
pub struct Progress(Mutex<HashMap<&'static str, (Instant, i64)>>);

impl Progress {
    /// How far a projection is, after waiting for `min`. What is read after this call is at least
    /// that far.
    pub async fn of(&self, app: &App, projection: &'static str, min: MinPosition) -> Result<i64, Problem> {
        let deadline = Instant::now() + WAIT_MAX;
        let wanted = min.0.unwrap_or(0);
        if let Some((read_at, position)) = self.known().get(projection).copied()
            && position >= wanted
            && (min.0.is_some() || read_at.elapsed() < FRESH)
        {
            return Ok(position);
        }
        let mut pause = Duration::from_millis(4);
        loop {
            let position = read(app, projection).await?;
            self.known().insert(projection, (Instant::now(), position));
            if position >= wanted {
                return Ok(position);
            }
            if Instant::now() + pause >= deadline {
                return Err(Problem::new(Code::ProjectionBehind)
                    .fact("position", position)
                    .retry_after(1));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<&'static str, (Instant, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the build that is read, or is about to be no more: what becomes active later is further.
async fn read(app: &App, projection: &'static str) -> Result<i64, Problem> {
    let reading = app.readers.now();
    let Some(build) = reading.build(projection) else {
        return Ok(0);
    };
    Ok(builds::position(app.log.pool(), build).await?)
}
