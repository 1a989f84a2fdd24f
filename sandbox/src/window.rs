//! Pages in place of PortOne's payment window: a person plays the shopper and the bank with buttons.
//!
//! `GET /window/{paymentId}` takes the fields of `requestPayment` as query parameters and opens the window;
//! `customer`, `virtualAccount` and `noticeUrls` are JSON. After paying or failing, the browser goes back to
//! `redirectUrl` with the outcome in the query, which proves nothing: anybody can call that address.

pub(crate) mod page;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value};

use self::page::View;
use crate::config::is_http_url;
use crate::control::act::Act;
use crate::control::action::Action;
use crate::portone::Sandbox;
use crate::portone::attempt::{Refusal, Status};
use crate::portone::payment::Payment;

/// Payments on the first page.
const INDEX_LINES: usize = 100;

pub(crate) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/", get(index))
        .route("/window/{paymentId}", get(open))
        .route("/window/{paymentId}/{action}", post(press))
}

/// Everything comes from this page itself: no scripts, nothing from elsewhere. A form may lead back to the shop.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                                       form-action 'self' http: https:";

pub(crate) fn html(status: StatusCode, body: String) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_SECURITY_POLICY),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (status, headers, body).into_response()
}

async fn index(State(sandbox): State<Sandbox>) -> Response {
    let (lines, count) = sandbox.latest(INDEX_LINES);
    html(StatusCode::OK, page::index(&lines, count))
}

/// The fields of a query string or of a form; numbers and JSON where `requestPayment` has them.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(encoded: &str) -> Result<Self, Refusal> {
        let wrong = |why: String| Refusal::new("RequestParseFailed", why);
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(encoded).map_err(|error| wrong(error.to_string()))?;
        let mut fields = Map::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            let value = match name.as_str() {
                "totalAmount" | "taxFreeAmount" | "vatAmount" => {
                    let number: i64 = value.parse().map_err(|_| wrong(format!("{name} must be an integer")))?;
                    number.into()
                }
                "customer" | "virtualAccount" | "noticeUrls" => {
                    serde_json::from_str(&value).map_err(|_| wrong(format!("{name} must be JSON")))?
                }
                _ => value.into(),
            };
            fields.insert(name, value);
        }
        Ok(Self(fields))
    }

    /// Where the browser goes at the end. Anything but `http(s)` is refused, so that no page runs a script by it.
    fn redirect_url(&self) -> Result<Option<String>, Refusal> {
        match self.0.get("redirectUrl").and_then(Value::as_str) {
            Some(url) if !is_http_url(url) => Err(Refusal::new(
                "RequestParseFailed",
                "redirectUrl must begin with http:// or https://",
            )),
            url => Ok(url.map(str::to_owned)),
        }
    }

    fn into_act(self) -> Result<Act, Refusal> {
        serde_json::from_value(Value::Object(self.0))
            .map_err(|error| Refusal::new("RequestParseFailed", error.to_string()))
    }
}

/// The shop's address with the outcome added to its query, named as the browser SDK names it.
pub(crate) fn way_back(redirect_url: &str, outcome: &[(&str, &str)]) -> String {
    match reqwest::Url::parse(redirect_url) {
        Ok(mut url) => {
            url.query_pairs_mut().extend_pairs(outcome);
            url.into()
        }
        Err(_) => redirect_url.to_owned(),
    }
}

/// A page that says why not, with a way back that carries the code.
fn refused(id: &str, refusal: &Refusal, redirect_url: Option<&str>) -> Response {
    let outcome = [
        ("transactionType", "PAYMENT"),
        ("paymentId", id),
        ("code", refusal.code),
        ("message", refusal.message.as_str()),
    ];
    let back = redirect_url.map(|url| way_back(url, &outcome));
    let status = if refusal.code == "PaymentNotFound" {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::CONFLICT
    };
    html(status, page::refusal(id, refusal, back.as_deref()))
}

async fn open(State(sandbox): State<Sandbox>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Response {
    let fields = match Fields::parse(query.as_deref().unwrap_or_default()) {
        Ok(fields) => fields,
        Err(refusal) => return refused(&id, &refusal, None),
    };
    let redirect_url = match fields.redirect_url() {
        Ok(url) => url,
        Err(refusal) => return refused(&id, &refusal, None),
    };
    let opened = fields.into_act().and_then(|act| {
        if act
            .store_id
            .as_ref()
            .is_some_and(|store| *store != sandbox.config.store_id)
        {
            return Err(Refusal::new("StoreNotFound", "the simulator does not know this store"));
        }
        open_once(&sandbox, &id, &act)
    });
    match opened {
        Ok(()) => show(&sandbox, &id, redirect_url.as_deref()),
        Err(refusal) => refused(&id, &refusal, redirect_url.as_deref()),
    }
}

/// Opens the window unless it already shows this: a reload is not another attempt, and looking at a payment from the
/// list is none either.
fn open_once(sandbox: &Sandbox, id: &str, act: &Act) -> Result<(), Refusal> {
    let shows_it = |payment: &mut Payment| match payment.current() {
        None => false,
        Some(_) if act.total_amount.is_none() => true,
        Some(attempt) => {
            let is_same = act.total_amount == Some(attempt.opening.total);
            is_same || payment.settled().is_some()
        }
    };
    match sandbox.store.with(id, shows_it) {
        Some(true) => Ok(()),
        None if act.total_amount.is_none() => Err(Refusal::new(
            "PaymentNotFound",
            "nothing was registered under this payment id; totalAmount is missing",
        )),
        _ => sandbox.act(id, Action::Open, act).map(|_| ()),
    }
}

fn show(sandbox: &Sandbox, id: &str, redirect_url: Option<&str>) -> Response {
    let Some(view) = sandbox.store.with(id, |payment| View::of(payment)).flatten() else {
        return refused(
            id,
            &Refusal::new("PaymentNotFound", "there is no such payment"),
            redirect_url,
        );
    };
    let tx_id = view.transaction_id.as_str();
    let mut outcome = vec![("transactionType", "PAYMENT"), ("paymentId", id), ("txId", tx_id)];
    if matches!(view.status, Status::Ready | Status::PayPending) {
        // Leaving an open window is closing it; codes outside PortOne's list must be coped with as well.
        outcome.extend([
            ("code", "PAY_PROCESS_CANCELED"),
            ("message", "구매자가 결제를 취소했습니다"),
        ]);
    }
    let back = redirect_url.map(|url| way_back(url, &outcome));
    html(StatusCode::OK, page::window(&view, redirect_url, back.as_deref()))
}

/// A button was pressed.
async fn press(State(sandbox): State<Sandbox>, Path((id, action)): Path<(String, String)>, body: Bytes) -> Response {
    let encoded = std::str::from_utf8(&body).unwrap_or_default();
    let parsed = Fields::parse(encoded).and_then(|fields| Ok((fields.redirect_url()?, fields.into_act()?)));
    let (redirect_url, act) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return refused(&id, &refusal, None),
    };
    let action = match action.as_str() {
        "open" => Ok(Action::Open),
        "pay" => Ok(Action::Pay),
        "fail" => Ok(Action::Fail),
        "issue" => Ok(Action::Issue),
        "deposit" => Ok(Action::Deposit),
        _ => Err(Refusal::new("ActionNotFound", "there is no such button")),
    };
    let done = action.and_then(|action| Ok((action, sandbox.act(&id, action, &act)?)));
    let (action, answer) = match done {
        Ok(done) => done,
        Err(refusal) => return refused(&id, &refusal, redirect_url.as_deref()),
    };
    let leaves = matches!(action, Action::Pay | Action::Fail);
    match redirect_url {
        Some(url) if leaves => {
            let tx_id = answer["txId"].as_str().unwrap_or_default();
            let mut outcome = vec![
                ("transactionType", "PAYMENT"),
                ("paymentId", id.as_str()),
                ("txId", tx_id),
            ];
            if action == Action::Fail {
                outcome.extend([
                    ("code", "PGProviderError"),
                    ("message", "결제 승인이 거절되었습니다"),
                    ("pgCode", "REJECT_CARD_COMPANY"),
                    ("pgMessage", "결제 승인이 거절되었습니다"),
                ]);
            }
            Redirect::to(&way_back(&url, &outcome)).into_response()
        }
        url => Redirect::to(&page::address(&id, url.as_deref())).into_response(),
    }
}
