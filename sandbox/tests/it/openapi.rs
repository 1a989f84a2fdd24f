//! Every kind of answer against PortOne's official description, which the variable `PORTONE_OPENAPI` names. The
//! description is not part of this repository.

use jangbu_sandbox::ClosedAccount;
use reqwest::Method;
use serde_json::{Value, json};

use crate::schema::Description;
use crate::support::{Sim, cancel_body, refund_account, reply};

const METHODS: [&str; 11] = [
    "CARD",
    "VIRTUAL_ACCOUNT",
    "TRANSFER",
    "MOBILE",
    "GIFT_CERTIFICATE",
    "EASY_PAY",
    "CONVENIENCE_STORE",
    "PAYPAL",
    "ALIPAY",
    "ALIPAY_PLUS",
    "CRYPTO",
];

struct Checker {
    description: Description,
    sim: Sim,
}

impl Checker {
    /// Calls, checks the answer's shape, and gives it back. `template` is the path in the description.
    async fn call(&self, method: Method, template: &str, id: &str, body: Option<Value>, expected: u16) -> Value {
        let path = template.replace("{paymentId}", id);
        let mut request = self.sim.api(method.clone(), &path);
        request = match (body, &method) {
            (None, _) => request,
            (Some(body), &Method::GET) => request.query(&[("requestBody", body.to_string())]),
            (Some(body), _) => request.body(body.to_string()),
        };
        let (status, answer) = reply(request).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        self.check(&method, template, status, &answer);
        answer
    }

    fn check(&self, method: &Method, template: &str, status: u16, answer: &Value) {
        let verb = method.as_str().to_lowercase();
        if let Err(error) = self.description.check(&verb, template, status, answer) {
            panic!("{verb} {template} {status}: {error}\n{answer}");
        }
    }

    /// Reads one payment by all four ways.
    async fn read(&self, id: &str, status: &str) {
        let payment = self.call(Method::GET, "/payments/{paymentId}", id, None, 200).await;
        assert_eq!(payment["status"], status, "{id}");
        self.call(Method::GET, "/payments/{paymentId}/transactions", id, None, 200)
            .await;
        let search = json!({"filter": {"textSearch": [{"field": "PAYMENT_ID", "value": id}]}});
        let list = self.call(Method::GET, "/payments", "", Some(search), 200).await;
        let items = list["items"].as_array().expect("items is a list");
        assert_eq!(
            (items.len(), &items[0]["transactionId"]),
            (1, &payment["transactionId"])
        );
    }

    async fn cancel(&self, id: &str, body: Value, expected: u16) {
        self.call(Method::POST, "/payments/{paymentId}/cancel", id, Some(body), expected)
            .await;
    }
}

/// The official description, if there is one.
fn description() -> Option<Description> {
    let Ok(path) = std::env::var("PORTONE_OPENAPI") else {
        println!("SKIPPED: PORTONE_OPENAPI is not set");
        return None;
    };
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("PORTONE_OPENAPI={path}: {error}"));
    Some(Description::parse(&text))
}

async fn checker(closed: ClosedAccount) -> Option<Checker> {
    let description = description()?;
    // Something listens and nothing answers properly: webhooks appear in the payments as failed ones.
    let shop = crate::support::Shop::open().await;
    shop.answer(std::iter::repeat_n(500, 20));
    let sim = Sim::with(|config| {
        config.closed_account = closed;
        config.webhook_urls = vec![shop.url.clone()];
    })
    .await;
    Some(Checker { description, sim })
}

fn opening(method: &str) -> Value {
    json!({
        "totalAmount": 11_000, "taxFreeAmount": 1_000, "payMethod": method, "orderName": "우산",
        "customData": {"cart": 7}, "platformType": "MOBILE",
        "customer": {"customerId": "c1", "firstName": "길동", "lastName": "홍", "phoneNumber": "01012345678",
                     "email": "hong@example.com", "gender": "OTHER", "birthYear": "1990", "zipcode": "04524",
                     "address": {"addressLine1": "세종대로 110", "addressLine2": "", "province": "서울"}},
    })
}

#[tokio::test]
async fn every_status_with_every_method_has_the_official_shape() {
    let Some(checker) = checker(ClosedAccount::Failed).await else {
        return;
    };
    let sim = &checker.sim;
    for method in METHODS {
        let act = async |id: &str, action: &str, body: Value| sim.act(id, action, body).await;
        let id = |state: &str| format!("{state}-{method}");
        for (action, status) in [
            ("open", "READY"),
            ("pend", "PAY_PENDING"),
            ("fail", "FAILED"),
            ("pay", "PAID"),
        ] {
            act(&id(action), action, opening(method)).await;
            checker.read(&id(action), status).await;
        }
        act(&id("issue"), "issue", opening(method)).await;
        checker.read(&id("issue"), "VIRTUAL_ACCOUNT_ISSUED").await;
        act(&id("pay"), "dispute", json!({})).await;
        checker.read(&id("pay"), "PAID").await;
        act(&id("pay"), "resolve-dispute", json!({})).await;
        let partly = json!({"reason": "r", "amount": 4_000, "refundAccount": refund_account()});
        let all = json!({"reason": "r", "refundAccount": refund_account(), "currentCancellableAmount": 7_000});
        for (fault, answer) in [("cancel_failed", "PAID"), ("cancel_requested", "PAID")] {
            sim.fault(json!({"fault": fault, "times": 1})).await;
            checker.cancel(&id("pay"), partly.clone(), 200).await;
            checker.read(&id("pay"), answer).await;
        }
        act(&id("pay"), "complete-cancel", json!({})).await;
        checker.read(&id("pay"), "PARTIAL_CANCELLED").await;
        checker.cancel(&id("pay"), all, 200).await;
        checker.read(&id("pay"), "CANCELLED").await;
    }
    checker.read("pay-CARD", "CANCELLED").await;
    checker
        .call(Method::GET, "/payments-by-cursor", "", Some(json!({"size": 1000})), 200)
        .await;
    checker
        .call(Method::GET, "/payments", "", Some(json!({"page": {"size": 1000}})), 200)
        .await;
}

#[tokio::test]
async fn every_error_of_a_cancel_has_the_official_shape() {
    let Some(checker) = checker(ClosedAccount::Cancelled).await else {
        return;
    };
    let sim = &checker.sim;
    sim.act("paid", "pay", opening("CARD")).await;
    sim.act("ready", "open", opening("CARD")).await;
    sim.act("done", "pay", opening("CARD")).await;
    checker.cancel("done", cancel_body(None), 200).await;
    let cancels = [
        ("paid", json!({}), 400),
        ("none", cancel_body(None), 404),
        ("ready", cancel_body(None), 409),
        ("done", cancel_body(None), 409),
        ("paid", json!({"reason": "r", "storeId": "store-other"}), 403),
        ("paid", json!({"reason": "r", "currentCancellableAmount": 1}), 409),
        ("paid", cancel_body(Some(11_001)), 409),
        ("paid", cancel_body(Some(10_001)), 409),
        (
            "paid",
            json!({"reason": "r", "amount": 2_000, "taxFreeAmount": 1_001}),
            409,
        ),
        (
            "paid",
            json!({"reason": "r", "amount": 500, "taxFreeAmount": 400, "vatAmount": 101}),
            409,
        ),
    ];
    for (id, body, status) in cancels {
        checker.cancel(id, body, status).await;
    }
    sim.fault(json!({"fault": "pg_provider", "times": 1})).await;
    checker.cancel("paid", cancel_body(None), 502).await;
    sim.fault(json!({"fault": "cancel_failed", "times": 100})).await;
    for _ in 0..100 {
        checker.cancel("paid", cancel_body(Some(1)), 200).await;
    }
    checker.cancel("paid", cancel_body(Some(1)), 409).await;
}

#[tokio::test]
async fn every_error_of_reading_has_the_official_shape() {
    let Some(checker) = checker(ClosedAccount::Cancelled).await else {
        return;
    };
    let sim = &checker.sim;
    sim.act("paid", "pay", opening("CARD")).await;
    for (path, status) in [
        ("/payments/{paymentId}", 404),
        ("/payments/{paymentId}/transactions", 404),
    ] {
        checker.call(Method::GET, path, "none", None, status).await;
        let (status, answer) = sim
            .get(&format!("{}?storeId=other", path.replace("{paymentId}", "paid")))
            .await;
        checker.check(&Method::GET, path, status, &answer);
    }
    checker
        .call(Method::GET, "/payments", "", Some(json!({"page": {"size": -1}})), 400)
        .await;
    checker
        .call(
            Method::GET,
            "/payments",
            "",
            Some(json!({"filter": {"storeId": "other"}})),
            403,
        )
        .await;
    checker
        .call(
            Method::GET,
            "/payments-by-cursor",
            "",
            Some(json!({"cursor": "?"})),
            400,
        )
        .await;
    checker
        .call(
            Method::GET,
            "/payments-by-cursor",
            "",
            Some(json!({"storeId": "other"})),
            403,
        )
        .await;
}

#[tokio::test]
async fn every_answer_of_registering_confirming_and_closing_has_the_official_shape() {
    let Some(checker) = checker(ClosedAccount::Cancelled).await else {
        return;
    };
    let sim = &checker.sim;
    sim.act("paid", "pay", opening("CARD")).await;
    let post = async |template: &str, id: &str, body: Value, status: u16| {
        checker.call(Method::POST, template, id, Some(body), status).await
    };
    let register = "/payments/{paymentId}/pre-register";
    post(
        register,
        "new",
        json!({"totalAmount": 1_000, "taxFreeAmount": 0, "currency": "KRW"}),
        200,
    )
    .await;
    post(register, "new", json!({"totalAmount": "1000"}), 400).await;
    post(register, "new", json!({"storeId": "other"}), 403).await;
    post(register, "paid", json!({}), 409).await;

    let confirm = "/payments/{paymentId}/confirm";
    let token = sim.act("manual", "authorize", opening("CARD")).await["paymentToken"].clone();
    let account = sim.act("manual-account", "authorize", opening("VIRTUAL_ACCOUNT")).await["paymentToken"].clone();
    post(confirm, "manual", json!({}), 400).await;
    post(confirm, "manual", json!({"paymentToken": "wrong"}), 400).await;
    post(confirm, "none", json!({"paymentToken": token}), 404).await;
    post(confirm, "manual", json!({"paymentToken": token, "isTest": true}), 409).await;
    sim.fault(json!({"fault": "pg_provider", "times": 1, "operation": "confirm"}))
        .await;
    post(confirm, "manual", json!({"paymentToken": token}), 502).await;
    post(
        confirm,
        "manual",
        json!({"paymentToken": token, "txId": sim.payment("manual").await["transactionId"]}),
        200,
    )
    .await;
    post(confirm, "manual", json!({"paymentToken": token}), 409).await;
    post(confirm, "manual-account", json!({"paymentToken": account}), 200).await;
    assert_eq!(sim.payment("manual-account").await["status"], "VIRTUAL_ACCOUNT_ISSUED");

    let close = "/payments/{paymentId}/virtual-account/close";
    checker.call(Method::POST, close, "none", None, 404).await;
    checker.call(Method::POST, close, "paid", None, 409).await;
    sim.fault(json!({"fault": "pg_provider", "times": 1, "operation": "close_virtual_account"}))
        .await;
    checker.call(Method::POST, close, "manual-account", None, 502).await;
    checker.call(Method::POST, close, "manual-account", None, 200).await;
    checker.read("manual-account", "CANCELLED").await;
}

#[tokio::test]
async fn every_answer_of_resending_and_logging_in_has_the_official_shape() {
    let Some(checker) = checker(ClosedAccount::Cancelled).await else {
        return;
    };
    let sim = &checker.sim;
    sim.act("paid", "pay", opening("CARD")).await;
    let post = async |template: &str, id: &str, body: Value, status: u16| {
        checker.call(Method::POST, template, id, Some(body), status).await
    };
    let resend = "/payments/{paymentId}/resend-webhook";
    post(resend, "paid", json!({}), 200).await;
    post(resend, "paid", json!({"webhookId": 7}), 400).await;
    post(resend, "paid", json!({"webhookId": "none"}), 404).await;
    post(resend, "none", json!({}), 404).await;
    for _ in 0..9 {
        post(resend, "paid", json!({}), 200).await;
    }
    post(resend, "paid", json!({}), 400).await;

    checker.call(Method::GET, "/banks", "", None, 200).await;
    let login = post(
        "/login/api-secret",
        "",
        json!({"apiSecret": crate::support::SECRET}),
        200,
    )
    .await;
    post("/login/api-secret", "", json!({"apiSecret": "wrong"}), 401).await;
    post("/login/api-secret", "", json!({}), 400).await;
    post(
        "/token/refresh",
        "",
        json!({"refreshToken": login["refreshToken"]}),
        200,
    )
    .await;
    post("/token/refresh", "", json!({"refreshToken": "wrong"}), 401).await;
    post("/token/refresh", "", json!(7), 400).await;
}

#[tokio::test]
async fn strangers_get_the_official_refusal_everywhere() {
    let Some(checker) = checker(ClosedAccount::Cancelled).await else {
        return;
    };
    let sim = &checker.sim;
    sim.act("paid", "pay", opening("CARD")).await;
    let guarded = [
        (Method::GET, "/payments/{paymentId}"),
        (Method::GET, "/payments/{paymentId}/transactions"),
        (Method::GET, "/payments"),
        (Method::GET, "/payments-by-cursor"),
        (Method::POST, "/payments/{paymentId}/cancel"),
        (Method::POST, "/payments/{paymentId}/pre-register"),
        (Method::POST, "/payments/{paymentId}/confirm"),
        (Method::POST, "/payments/{paymentId}/virtual-account/close"),
        (Method::POST, "/payments/{paymentId}/resend-webhook"),
    ];
    for (method, template) in guarded {
        let (status, answer) = reply(sim.request(method.clone(), &template.replace("{paymentId}", "paid"))).await;
        assert_eq!(status, 401);
        checker.check(&method, template, status, &answer);
    }
}
