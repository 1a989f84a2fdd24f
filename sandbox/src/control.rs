//! The control surface: what a shopper, a bank or an operator would do, and what a test wants to see. No credentials.

pub(crate) mod act;
pub(crate) mod action;
pub(crate) mod inspect;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use self::act::Act;
use self::action::Action;
use crate::faults::Fault;
use crate::oauth;
use crate::portone::Sandbox;
use crate::portone::api::Operation;
use crate::portone::attempt::Refusal;
use crate::portone::errors::Answer;
use crate::portone::gate::respond;
use crate::webhooks::Webhook;

pub(crate) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/_sim/payments", get(inspect::payments))
        .route("/_sim/payments/{paymentId}", get(inspect::payment))
        .route("/_sim/payments/{paymentId}/{action}", post(act))
        .route("/_sim/faults", get(list_faults).post(arm_faults).delete(clear_faults))
        .route(
            "/_sim/webhooks",
            get(deliveries).post(send_webhook).delete(clear_deliveries),
        )
        .route("/_sim/webhooks/release", post(release_held))
        .route("/_sim/webhook-urls", put(set_webhook_urls))
}

/// 200 with a body.
pub(crate) fn ok(body: &Value) -> Response {
    respond(Answer::ok(body))
}

/// A refusal in the form of the browser SDK: `{code, message}`.
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let status = match refusal.code {
        "RequestParseFailed" => StatusCode::BAD_REQUEST,
        "PaymentNotFound" | "ActionNotFound" => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    };
    let body = json!({"code": refusal.code, "message": refusal.message});
    respond(Answer {
        status,
        body: Bytes::from(body.to_string()),
    })
}

pub(crate) fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new("RequestParseFailed", error.to_string()))
}

async fn act(State(sandbox): State<Sandbox>, Path((id, action)): Path<(String, String)>, body: Bytes) -> Response {
    let done = Action::parse(&action).and_then(|action| {
        let act: Act = if body.trim_ascii().is_empty() {
            Act::default()
        } else {
            parse(&body)?
        };
        sandbox.act(&id, action, &act)
    });
    done.map_or_else(|refusal| refused(&refusal), |answer| ok(&answer))
}

async fn list_faults(State(sandbox): State<Sandbox>) -> Response {
    ok(&json!({"items": sandbox.faults.list()}))
}

/// One fault or an array of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

async fn arm_faults(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    let operations = [&Operation::ALL.map(Operation::name)[..], &oauth::OPERATIONS].concat();
    let armed = parse::<OneOrMany>(&body).and_then(|given| {
        let specs = match given {
            OneOrMany::Many(specs) => specs,
            OneOrMany::One(spec) => vec![spec],
        };
        let wrong = |why: String| Refusal::new("RequestParseFailed", why);
        let read = |spec| {
            let fault: Fault = serde_json::from_value(spec).map_err(|error| wrong(error.to_string()))?;
            fault.validate(&operations).map_err(wrong)?;
            Ok(fault)
        };
        let faults = specs.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        sandbox.faults.arm(faults).map_err(wrong)
    });
    match armed {
        Ok(()) => ok(&json!({"items": sandbox.faults.list()})),
        Err(refusal) => refused(&refusal),
    }
}

/// Disarms everything, and lets go of webhooks that a reorder fault still holds.
async fn clear_faults(State(sandbox): State<Sandbox>) -> Response {
    sandbox.faults.clear();
    sandbox.outbox.release(None, &sandbox.random);
    ok(&json!({"items": []}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Selection {
    payment_id: Option<String>,
    limit: Option<usize>,
}

/// Lines given if no limit is.
const LINES_DEFAULT: usize = 1_000;

async fn deliveries(State(sandbox): State<Sandbox>, Query(selection): Query<Selection>) -> Response {
    ok(&sandbox.outbox.log(
        selection.payment_id.as_deref(),
        selection.limit.unwrap_or(LINES_DEFAULT),
    ))
}

async fn clear_deliveries(State(sandbox): State<Sandbox>) -> Response {
    sandbox.outbox.clear_log();
    ok(&json!({}))
}

async fn release_held(State(sandbox): State<Sandbox>) -> Response {
    sandbox.outbox.release(None, &sandbox.random);
    ok(&json!({}))
}

async fn set_webhook_urls(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    let set = parse::<Vec<String>>(&body).and_then(|urls| {
        sandbox
            .set_webhook_urls(urls)
            .map_err(|error| Refusal::new("RequestParseFailed", error.to_string()))
    });
    set.map_or_else(|refusal| refused(&refusal), |()| ok(&json!({})))
}

/// A webhook made by hand: `body` goes out signed as it is, be it an unknown type, a foreign store or no JSON at all.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HandMade {
    /// JSON, or a string that is sent as it stands.
    body: Value,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

async fn send_webhook(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    let sent = parse::<HandMade>(&body).and_then(|made| {
        let configured = || {
            sandbox
                .webhook_urls
                .read()
                .map(|urls| urls.to_vec())
                .unwrap_or_default()
        };
        let urls = made.urls.unwrap_or_else(configured);
        crate::config::check_webhook_urls(&urls, &sandbox.secrets)
            .map_err(|error| Refusal::new("RequestParseFailed", error.to_string()))?;
        let text = match &made.body {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let make = |url| {
            std::sync::Arc::new(Webhook {
                id: format!("wh_{}", sandbox.random.uuid()),
                kind: made.body["type"].as_str().unwrap_or("hand-made").to_owned(),
                payment_id: made.body["data"]["paymentId"].as_str().map(str::to_owned),
                transaction_id: String::new(),
                payment_status: None,
                url,
                content_type: "application/json",
                body: Bytes::from(text.clone()),
                at: sandbox.config.clock.now(),
            })
        };
        let webhooks: Vec<_> = urls.into_iter().map(make).collect();
        let ids: Vec<&str> = webhooks.iter().map(|webhook| webhook.id.as_str()).collect();
        let answer = json!({"webhookIds": ids});
        sandbox.send(webhooks);
        Ok(answer)
    });
    sent.map_or_else(|refusal| refused(&refusal), |answer| ok(&answer))
}
