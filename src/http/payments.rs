//! Payments for whoever pays: the browser comes back, and asks how it went. Nothing that it brings is
//! believed: PortOne is asked (PROTOCOL D3).

use std::{str::FromStr, time::Duration};

use axum::{
    extract::State,
    response::{Html, IntoResponse, Response},
};
use jangbu_domain::{Order, Payment};
use jangbu_events::PaymentId;

use super::{
    App,
    auth::Caller,
    context::RequestContext,
    extract::{self, Path},
    orders::{Reader, Whole},
    problem::{Code, Problem},
    views::{Answer, PaymentView, SettledView},
};
use crate::payments::{SettleError, Settled};

/// How long PortOne and everything that follows may take (DESIGN 7).
pub const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// A payment by our id (`pay_…`) or by PortOne's (the digits alone).
#[derive(Debug, Clone, Copy)]
pub struct AnyPaymentId(pub PaymentId);

impl FromStr for AnyPaymentId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse()
            .ok()
            .or_else(|| PaymentId::from_portone(text))
            .map(Self)
            .ok_or(())
    }
}

/// The payment as the shop knows it; PortOne is not asked.
#[utoipa::path(get, path = "/api/v1/payments/{payment_id}", tag = "payments",
    security(("guest" = []), ("member" = [])),
    params(("payment_id" = String, Path, description = "`pay_…`, or the digits alone")),
    responses((status = 200, body = PaymentView), (status = 404, description = "payment_not_found")))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Path(AnyPaymentId(id)): Path<AnyPaymentId>,
) -> Result<Answer<PaymentView>, Problem> {
    let whole = owned(&app, &caller, id).await?;
    // The order shows the payment that counts for it, which a rejected one is not.
    let of_order = whole.view(&app, Reader::Entitled).await?.payment;
    let payment = app.executor.load::<Payment>(id).await?;
    let shown = of_order
        .filter(|payment| payment.id == id.to_string())
        .or_else(|| PaymentView::of(id, &payment.state, None));
    let view = shown.ok_or_else(|| Problem::new(Code::PaymentNotFound))?;
    Ok(Answer::ok(view).at(payment.position))
}

/// The payment's order, if it is the caller's.
pub async fn owned(app: &App, caller: &Caller, id: PaymentId) -> Result<Whole, Problem> {
    let payment = app.executor.load::<Payment>(id).await?;
    let Some(request) = payment.state.request() else {
        return Err(Code::PaymentNotFound.into());
    };
    let order = app.executor.load::<Order>(request.order_id).await?;
    if !order.state.details().is_some_and(|details| caller.is(&details.owner)) {
        return Err(Code::PaymentNotFound.into());
    }
    Whole::with_payment(app, request.order_id, order).await
}

/// The payment window has closed: asks PortOne how the payment stands and acts on that, as the webhook
/// does; whichever comes second finds nothing to do. A body is neither needed nor looked at.
#[utoipa::path(post, path = "/api/v1/payments/{payment_id}/complete", tag = "payments",
    security(("guest" = []), ("member" = [])),
    params(("payment_id" = String, Path, description = "`pay_…`, or the digits alone")),
    responses((status = 200, body = SettledView), (status = 404, description = "payment_not_found"),
        (status = 503, description = "payments_not_configured, payment_provider_unreachable, outcome_unknown")))]
pub async fn complete(
    State(app): State<App>,
    context: RequestContext,
    caller: Caller,
    Path(AnyPaymentId(id)): Path<AnyPaymentId>,
    request: axum::extract::Request,
) -> Result<Answer<SettledView>, Problem> {
    let (parts, body) = request.into_parts();
    extract::read_body(&parts.headers, body).await?;
    owned(&app, &caller, id).await?;
    let metadata = context.metadata(&app, &caller, "http").await?;
    let Some(settled) = settle(&app, id, metadata).await? else {
        return Err(Code::PaymentNotFound.into());
    };
    let position = settled.position();
    let receipt_url = settled.seen.as_ref().and_then(|seen| seen.receipt_url.clone());
    let whole = Whole::with_payment(&app, settled.order_id, settled.order).await?;
    let order = whole.view(&app, Reader::Entitled).await?;
    let mut payment = order
        .payment
        .clone()
        .filter(|payment| payment.id == id.to_string())
        .or_else(|| PaymentView::of(id, &settled.payment.state, None))
        .ok_or_else(|| Problem::new(Code::PaymentNotFound))?;
    payment.receipt_url = receipt_url;
    Ok(Answer::ok(SettledView { payment, order }).at(position.max(whole.position())))
}

/// Asks PortOne and acts on the answer, in a task of its own: a client that goes away, or a caller that
/// waits no longer, does not stop what has begun.
pub async fn settle(app: &App, id: PaymentId, metadata: jangbu_events::Metadata) -> Result<Option<Settled>, Problem> {
    let payments = app.payments.clone();
    let settling = tokio::spawn(async move { payments.settle(id, metadata).await });
    match tokio::time::timeout(SETTLE_WITHIN, settling).await {
        Ok(Ok(Err(SettleError::ForeignStore))) => Ok(None),
        Ok(Ok(settled)) => settled.map_err(Into::into),
        Ok(Err(panic)) => Err(Problem::internal(panic)),
        Err(_) => Err(Problem::new(Code::OutcomeUnknown)
            .retry_after(1)
            .because("a payment was not settled in time")),
    }
}

/// Where a phone's browser comes back to (`redirectUrl`). It brings no token, so the page says the same
/// to everybody; what is in the query only tells which payment to look at.
#[utoipa::path(get, path = "/api/v1/payments/return", tag = "payments",
    params(("paymentId" = Option<String>, Query)),
    responses((status = 200, body = String, content_type = "text/html", description = "a page in Korean")))]
pub async fn come_back(State(app): State<App>, context: RequestContext, request: axum::extract::Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let given: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
    let id = given
        .iter()
        .find(|(name, _)| name == "paymentId")
        .and_then(|(_, id)| PaymentId::from_portone(id));
    if let Some(id) = id
        && let Err(problem) = settle_for_nobody(&app, &context, id).await
    {
        // The webhook, or the payment's deadline, finds it again.
        let (code, cause) = (problem.code().as_str(), problem.cause().unwrap_or("-"));
        tracing::warn!(request.id = context.id(), code, cause, "a return could not be settled");
    }
    Html(PAGE).into_response()
}

async fn settle_for_nobody(app: &App, context: &RequestContext, id: PaymentId) -> Result<(), Problem> {
    let metadata = context.metadata(app, &Caller::Nobody, "http").await?;
    settle(app, id, metadata).await.map(|_| ())
}

const PAGE: &str = r#"<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>결제 확인</title>
</head>
<body>
<main>
<h1>결제창이 닫혔습니다</h1>
<p>결제 결과를 확인하고 있습니다. 쇼핑몰의 주문 조회 화면에서 결과를 확인해 주세요.</p>
<p>결제되지 않은 주문은 기한이 지나면 자동으로 취소되며 금액은 청구되지 않습니다.</p>
</main>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_goes_by_two_names() {
        let digits = "5b1d9f0c3a7e5d2f8c6b4a190e7d5c3b";
        let ours: AnyPaymentId = format!("pay_{digits}").parse().expect("ours");
        let theirs: AnyPaymentId = digits.parse().expect("theirs");
        assert_eq!(ours.0, theirs.0);
        for bad in [
            "",
            "pay_",
            "order-0001",
            &digits.to_uppercase(),
            &format!("ord_{digits}"),
        ] {
            assert!(bad.parse::<AnyPaymentId>().is_err(), "{bad}");
        }
    }
}
