//! `POST /carts/{id}/checkout`: a cart becomes an order that waits for its payment.

use axum::extract::State;
use jangbu_events::{CartId, Orderer, PayMethod, Recipient};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    auth::Caller,
    carts,
    checks::Checks,
    extract::Path,
    keys::{Command, json_body},
    problem::{Code, Problem, Text},
    views::{Answer, MoneyView, Won, time, word},
};
use crate::{
    checkout::{CheckOutRequest, CheckedOut},
    consent::{self, Wording},
    portone::RequestPayment,
};

/// What a buyer says at the till.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "orderer": {"name": "홍길동", "phone": "010-1234-5678", "email": "hong@example.com"},
    "recipient": {"name": "홍길동", "phone": "010-1234-5678", "postcode": "06236",
        "road": "서울특별시 강남구 테헤란로 1", "detail": "101호"},
    "consents": {"privacy": true}, "pay_method": "CARD"
}))]
pub struct CheckOut {
    /// Who orders.
    orderer: OrdererInput,
    /// Who receives the goods.
    recipient: RecipientInput,
    /// What the orderer agrees to.
    #[serde(default)]
    consents: ConsentsInput,
    /// How to pay.
    #[schema(value_type = String, example = "CARD")]
    pay_method: PayMethod,
    /// The total that the buyer saw. Where prices have changed since the goods were put into the cart,
    /// checkout needs it: it must equal the new total.
    expected_total: Option<Won>,
    /// Where the payment window sends a phone's browser back to, with `http://` or `https://`.
    redirect_url: Option<String>,
}

/// Who orders.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrdererInput {
    /// At most 50 characters.
    name: String,
    /// A Korean number in any spelling.
    phone: String,
    /// At most 254 characters.
    email: String,
}

/// Who receives the goods.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecipientInput {
    /// At most 50 characters.
    name: String,
    /// A Korean number in any spelling; may be a safe number.
    phone: String,
    /// Five digits.
    postcode: String,
    /// Road-name address, at most 200 characters.
    road: String,
    /// Flat, floor; at most 200 characters.
    detail: Option<String>,
}

/// What the orderer agrees to.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConsentsInput {
    /// Collection and use of personal data for this order: must be true.
    #[serde(default)]
    privacy: bool,
    /// Which wording was shown, as `GET /api/v1/consents` gave it; must be the present one.
    privacy_version: Option<String>,
}

json_body!(key required: CheckOut);

impl std::fmt::Debug for CheckOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckOut([personal])")
    }
}

/// The order, and what opens its payment window.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckedOutView {
    /// The order.
    order: PlacedOrderView,
    /// For `PortOne.requestPayment`, verbatim.
    payment_request: RequestPayment,
}

/// An order that waits for its payment.
#[derive(Debug, Serialize, ToSchema)]
struct PlacedOrderView {
    /// `ord_…`.
    id: String,
    /// `yymmdd-XXXXXXXX`.
    number: String,
    /// `awaiting_payment`.
    status: String,
    /// What the buyer pays.
    total: MoneyView,
    /// Until when it waits.
    expires_at: String,
}

impl CheckOut {
    fn checked(&self) -> Result<CheckOutRequest, Problem> {
        if !self.consents.privacy {
            return Err(Problem::new(Code::ConsentRequired).at("/consents/privacy"));
        }
        let mut checks = Checks::default();
        let (orderer, recipient) = (&self.orderer, &self.recipient);
        let request = (|| {
            let name = checks.parse("/orderer/name", &orderer.name);
            let phone = checks.parse("/orderer/phone", &orderer.phone);
            let email = checks.parse("/orderer/email", &orderer.email);
            let recipient_name = checks.parse("/recipient/name", &recipient.name);
            let recipient_phone = checks.parse("/recipient/phone", &recipient.phone);
            let postcode = checks.parse("/recipient/postcode", &recipient.postcode);
            let road = checks.parse("/recipient/road", &recipient.road);
            // Forms send a field that was left empty.
            let detail = recipient.detail.as_deref().filter(|detail| !detail.trim().is_empty());
            let detail = checks.parse_if_given("/recipient/detail", detail);
            let shown = self.consents.privacy_version.as_deref();
            if shown.is_some_and(|shown| shown != consent::PRIVACY.version) {
                checks.refuse(
                    "/consents/privacy_version",
                    "wording_outdated",
                    Text::new(
                        "is not the present wording; show that and ask again",
                        "현재 동의 문구가 아닙니다. 새 문구를 보여 주고 다시 동의를 받아야 합니다.",
                    ),
                );
            }
            let redirect_url = self.redirect_url.clone();
            if let Some(url) = &redirect_url
                && !is_web_address(url)
            {
                checks.refuse(
                    "/redirect_url",
                    "redirect_url_invalid",
                    Text::new(
                        "must begin with http:// or https:// and have at most 2,000 characters",
                        "http:// 또는 https://로 시작하는 2,000자 이하의 주소여야 합니다.",
                    ),
                );
            }
            Some(CheckOutRequest {
                orderer: Orderer {
                    name: name?,
                    phone: phone?,
                    email: email?,
                },
                recipient: Recipient {
                    name: recipient_name?,
                    phone: recipient_phone?,
                    postcode: postcode?,
                    road: road?,
                    detail,
                },
                pay_method: self.pay_method,
                expected_total: self.expected_total.map(|total| total.0),
                redirect_url,
            })
        })();
        checks.finish(request)
    }
}

fn is_web_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    url.len() <= 2_000 && rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()))
}

/// Makes an order of the cart, holds its stock, and answers with what opens the payment window. Needs
/// an `Idempotency-Key`; the same request again gives the same order.
#[utoipa::path(post, path = "/api/v1/carts/{cart_id}/checkout", tag = "carts",
    security(("guest" = []), ("member" = [])), request_body = CheckOut,
    params(("cart_id" = String, Path, description = "`crt_…`"),
        ("Idempotency-Key" = String, Header, description = "chosen by the client, required")),
    responses((status = 201, body = CheckedOutView), (status = 400, description = "idempotency_key_required"),
        (status = 404, description = "cart_not_found"),
        (status = 409, description = "sold_out with lines, price_changed with both prices, cart_checked_out, order_ended"),
        (status = 422, description = "consent_required, cart_empty, product_not_for_sale, validation_failed"),
        (status = 503, description = "payments_not_configured, outcome_unknown")))]
pub async fn check_out(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<CartId>,
    command: Command<CheckOut>,
) -> Result<Answer<CheckedOutView>, Problem> {
    carts::require_owner(&app, &caller, id).await?;
    let request = command.body.checked()?;
    let checked_out = app.checkout.check_out(id, request, command.envelope(&app)).await?;
    let location = format!("/api/v1/orders/{}", checked_out.order_id);
    let (position, duplicate) = (checked_out.position, checked_out.duplicate);
    Ok(Answer::ok(CheckedOutView::of(checked_out)?)
        .created(&location)
        .at(position)
        .replayed(duplicate))
}

impl CheckedOutView {
    fn of(checked_out: CheckedOut) -> Result<Self, Problem> {
        let order = &checked_out.order;
        let (Some(details), Some(status)) = (order.details(), order.status()) else {
            return Err(Problem::internal("a cart was checked out into no order"));
        };
        Ok(Self {
            order: PlacedOrderView {
                id: checked_out.order_id.to_string(),
                number: details.order_number.clone(),
                status: word(status),
                total: details.totals.total.into(),
                expires_at: time(details.expires_at),
            },
            payment_request: checked_out.payment_request,
        })
    }
}

/// What buyers are asked to agree to.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsentsView {
    /// Collection and use of personal data for one order: required.
    privacy: WordingView,
}

/// A wording that buyers agree to.
#[derive(Debug, Serialize, ToSchema)]
struct WordingView {
    /// The day it came into force.
    #[schema(example = "2026-03-01")]
    version: &'static str,
    /// In Korean.
    text: &'static str,
    /// Of the text in UTF-8, 64 hex digits.
    sha256: String,
}

impl From<Wording> for WordingView {
    fn from(wording: Wording) -> Self {
        Self {
            version: wording.version,
            text: wording.text,
            sha256: wording.sha256(),
        }
    }
}

/// The wordings to show before checkout.
#[utoipa::path(get, path = "/api/v1/consents", tag = "carts", responses((status = 200, body = ConsentsView)))]
pub async fn consents() -> Answer<ConsentsView> {
    Answer::ok(ConsentsView {
        privacy: consent::PRIVACY.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(change: impl FnOnce(&mut serde_json::Value)) -> Result<CheckOutRequest, Code> {
        let mut body = serde_json::json!({
            "orderer": {"name": "홍길동", "phone": "010 1234 5678", "email": "Hong@Example.com"},
            "recipient": {"name": "김수", "phone": "0507-1234-5678", "postcode": "06236",
                "road": "서울특별시 강남구 테헤란로 1", "detail": " "},
            "consents": {"privacy": true}, "pay_method": "CARD", "expected_total": 39_000,
        });
        change(&mut body);
        let body: CheckOut = super::super::extract::json(body.to_string().as_bytes()).map_err(|p| p.code())?;
        body.checked().map_err(|problem| problem.code())
    }

    #[test]
    fn a_checkout_is_read_as_people_write_it() {
        let request = body(|_| {}).expect("it is complete");
        assert_eq!(request.orderer.phone.as_str(), "+821012345678");
        assert_eq!(request.orderer.email.as_str(), "hong@example.com");
        assert_eq!((request.recipient.detail, request.expected_total), (None, Some(39_000)));
    }

    #[test]
    fn nothing_is_taken_without_consent() {
        let consent = |value: serde_json::Value| body(|body| body["consents"] = value).map(|_| ());
        assert_eq!(
            consent(serde_json::json!({"privacy": false})),
            Err(Code::ConsentRequired)
        );
        assert_eq!(consent(serde_json::json!({})), Err(Code::ConsentRequired));
        assert_eq!(
            consent(serde_json::json!({"privacy": true, "privacy_version": "2001-01-01"})),
            Err(Code::ValidationFailed)
        );
        assert_eq!(
            body(|body| _ = body.as_object_mut().expect("an object").remove("consents")).map(|_| ()),
            Err(Code::ConsentRequired)
        );
    }

    #[test]
    fn wrong_fields_and_unknown_ones_are_refused() {
        for (pointer, value) in [
            ("/orderer/phone", "1234"),
            ("/orderer/name", "900101-1234567"),
            ("/recipient/postcode", "123-456"),
            ("/pay_method", "GOLD"),
        ] {
            let refused = body(|body| *body.pointer_mut(pointer).expect("a field") = value.into());
            assert_eq!(refused.map(|_| ()), Err(Code::ValidationFailed), "{pointer}");
        }
        for url in ["javascript:alert(1)", "https://", "https://a b", "//shop.example"] {
            let refused = body(|body| body["redirect_url"] = url.into());
            assert_eq!(refused.map(|_| ()), Err(Code::ValidationFailed), "{url}");
        }
        assert_eq!(
            body(|body| body["coupon"] = "x".into()).map(|_| ()),
            Err(Code::ValidationFailed)
        );
    }
}
