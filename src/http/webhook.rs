//! `POST /webhooks/portone`, step by step as PROTOCOL B4 says. A webhook is a hint: once its signature
//! is right, PortOne is asked, and the answer alone counts.

use axum::{
    extract::{Request, State},
    http::header,
};
use jangbu_events::{Metadata, PaymentId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    auth::Caller,
    context::RequestContext,
    extract::read_body,
    payments,
    problem::{Code, Problem},
    views::Answer,
};
use crate::portone::webhook::{Notice, SignatureHeaders, parse};

/// PortOne need not send it again. Nothing more is told.
#[derive(Debug, Serialize, ToSchema)]
pub struct Received {
    /// Always `ok`.
    status: &'static str,
}

/// From PortOne. 200 for everything that need not come again, known or not; 400 for a wrong signature,
/// a wrong time or a body that is none; 503 while PortOne or the database does not answer, so that
/// PortOne sends it again.
#[utoipa::path(post, path = "/webhooks/portone", tag = "payments",
    params(("webhook-id" = String, Header), ("webhook-timestamp" = String, Header),
        ("webhook-signature" = String, Header)),
    request_body(content = String, description = "as PortOne signed it", content_type = "application/json"),
    responses((status = 200, body = Received), (status = 400, description = "webhook_refused"),
        (status = 413, description = "body_too_large"),
        (status = 503, description = "payments_not_configured, payment_provider_unreachable, outcome_unknown")))]
pub async fn receive(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
) -> Result<Answer<Received>, Problem> {
    let result = handle(&app, &context, request).await;
    let outcome = match &result {
        Ok(outcome) => outcome,
        Err(problem) => problem.code().as_str(),
    };
    metrics::counter!("jangbu_webhooks_total", "outcome" => outcome).increment(1);
    result.map(|_| Answer::ok(Received { status: "ok" }))
}

/// What became of it, in one word for the counter.
async fn handle(app: &App, context: &RequestContext, request: Request) -> Result<&'static str, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = read_body(&parts.headers, body).await?;
    let Some(verifier) = &app.webhook else {
        // Nobody's word can be checked; PortOne tries again while somebody configures the secrets.
        return Err(Code::PaymentsNotConfigured.into());
    };
    let signature = SignatureHeaders::from_map(&parts.headers);
    verifier
        .verify(signature, &bytes, app.surroundings.now())
        .map_err(|error| refused(context, &error))?;
    let content_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let notice = parse(&bytes, content_type).map_err(|error| refused(context, &error))?;
    let (payment_id, store_id, event) = match notice {
        Notice::Transaction {
            payment_id,
            store_id,
            event,
            ..
        } => (payment_id, store_id, event),
        Notice::BillingKey => return Ok("billing_key"),
        Notice::Unknown { kind } => {
            tracing::info!(request.id = context.id(), webhook.kind = kind, "an unknown webhook");
            return Ok("unknown_type");
        }
    };
    let own_store = app.config.portone.api.as_ref().map(|api| api.store_id.as_str());
    if let (Some(told), Some(own)) = (store_id.as_deref(), own_store)
        && told != own
    {
        tracing::warn!(request.id = context.id(), "a webhook of another store");
        return Ok("foreign_store");
    }
    let Some(payment_id) = PaymentId::from_portone(&payment_id) else {
        return Ok("foreign_payment");
    };
    let metadata = Metadata {
        actor_kind: "portone".to_owned(),
        actor_id: None,
        ..context.metadata(app, &Caller::Nobody, "webhook").await?
    };
    match payments::settle(app, payment_id, metadata).await? {
        // The console's test button, or another system's payment in the same store.
        None => Ok("unknown_payment"),
        Some(settled) => {
            tracing::info!(
                request.id = context.id(),
                webhook.event = event,
                payment.id = %payment_id,
                order.id = %settled.order_id,
                "settled after a webhook"
            );
            Ok("settled")
        }
    }
}

/// The sender is told nothing but 400.
fn refused(context: &RequestContext, why: &dyn std::fmt::Display) -> Problem {
    tracing::warn!(request.id = context.id(), %why, "a webhook was refused");
    Code::WebhookRefused.into()
}
