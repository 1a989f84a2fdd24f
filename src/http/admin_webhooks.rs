//! `/admin/webhooks`: programs of others that are told what happens.

use axum::{extract::State, http::StatusCode};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Admin,
    checks::Checks,
    extract::{Path, Query},
    keys::{Command, Nothing, json_body},
    problem::{Code, FieldError, Problem, Text},
    products::limit,
    views::Answer,
};
use crate::{
    feed::pages::Types,
    webhooks::{
        self, Attempt, CreateError, Delivery, ENDPOINTS_MAX, Endpoint, EndpointId, Made, NewEndpoint, OVERLAP_HOURS,
        OVERLAP_HOURS_MAX, RotateError, Rotation,
        rows::{self, Change, Rewound},
        target,
    },
};

/// As long as any id is, and more.
const ID_LENGTH_MAX: usize = 100;
/// Attempts that are shown.
const ATTEMPTS_SHOWN: i64 = 50;

/// A program that is to be told what happens.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://books.example.com/jangbu", "event_types": ["order.confirmed", "order.cancelled"]}))]
pub struct NewWebhook {
    /// `https://`; `http://` only on this machine, while the shop is not live.
    url: String,
    /// Only these; none is all.
    #[serde(default)]
    event_types: Vec<String>,
    /// Everything after this position is told: 0 is from the first event. What happens from now on by default.
    after: Option<i64>,
}

/// What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"event_types": ["order.confirmed"], "enabled": true}))]
pub struct WebhookChange {
    /// Where to post.
    url: Option<String>,
    /// Only these; an empty list is all. What waits and is of another type is told no more, and what was
    /// passed over is not told later, but by a rewind.
    event_types: Option<Vec<String>>,
    /// Disabled, it is told nothing; enabled again, it is told what happened meanwhile, and what waited is
    /// tried for 72 hours from then on.
    enabled: Option<bool>,
}

/// Where to go on from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"to": 0}))]
pub struct WebhookRewind {
    /// Everything after this position is told, again where it was.
    to: i64,
}

/// Which parked aggregates to try again: one, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"all": true}))]
pub struct WebhookRetry {
    /// Only this one, `ord_…`.
    aggregate_id: Option<String>,
    /// Whatever is parked.
    #[serde(default)]
    all: bool,
}

/// How long both secrets sign.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_hours": 24}))]
pub struct SecretRotation {
    /// 0 to 168; 24 by default. 0 if the former secret is known to others.
    overlap_hours: Option<i64>,
}

json_body!(NewWebhook, WebhookChange, WebhookRewind, WebhookRetry, SecretRotation);

/// Which deliveries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// `retrying` or `parked`; both by default.
    status: Option<Status>,
    /// 1 to 1,000; 100 by default.
    limit: Option<u32>,
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It is tried again by itself.
    Retrying,
    /// Somebody has to ask for it.
    Parked,
}

/// Endpoints, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Webhooks {
    /// At most a hundred.
    data: Vec<Endpoint>,
}

/// An endpoint whose secret was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookWithSecret {
    /// The endpoint.
    #[serde(flatten)]
    endpoint: Endpoint,
    /// `whsec_…`, to check signatures with. It is not told again; null if it was replaced since.
    secret: Option<String>,
}

/// What an endpoint did not take, and what was tried lately.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deliveries {
    /// Aggregates that wait, the oldest event first.
    data: Vec<Delivery>,
    /// Whether more wait.
    more: bool,
    /// The last 50 requests, the newest first.
    attempts: Vec<Attempt>,
}

/// How many aggregates are tried again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// Aggregates that were parked.
    retried: u64,
}

/// Every endpoint.
#[utoipa::path(get, path = "/api/v1/admin/webhooks", tag = "events", security(("admin" = [])),
    responses((status = 200, body = Webhooks)))]
pub async fn list(State(app): State<App>, _: Admin) -> Result<Answer<Webhooks>, Problem> {
    let data = rows::list(app.log.pool(), None, ENDPOINTS_MAX, app.surroundings.now()).await?;
    Ok(Answer::ok(Webhooks { data }))
}

/// A new endpoint, and its secret. A repeat under the same key is answered alike.
#[utoipa::path(post, path = "/api/v1/admin/webhooks", tag = "events", security(("admin" = [])), request_body = NewWebhook,
    responses((status = 201, body = WebhookWithSecret), (status = 400, description = "unknown_event_type"),
        (status = 409, description = "too_many_webhooks"),
        (status = 422, description = "validation_failed, idempotency_key_reused")))]
pub async fn create(
    State(app): State<App>,
    _: Admin,
    command: Command<NewWebhook>,
) -> Result<Answer<WebhookWithSecret>, Problem> {
    let NewWebhook {
        url,
        event_types,
        after,
    } = command.body;
    let mut checks = Checks::default();
    let url = self::url(&app, &mut checks, &url);
    if let Some(after) = after {
        checks.in_range("/after", after, 0, i64::MAX);
    }
    let url = checks.finish(url)?;
    let db = app.log.pool();
    let new = NewEndpoint {
        url,
        event_types: types(&event_types)?
            .names()
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        after,
        request: command.id,
        request_hash: command.body_hash,
    };
    let made = webhooks::create(db, &app.sealer, &app.surroundings, &new).await;
    let made = made.map_err(|error| match error {
        CreateError::OtherRequest => Code::IdempotencyKeyReused.into(),
        CreateError::TooMany => Problem::new(Code::TooManyWebhooks).fact("max", ENDPOINTS_MAX),
        CreateError::BeyondHead { head } => beyond("/after", head),
        CreateError::Database(error) => error.into(),
    })?;
    let location = format!("/api/v1/admin/webhooks/{}", made.id);
    Ok(with_secret(&app, made).await?.created(&location))
}

/// One endpoint.
#[utoipa::path(get, path = "/api/v1/admin/webhooks/{webhook_id}", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path)),
    responses((status = 200, body = Endpoint), (status = 404, description = "webhook_not_found")))]
pub async fn one(State(app): State<App>, _: Admin, Path(id): Path<EndpointId>) -> Result<Answer<Endpoint>, Problem> {
    Ok(Answer::ok(endpoint(&app, id).await?))
}

/// Changes an endpoint, or enables one that is gone.
#[utoipa::path(patch, path = "/api/v1/admin/webhooks/{webhook_id}", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path)), request_body = WebhookChange,
    responses((status = 200, body = Endpoint), (status = 400, description = "unknown_event_type"),
        (status = 404, description = "webhook_not_found"), (status = 422, description = "validation_failed")))]
pub async fn change(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<EndpointId>,
    command: Command<WebhookChange>,
) -> Result<Answer<Endpoint>, Problem> {
    let WebhookChange {
        url,
        event_types,
        enabled,
    } = command.body;
    let mut checks = Checks::default();
    let url = url.map(|url| self::url(&app, &mut checks, &url));
    checks.done()?;
    let change = Change {
        url: url.flatten(),
        event_types: event_types.as_deref().map(types).transpose()?,
        enabled,
    };
    found(rows::change(app.log.pool(), id, &change, app.surroundings.now()).await?)?;
    Ok(Answer::ok(endpoint(&app, id).await?))
}

/// Removes an endpoint, and what waits for it. A repeat finds nothing to remove and is answered 404.
#[utoipa::path(delete, path = "/api/v1/admin/webhooks/{webhook_id}", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path)),
    responses((status = 204), (status = 404, description = "webhook_not_found")))]
pub async fn delete(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<EndpointId>,
    _: Command<Nothing>,
) -> Result<StatusCode, Problem> {
    found(rows::delete(app.log.pool(), id).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new secret. The former one signs too for a while, so that the receiver can change over. A repeat under
/// the same key is answered alike, with `secret` null if another request made one since.
#[utoipa::path(post, path = "/api/v1/admin/webhooks/{webhook_id}/rotate", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path)), request_body = SecretRotation,
    responses((status = 200, body = WebhookWithSecret), (status = 404, description = "webhook_not_found"),
        (status = 422, description = "validation_failed, idempotency_key_reused")))]
pub async fn rotate(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<EndpointId>,
    command: Command<SecretRotation>,
) -> Result<Answer<WebhookWithSecret>, Problem> {
    let hours = command.body.overlap_hours.unwrap_or(OVERLAP_HOURS);
    let mut checks = Checks::default();
    checks.in_range("/overlap_hours", hours, 0, OVERLAP_HOURS_MAX);
    checks.done()?;
    let rotation = Rotation {
        former_until: app.surroundings.now() + TimeDelta::hours(hours),
        request: command.id,
        request_hash: command.body_hash,
    };
    let made = webhooks::rotate(app.log.pool(), &app.sealer, &app.surroundings, id, &rotation).await;
    let made = made.map_err(|error| match error {
        RotateError::NotFound => Problem::from(Code::WebhookNotFound),
        RotateError::OtherRequest => Code::IdempotencyKeyReused.into(),
        RotateError::Database(error) => error.into(),
    })?;
    with_secret(&app, made).await
}

/// What an endpoint did not take, and the last requests.
#[utoipa::path(get, path = "/api/v1/admin/webhooks/{webhook_id}/deliveries", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path), DeliveriesQuery),
    responses((status = 200, body = Deliveries), (status = 404, description = "webhook_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn deliveries(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<EndpointId>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Answer<Deliveries>, Problem> {
    let limit = limit(query.limit, 100, 1_000)?;
    endpoint(&app, id).await?;
    let parked = query.status.map(|status| status == Status::Parked);
    let db = app.log.pool();
    let mut data = rows::deliveries(db, id, parked, i64::from(limit) + 1).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = data.len() > limit;
    data.truncate(limit);
    let attempts = rows::attempts(db, id, ATTEMPTS_SHOWN).await?;
    Ok(Answer::ok(Deliveries { data, more, attempts }))
}

/// Sets an endpoint to any position.
#[utoipa::path(post, path = "/api/v1/admin/webhooks/{webhook_id}/rewind", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path)), request_body = WebhookRewind,
    responses((status = 200, body = Endpoint), (status = 404, description = "webhook_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn rewind(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<EndpointId>,
    command: Command<WebhookRewind>,
) -> Result<Answer<Endpoint>, Problem> {
    let mut checks = Checks::default();
    checks.in_range("/to", command.body.to, 0, i64::MAX);
    checks.done()?;
    match rows::rewind(app.log.pool(), id, command.body.to, app.surroundings.now()).await? {
        Rewound::Done => Ok(Answer::ok(endpoint(&app, id).await?)),
        Rewound::NotFound => Err(Code::WebhookNotFound.into()),
        Rewound::BeyondHead { head } => Err(beyond("/to", head)),
    }
}

/// Tries again what is parked, from its first event on.
#[utoipa::path(post, path = "/api/v1/admin/webhooks/{webhook_id}/retry", tag = "events", security(("admin" = [])),
    params(("webhook_id" = String, Path)), request_body = WebhookRetry,
    responses((status = 200, body = Retried), (status = 404, description = "webhook_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn retry(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<EndpointId>,
    command: Command<WebhookRetry>,
) -> Result<Answer<Retried>, Problem> {
    let WebhookRetry { aggregate_id, all } = command.body;
    let mut checks = Checks::default();
    if aggregate_id.is_some() == all {
        checks.refuse(
            "/all",
            "one_or_all",
            Text::new(
                "name one, or ask for all of them",
                "하나를 지정하거나 전부를 요청해야 합니다.",
            ),
        );
    }
    let aggregate_id = aggregate_id.and_then(|id| checks.line("/aggregate_id", &id, ID_LENGTH_MAX));
    checks.done()?;
    let retried = rows::retry(app.log.pool(), id, aggregate_id.as_deref(), app.surroundings.now()).await?;
    let retried = retried.ok_or(Code::WebhookNotFound)?;
    Ok(Answer::ok(Retried { retried }))
}

async fn endpoint(app: &App, id: EndpointId) -> Result<Endpoint, Problem> {
    let mut found = rows::list(app.log.pool(), Some(id), 1, app.surroundings.now()).await?;
    found.pop().ok_or_else(|| Code::WebhookNotFound.into())
}

async fn with_secret(app: &App, made: Made) -> Result<Answer<WebhookWithSecret>, Problem> {
    let view = WebhookWithSecret {
        endpoint: endpoint(app, made.id).await?,
        secret: made.secret,
    };
    Ok(Answer::ok(view).replayed(made.repeated))
}

fn found(found: bool) -> Result<(), Problem> {
    if found {
        Ok(())
    } else {
        Err(Code::WebhookNotFound.into())
    }
}

fn beyond(pointer: &str, head: i64) -> Problem {
    Problem::field(FieldError::at(
        pointer,
        "beyond_the_log",
        Text::new(
            format!("the log ends at {head}"),
            format!("로그는 {head}번 위치까지 있습니다."),
        ),
    ))
}

fn url(app: &App, checks: &mut Checks, text: &str) -> Option<String> {
    match target::check(text, app.config.live) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            let korean = "https:// 로 시작하는 바깥 주소여야 합니다. 사용자 이름이나 비밀번호, #은 넣을 수 없습니다.";
            checks.refuse("/url", "not_allowed", Text::new(error.to_string(), korean));
            None
        }
    }
}

fn types(names: &[String]) -> Result<Types, Problem> {
    let types = Types::named(names.iter().map(String::as_str));
    types.map_err(|unknown| super::events::unknown_type(&unknown).at("/event_types"))
}
