//! For whoever runs the process: is it alive, may it be sent requests, what has it counted.

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::TimeDelta;
use jangbu_projections::builds::{self, parking};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    App,
    problem::{Code, Problem},
    views::Answer,
};
use crate::telemetry::Metrics;

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    /// Always `ok`.
    status: &'static str,
}

/// The process may be sent requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Always `ready`.
    status: &'static str,
    /// The end of the log.
    head: i64,
    /// Of every projection.
    projections: Vec<Progress>,
}

/// How far a projection is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Progress {
    /// Which.
    name: &'static str,
    /// Of its slowest partition.
    position: i64,
    /// How long the first event that it has not seen has been waiting.
    lag_seconds: i64,
    /// Aggregates that it leaves out, since it cannot take them: everything else goes on, so the process
    /// is ready. `jangbu parked list` has them.
    parked: i64,
    /// Why a part of it cannot go on, such as an event that this version does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

/// Answers as long as the process does.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = Live)))]
pub async fn live() -> Answer<Live> {
    Answer::ok(Live { status: "ok" })
}

/// Fails while the database does not answer, and while a projection is further behind than
/// `JANGBU_READY_LAG_MAX_SECONDS`.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = Ready), (status = 503, description = "not_ready")))]
pub async fn ready(State(app): State<App>) -> Result<Answer<Ready>, Problem> {
    let not_ready = |why: &dyn std::fmt::Display| Problem::new(Code::NotReady).because(why);
    let head = app.log.head().await.map_err(|error| not_ready(&error))?;
    let names: Vec<&'static str> = jangbu_projections::built_in().iter().map(|one| one.name).collect();
    let reading = app.readers.now();
    let mut troubles = parking::troubles(app.log.pool())
        .await
        .map_err(|error| not_ready(&error))?;
    let now = app.surroundings.now();
    let limit = TimeDelta::from_std(app.config.ready_lag_max).unwrap_or(TimeDelta::MAX);
    let mut projections = Vec::with_capacity(names.len());
    let mut behind = false;
    for name in names {
        // Of what this process reads: one that has missed a switch falls behind.
        let position = match reading.build(name) {
            Some(build) => builds::position(app.log.pool(), build).await,
            None => Ok(0),
        };
        let position = position.map_err(|error| not_ready(&error))?;
        let first_unseen = if position < head.position {
            app.log
                .read(position, 1)
                .await
                .map_err(|error| not_ready(&error))?
                .pop()
        } else {
            None
        };
        let lag = first_unseen.map_or(TimeDelta::zero(), |event| now - event.recorded_at);
        behind |= lag > limit;
        let trouble = troubles.remove(name).unwrap_or_default();
        projections.push(Progress {
            name,
            position,
            lag_seconds: lag.num_seconds().max(0),
            parked: trouble.parked,
            stopped: trouble.stopped,
        });
    }
    if behind {
        return Err(Problem::new(Code::NotReady)
            .fact("head", head.position)
            .fact("projections", &projections));
    }
    Ok(Answer::ok(Ready {
        status: "ready",
        head: head.position,
        projections,
    }))
}

/// In the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub async fn metrics(State(app): State<App>) -> Response {
    let text = app.metrics.as_ref().map(Metrics::render).unwrap_or_default();
    in_text_format(text)
}

/// The same and `/livez`, of a process that answers nothing else; until `shutdown`.
pub async fn watch(metrics: Metrics, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/metrics", get(async move || in_text_format(metrics.render())));
    let serving = axum::serve(listener, router);
    // Nobody is hurt by an answer that is cut off.
    tokio::select! {
        served = serving.into_future() => served,
        () = shutdown.cancelled() => Ok(()),
    }
}

fn in_text_format(text: String) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
