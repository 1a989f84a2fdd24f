//! What every call of the API passes: credentials, then faults, then `Idempotency-Key`, then the operation itself.

use std::io;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};

use super::Sandbox;
use super::api::{Call, Operation};
use super::errors::{Answer, ApiError};
use super::idempotency::{Begun, Running, parse_key};
use super::payment;
use crate::faults::{FaultKind, When};

const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(crate) fn routes() -> Router<Sandbox> {
    Operation::ALL.into_iter().fold(Router::new(), |router, operation| {
        let (_, path) = operation.address();
        router.route(path, serve(operation))
    })
}

fn serve(operation: Operation) -> MethodRouter<Sandbox> {
    let handler = move |State(sandbox): State<Sandbox>, id: Result<Path<String>, PathRejection>, request: Request| {
        call(sandbox, operation, id.ok().map(|Path(id)| id), request)
    };
    match operation.address() {
        (Method::GET, _) => get(handler),
        _ => post(handler),
    }
}

/// Anything else: 401 to strangers, as everywhere; 404 to the rest.
pub(crate) async fn unknown(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let path = request.uri().path();
    let is_own = ["/_sim", "/window", "/livez", "/kakao/", "/naver/", "/google/"]
        .iter()
        .any(|own| path.starts_with(own))
        || path == "/";
    if !is_own && let Err(error) = sandbox.authorize(authorization(request.headers())) {
        return respond(error.into());
    }
    let message = format!("the simulator does not know {} {path}", request.method());
    let body = json!({"type": "NOT_SIMULATED", "message": message});
    respond(Answer {
        status: StatusCode::NOT_FOUND,
        body: Bytes::from(body.to_string()),
    })
}

fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes)
}

pub(crate) fn respond(answer: Answer) -> Response {
    (answer.status, [(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
}

/// A gateway's page: no JSON, so that clients must cope with one.
pub(crate) fn gateway_page(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let page = format!("<html><h1>{status}</h1></html>");
    (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
}

/// Closes the connection without an answer: a body that fails at once makes the server give up the connection before
/// anything of the answer has been written.
pub(crate) fn drop_connection() -> Response {
    let error = io::Error::new(io::ErrorKind::ConnectionReset, "dropped by a fault");
    Response::new(Body::from_stream(futures_util::stream::once(std::future::ready(
        Err::<Bytes, _>(error),
    ))))
}

async fn call(sandbox: Sandbox, operation: Operation, payment_id: Option<String>, request: Request) -> Response {
    if operation.needs_credentials()
        && let Err(error) = sandbox.authorize(authorization(request.headers()))
    {
        return respond(error.into());
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return respond(ApiError::InvalidRequest("the body is too large or was cut off".to_owned()).into());
    };
    let key = parts
        .headers
        .get("idempotency-key")
        .filter(|_| parts.method != Method::GET);
    let call = Call {
        operation,
        payment_id,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body,
        idempotency_key: key.map(|key| key.as_bytes().to_vec()),
    };
    let strike = |kind| {
        sandbox
            .faults
            .strike(kind, call.payment_id.as_deref(), Some(operation.name()))
    };
    if strike(FaultKind::ApiDropBefore).is_some() {
        note(&sandbox, &call, None, false);
        return drop_connection();
    }
    if let Some(fault) = strike(FaultKind::ApiError) {
        let page = gateway_page(fault.status);
        note(&sandbox, &call, Some(page.status()), false);
        return page;
    }
    let drops = strike(FaultKind::ApiDropAfter).is_some();
    match run(sandbox, call, drops).await {
        Some(answer) => respond(answer),
        None => drop_connection(),
    }
}

/// Has the effect, once for each idempotency key, and gives the answer; nothing if the connection is to be dropped.
async fn run(sandbox: Sandbox, call: Call, drops: bool) -> Option<Answer> {
    let (answer, replayed) = match begin(&sandbox, &call) {
        Err(error) => (error.into(), false),
        Ok(Begun::Outstanding) => (ApiError::IdempotencyOutstandingRequest.into(), false),
        Ok(Begun::Stored(answer)) => (answer, true),
        Ok(Begun::Unkeyed) => return effect(sandbox, call, None, drops).await,
        Ok(Begun::First(running)) => return effect(sandbox, call, Some(running), drops).await,
    };
    note(&sandbox, &call, (!drops).then_some(answer.status), replayed);
    (!drops).then_some(answer)
}

/// The first call with its key, or one without: slow if a fault says so.
async fn effect(sandbox: Sandbox, call: Call, running: Option<Running>, drops: bool) -> Option<Answer> {
    let name = Some(call.operation.name());
    let Some(slow) = sandbox
        .faults
        .strike(FaultKind::ApiDelay, call.payment_id.as_deref(), name)
    else {
        return finish(&sandbox, &call, running, sandbox.perform(&call), drops);
    };
    // In a task of its own: a client that hangs up does not stop the operation.
    let task = tokio::spawn(async move {
        if slow.when == When::Before {
            tokio::time::sleep(slow.delay()).await;
        }
        let result = sandbox.perform(&call);
        if slow.when == When::After {
            tokio::time::sleep(slow.delay()).await;
        }
        finish(&sandbox, &call, running, result, drops)
    });
    task.await.unwrap_or(None)
}

fn finish(
    sandbox: &Sandbox,
    call: &Call,
    running: Option<Running>,
    result: Result<Value, ApiError>,
    drops: bool,
) -> Option<Answer> {
    let answer = result.map_or_else(Answer::from, |body| Answer::ok(&body));
    if let Some(running) = running {
        running.finish(&answer, sandbox.config.clock.now());
    }
    note(sandbox, call, (!drops).then_some(answer.status), false);
    (!drops).then_some(answer)
}

fn begin(sandbox: &Sandbox, call: &Call) -> Result<Begun, ApiError> {
    let Some(header) = &call.idempotency_key else {
        return Ok(Begun::Unkeyed);
    };
    let key = parse_key(header)?;
    Ok(sandbox
        .idempotency
        .begin("POST", &call.path, key, sandbox.config.clock.now()))
}

/// Remembers the call with its payment, for tests that ask what was sent.
fn note(sandbox: &Sandbox, call: &Call, status: Option<StatusCode>, replayed: bool) {
    let Some(id) = &call.payment_id else { return };
    let key = call
        .idempotency_key
        .as_ref()
        .map(|key| String::from_utf8_lossy(key).into_owned());
    let seen = payment::Call {
        operation: call.operation.name(),
        idempotency_key: key,
        status: status.map(|status| status.as_u16()),
        replayed,
        at: sandbox.config.clock.now(),
    };
    sandbox.store.with(id, |payment| payment.note_call(seen));
}
