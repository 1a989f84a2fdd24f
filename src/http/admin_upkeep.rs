//! What was set aside or could not be done, for whoever runs the shop: listed, and tried again.

use axum::extract::State;
use jangbu_events::OrderId;
use jangbu_projections::builds::AdvanceError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Admin,
    checks::Checks,
    extract::Query,
    keys::{Command, json_body},
    problem::{Code, FieldError, Problem, Text},
    products::limit,
    views::Answer,
};
use crate::{
    parking::{self, ParkedAttempt, ParkedEntry},
    processes::{
        RunError,
        retry::{self as steps, FailedStep, StepAttempt},
    },
    workers,
};

/// As long as any id is, and more.
const ID_LENGTH_MAX: usize = 100;

/// Which parked aggregates to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ParkedQuery {
    /// Only of this projection: `catalog`, `order_history`, `sales` or `stock_levels`.
    projection: Option<String>,
    /// 1 to 1,000; 100 by default.
    limit: Option<u32>,
}

/// Which failed steps to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StepsQuery {
    /// Only of this order.
    order_id: Option<String>,
    /// 1 to 1,000; 100 by default.
    limit: Option<u32>,
}

/// Which parked aggregates to tell again: those of a projection, those with an id, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"projection": "catalog"}))]
pub struct RetryParked {
    /// Only of this projection.
    projection: Option<String>,
    /// Only this one, `ord_…`.
    aggregate_id: Option<String>,
    /// Whatever is parked.
    #[serde(default)]
    all: bool,
}

/// Which failed steps to do again: those of an order, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"all": true}))]
pub struct RetrySteps {
    /// Only of this order, `ord_…`.
    order_id: Option<String>,
    /// Whatever failed.
    #[serde(default)]
    all: bool,
}

json_body!(RetryParked, RetrySteps);

/// Rows, those first that were tried the longest ago.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upkeep<R> {
    /// The rows.
    data: Vec<R>,
    /// Whether there are more like these.
    more: bool,
}

/// What the lists leave out, since a projection cannot take it, and why.
#[utoipa::path(get, path = "/api/v1/admin/parked", tag = "admin", security(("admin" = [])), params(ParkedQuery),
    responses((status = 200, body = Upkeep<ParkedEntry>), (status = 422, description = "validation_failed")))]
pub async fn parked(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<ParkedQuery>,
) -> Result<Answer<Upkeep<ParkedEntry>>, Problem> {
    let limit = i64::from(limit(query.limit, 100, 1_000)?);
    if let Some(name) = &query.projection {
        let known = known_projection(name);
        known.map_err(|detail| Problem::field(FieldError::parameter("projection", "unknown_value", detail)))?;
    }
    let which = parking::Which {
        projection: query.projection,
        aggregate_id: None,
    };
    let rows = parking::list(app.log.pool(), &which, limit + 1).await?;
    Ok(Answer::ok(cut(rows, limit)))
}

/// Tells parked aggregates again, at most 100; any number of times changes nothing that is well.
#[utoipa::path(post, path = "/api/v1/admin/parked/retry", tag = "admin", security(("admin" = [])),
    request_body = RetryParked,
    responses((status = 200, body = Upkeep<ParkedAttempt>), (status = 409, description = "event_unreadable"),
        (status = 422, description = "validation_failed")))]
pub async fn retry_parked(
    State(app): State<App>,
    _: Admin,
    command: Command<RetryParked>,
) -> Result<Answer<Upkeep<ParkedAttempt>>, Problem> {
    let RetryParked {
        projection,
        aggregate_id,
        all,
    } = command.body;
    let mut checks = Checks::default();
    if let Some(name) = &projection
        && let Err(detail) = known_projection(name)
    {
        checks.refuse("/projection", "unknown_value", detail);
    }
    one_or_all(&mut checks, projection.is_some() || aggregate_id.is_some(), all);
    let aggregate_id = match aggregate_id {
        Some(id) => checks.line("/aggregate_id", &id, ID_LENGTH_MAX),
        None => None,
    };
    checks.done()?;
    let which = parking::Which {
        projection,
        aggregate_id,
    };
    let db = app.log.pool();
    let data = parking::retry(db, jangbu_projections::all(), &which, &app.surroundings).await?;
    let more = i64::try_from(data.len()).is_ok_and(|told| told >= parking::RETRY_MAX);
    Ok(Answer::ok(Upkeep { data, more }))
}

/// Steps of orders that could not be done, and why.
#[utoipa::path(get, path = "/api/v1/admin/failed-steps", tag = "admin", security(("admin" = [])), params(StepsQuery),
    responses((status = 200, body = Upkeep<FailedStep>), (status = 422, description = "validation_failed")))]
pub async fn failed_steps(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<StepsQuery>,
) -> Result<Answer<Upkeep<FailedStep>>, Problem> {
    let limit = i64::from(limit(query.limit, 100, 1_000)?);
    let order_id = query.order_id.as_deref().map(order).transpose();
    let order_id =
        order_id.map_err(|detail| Problem::field(FieldError::parameter("order_id", "wrong_type", detail)))?;
    let which = steps::Which {
        order_id,
        command_id: None,
    };
    let rows = steps::list(app.log.pool(), &which, limit + 1).await?;
    Ok(Answer::ok(cut(rows, limit)))
}

/// Does failed steps again, at most 100; what was done meanwhile is found done.
#[utoipa::path(post, path = "/api/v1/admin/failed-steps/retry", tag = "admin", security(("admin" = [])),
    request_body = RetrySteps,
    responses((status = 200, body = Upkeep<StepAttempt>), (status = 409, description = "event_unreadable"),
        (status = 422, description = "validation_failed")))]
pub async fn retry_steps(
    State(app): State<App>,
    _: Admin,
    command: Command<RetrySteps>,
) -> Result<Answer<Upkeep<StepAttempt>>, Problem> {
    let mut checks = Checks::default();
    let given = command.body.order_id.as_deref();
    let order_id = given.map(order).transpose().unwrap_or_else(|detail| {
        checks.refuse("/order_id", "wrong_type", detail);
        None
    });
    one_or_all(&mut checks, given.is_some(), command.body.all);
    checks.done()?;
    let which = steps::Which {
        order_id,
        command_id: None,
    };
    let data = steps::retry(&app.executor, &which).await?;
    let more = i64::try_from(data.len()).is_ok_and(|done| done >= steps::RETRY_MAX);
    Ok(Answer::ok(Upkeep { data, more }))
}

fn known_projection(name: &str) -> Result<(), Text> {
    let asked = [name.to_owned()];
    match workers::named(&asked) {
        Ok(_) => Ok(()),
        Err(unknown) => Err(Text::new(
            format!("must be one of {}", unknown.known),
            format!("{} 중 하나여야 합니다.", unknown.known),
        )),
    }
}

/// In the one way it is written.
fn order(text: &str) -> Result<String, Text> {
    let id: Result<OrderId, _> = text.parse();
    let wrong = |_| Text::new("must be the id of an order, ord_…", "주문 ID(ord_…)여야 합니다.");
    id.map(|id| id.to_string()).map_err(wrong)
}

/// Nobody means everything by sending nothing.
fn one_or_all(checks: &mut Checks, one: bool, all: bool) {
    if one == all {
        checks.refuse(
            "/all",
            "one_or_all",
            Text::new(
                "say either which, or \"all\": true",
                "대상을 지정하거나 \"all\": true 중 하나만 보내야 합니다.",
            ),
        );
    }
}

/// One row more than asked for was read, to know whether there is one.
fn cut<R>(mut data: Vec<R>, limit: i64) -> Upkeep<R> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = data.len() > limit;
    data.truncate(limit);
    Upkeep { data, more }
}

impl From<AdvanceError> for Problem {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Database(error) => error.into(),
            error @ AdvanceError::Undecodable { .. } => Self::new(Code::EventUnreadable).because(error),
            error => Self::internal(error),
        }
    }
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Unavailable(error) => error.into(),
            RunError::Sending(error) => error.into(),
            error @ RunError::Undecodable { .. } => Self::new(Code::EventUnreadable).because(error),
            error @ (RunError::Fenced | RunError::State { .. }) => Self::internal(error),
        }
    }
}
