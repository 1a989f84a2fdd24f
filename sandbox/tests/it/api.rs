//! Credentials, payments, cancels, pre-registration, manual approval, virtual accounts, lists.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Sim, cancel_body, refund_account, reply};

/// The codes of errors, one after the other.
fn code(reply: &(u16, Value)) -> (u16, &str) {
    (reply.0, reply.1["type"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn credentials_are_checked_before_anything_else() {
    let sim = Sim::start().await;
    let wrong = [
        "",
        "PortOne",
        "PortOne wrong",
        "PortOne api-secret2",
        "Bearer api-secret",
        "Basic api-secret",
    ];
    let paths = [
        (Method::GET, "/payments/none"),
        (Method::POST, "/payments/none/cancel"),
        (Method::GET, "/payments?requestBody=nonsense"),
        (Method::GET, "/no/such/path"),
        (Method::DELETE, "/payments/none"),
    ];
    for (method, path) in paths {
        let bare = reply(sim.request(method.clone(), path).body("not json")).await;
        assert_eq!(code(&bare), (401, "UNAUTHORIZED"), "{method} {path}");
        for credentials in wrong {
            let request = sim.request(method.clone(), path).header("authorization", credentials);
            assert_eq!(
                code(&reply(request).await),
                (401, "UNAUTHORIZED"),
                "{method} {path} {credentials:?}"
            );
        }
    }
    assert_eq!(code(&sim.get("/payments/none").await), (404, "PAYMENT_NOT_FOUND"));
    assert_eq!(sim.get("/payments/none").await.1["message"], "there is no such payment");
}

#[tokio::test]
async fn tokens_work_for_half_an_hour_and_a_refresh_kills_the_one_before() {
    let sim = Sim::start().await;
    let login = |secret: &str| {
        sim.request(Method::POST, "/login/api-secret")
            .body(json!({"apiSecret": secret}).to_string())
    };
    assert_eq!(code(&reply(login("wrong")).await), (401, "UNAUTHORIZED"));
    let (status, tokens) = reply(login("api-secret")).await;
    assert_eq!(status, 200);
    let by_token = |token: &Value| {
        let token = token.as_str().unwrap();
        sim.request(Method::GET, "/payments")
            .header("authorization", format!("Bearer {token}"))
    };
    assert_eq!(reply(by_token(&tokens["accessToken"])).await.0, 200);
    assert_eq!(reply(by_token(&tokens["refreshToken"])).await.0, 401);
    let refresh = |token: &Value| {
        let body = json!({"refreshToken": token}).to_string();
        sim.request(Method::POST, "/token/refresh").body(body)
    };
    let (status, renewed) = reply(refresh(&tokens["refreshToken"])).await;
    assert_eq!(status, 200);
    assert_eq!(
        code(&reply(refresh(&tokens["refreshToken"])).await),
        (401, "UNAUTHORIZED")
    );
    sim.clock.advance(chrono::TimeDelta::minutes(31));
    assert_eq!(reply(by_token(&renewed["accessToken"])).await.0, 401);
    assert_eq!(reply(refresh(&renewed["refreshToken"])).await.0, 200);
}

#[tokio::test]
async fn one_call_pays_and_the_payment_shows_it() {
    let sim = Sim::start().await;
    let opening = json!({
        "totalAmount": 39_000, "orderName": "손뜨개 가방 외 1건", "customData": {"cartId": 7},
        "customer": {"customerId": "member-42", "fullName": "홍길동", "phoneNumber": "01012345678",
                     "address": {"addressLine1": "세종대로 110", "addressLine2": "1층", "city": "중구"}},
    });
    let paid = sim.act("p1", "pay", opening).await;
    assert_eq!(
        (&paid["status"], &paid["transactionType"]),
        (&json!("PAID"), &json!("PAYMENT"))
    );
    let payment = sim.payment("p1").await;
    assert_eq!(payment["transactionId"], paid["txId"]);
    let amounts = json!({"total": 39_000, "taxFree": 0, "vat": 3545, "supply": 35_455, "discount": 0, "paid": 39_000,
                         "cancelled": 0, "cancelledTaxFree": 0});
    assert_eq!(payment["amount"], amounts);
    assert_eq!(payment["customData"], "{\"cartId\":7}");
    assert_eq!(payment["customer"]["id"], "member-42");
    assert_eq!(payment["customer"]["address"]["oneLine"], "중구 세종대로 110 1층");
    assert_eq!(payment["paidAt"], "2026-03-02T04:05:06.000Z");
    assert_eq!(
        (&payment["channel"]["type"], &payment["disputes"]),
        (&json!("LIVE"), &json!([]))
    );
    let again = sim.try_act("p1", "pay", json!({})).await;
    assert_eq!((again.0, &again.1["code"]), (409, &json!("PaymentAlreadyPaid")));
}

#[tokio::test]
async fn ids_may_hold_slashes_korean_and_question_marks() {
    let sim = Sim::start().await;
    let id = "%ED%95%9C%2F%EA%B8%80%3Fa%23%26%20b";
    sim.act(id, "pay", json!({"amount": 1000})).await;
    assert_eq!(sim.payment(&format!("{id}?")).await["id"], "한/글?a#& b");
    let cancelled = sim.post(&format!("/payments/{id}/cancel"), cancel_body(None)).await;
    assert_eq!(cancelled.0, 200);
}

#[tokio::test]
async fn another_store_is_forbidden_and_its_payments_are_not_seen() {
    let sim = Sim::start().await;
    sim.act("ours", "pay", json!({"amount": 1000})).await;
    sim.act("theirs", "pay", json!({"amount": 1000, "storeId": "store-other"}))
        .await;
    assert_eq!(
        code(&sim.get("/payments/ours?storeId=store-other").await),
        (403, "FORBIDDEN")
    );
    assert_eq!(code(&sim.get("/payments/theirs").await), (404, "PAYMENT_NOT_FOUND"));
    let body = json!({"reason": "r", "storeId": "store-other"});
    assert_eq!(code(&sim.post("/payments/ours/cancel", body).await), (403, "FORBIDDEN"));
    assert_eq!(sim.list("/payments", json!({})).await.1["page"]["totalCount"], 1);
}

#[tokio::test]
async fn cancels_are_checked_in_order_body_payment_state_balance() {
    let sim = Sim::start().await;
    let cancel = async |id: &str, body: Value| {
        let answer = sim.post(&format!("/payments/{id}/cancel"), body).await;
        (answer.0, answer.1["type"].as_str().unwrap_or_default().to_owned())
    };
    let error = |status: u16, kind: &str| (status, kind.to_owned());
    assert_eq!(
        cancel("none", json!({"amount": 1.5})).await,
        error(400, "INVALID_REQUEST")
    );
    assert_eq!(cancel("none", cancel_body(None)).await, error(404, "PAYMENT_NOT_FOUND"));
    let malformed = reply(sim.api(Method::POST, "/payments/none/cancel").body("{")).await;
    assert_eq!(code(&malformed), (400, "INVALID_REQUEST"));
    for (id, action) in [
        ("ready", "open"),
        ("failed", "fail"),
        ("account", "issue"),
        ("pending", "pend"),
    ] {
        sim.act(id, action, json!({"amount": 1000})).await;
        assert_eq!(
            cancel(id, cancel_body(None)).await,
            error(409, "PAYMENT_NOT_PAID"),
            "{id}"
        );
    }
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    let with_balance = |balance: i64| json!({"reason": "r", "amount": 20_000, "currentCancellableAmount": balance});
    let broken = error(409, "CANCELLABLE_AMOUNT_CONSISTENCY_BROKEN");
    assert_eq!(cancel("p", with_balance(9_999)).await, broken);
    assert_eq!(
        cancel("p", with_balance(10_000)).await,
        error(409, "CANCEL_AMOUNT_EXCEEDS_CANCELLABLE_AMOUNT")
    );
    assert_eq!(cancel("p", cancel_body(None)).await.0, 200);
    assert_eq!(
        cancel("p", with_balance(0)).await,
        error(409, "PAYMENT_ALREADY_CANCELLED")
    );
    assert_eq!(sim.inside("p").await["cancelEffects"], 1);
}

#[tokio::test]
async fn after_each_cancel_all_fields_agree_with_each_other() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 39_000})).await;
    let parts = [
        (Some(10_000), "PARTIAL_CANCELLED", 10_000),
        (Some(9_000), "PARTIAL_CANCELLED", 19_000),
    ];
    for (number, (amount, status, sum)) in parts.into_iter().chain([(None, "CANCELLED", 39_000)]).enumerate() {
        sim.clock.advance(chrono::TimeDelta::seconds(1));
        let (http, answer) = sim.post("/payments/p/cancel", cancel_body(amount)).await;
        assert_eq!((http, &answer["cancellation"]["status"]), (200, &json!("SUCCEEDED")));
        let payment = sim.payment("p").await;
        let cancellations = payment["cancellations"].as_array().unwrap();
        assert_eq!(cancellations.len(), number + 1);
        let total: i64 = cancellations
            .iter()
            .map(|one| one["totalAmount"].as_i64().unwrap())
            .sum();
        assert_eq!((total, payment["amount"]["cancelled"].as_i64().unwrap()), (sum, sum));
        assert_eq!(payment["status"], status);
        let last = cancellations.last().unwrap();
        assert_eq!(last, &answer["cancellation"]);
        for name in ["updatedAt", "statusChangedAt", "cancelledAt"] {
            assert_eq!(payment[name], last["cancelledAt"], "{name}");
        }
    }
    let vat: i64 = sim.payment("p").await["cancellations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["vatAmount"].as_i64().unwrap())
        .sum();
    assert_eq!(vat, 3545);
}

#[tokio::test]
async fn an_asynchronous_cancel_is_counted_when_it_completes() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    sim.fault(json!({"fault": "cancel_requested", "times": 1})).await;
    let (_, answer) = sim.post("/payments/p/cancel", cancel_body(Some(4_000))).await;
    assert_eq!(answer["cancellation"]["status"], "REQUESTED");
    let payment = sim.payment("p").await;
    assert_eq!(
        (&payment["status"], &payment["amount"]["cancelled"]),
        (&json!("PAID"), &json!(0))
    );
    let twice = sim.post("/payments/p/cancel", cancel_body(Some(6_001))).await;
    assert_eq!(code(&twice), (409, "CANCEL_AMOUNT_EXCEEDS_CANCELLABLE_AMOUNT"));
    let id = answer["cancellation"]["id"].clone();
    let done = sim.act("p", "complete-cancel", json!({"cancellationId": id})).await;
    assert_eq!(
        (&done["status"], &done["cancellationStatus"]),
        (&json!("PARTIAL_CANCELLED"), &json!("SUCCEEDED"))
    );
    assert_eq!(sim.payment("p").await["amount"]["cancelled"], 4_000);
    assert_eq!(sim.try_act("p", "complete-cancel", json!({})).await.0, 409);

    sim.fault(json!({"fault": "cancel_requested", "times": 1})).await;
    sim.post("/payments/p/cancel", cancel_body(None)).await;
    sim.act("p", "complete-cancel", json!({"status": "FAILED"})).await;
    assert_eq!(sim.payment("p").await["amount"]["cancelled"], 4_000);
    assert_eq!(
        sim.post("/payments/p/cancel", cancel_body(None)).await.1["cancellation"]["totalAmount"],
        6_000
    );
}

#[tokio::test]
async fn consoles_and_chargebacks_cancel_too() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    let done = sim.act("p", "cancel", json!({"amount": 3_000})).await;
    assert_eq!(done["cancellationStatus"], "SUCCEEDED");
    sim.act("p", "cancel", json!({"trigger": "CHARGEBACK", "reason": "분쟁"}))
        .await;
    let payment = sim.payment("p").await;
    let triggers: Vec<&Value> = payment["cancellations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["trigger"])
        .collect();
    assert_eq!(triggers, [&json!("CONSOLE"), &json!("CHARGEBACK")]);
    assert_eq!(payment["status"], "CANCELLED");
    assert_eq!(sim.try_act("p", "cancel", json!({})).await.0, 409);
}

#[tokio::test]
async fn a_payment_may_need_several_attempts_and_only_one_is_paid() {
    let sim = Sim::start().await;
    sim.act("p", "fail", json!({"amount": 5_000, "reason": "잔액 부족"}))
        .await;
    assert_eq!(sim.payment("p").await["failure"]["reason"], "잔액 부족");
    sim.act("p", "issue", json!({"totalAmount": 4_000})).await;
    let paid = sim
        .act("p", "pay", json!({"totalAmount": 3_000, "payMethod": "EASY_PAY"}))
        .await;
    let (http, transactions) = sim.get("/payments/p/transactions").await;
    let states: Vec<&Value> = transactions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["status"])
        .collect();
    assert_eq!(
        (http, states),
        (
            200,
            vec![&json!("FAILED"), &json!("VIRTUAL_ACCOUNT_ISSUED"), &json!("PAID")]
        )
    );
    let payment = sim.payment("p").await;
    assert_eq!(
        (&payment["transactionId"], &payment["amount"]["total"]),
        (&paid["txId"], &json!(3_000))
    );
    assert_eq!(payment["method"]["type"], "PaymentMethodEasyPay");
    assert_eq!(
        sim.try_act("p", "deposit", json!({})).await.1["code"],
        "PaymentAlreadyPaid"
    );
    assert_eq!(
        sim.try_act("p", "open", json!({})).await.1["code"],
        "PaymentAlreadyPaid"
    );
}

#[tokio::test]
async fn a_registered_amount_holds_the_window_and_not_the_hostile_charge() {
    let sim = Sim::start().await;
    let register = async |total: i64| {
        sim.post(
            "/payments/p/pre-register",
            json!({"totalAmount": total, "currency": "KRW"}),
        )
        .await
    };
    assert_eq!(register(0).await.0, 400);
    assert_eq!(register(39_000).await, (200, json!({})));
    assert_eq!(code(&sim.get("/payments/p").await), (404, "PAYMENT_NOT_FOUND"));
    let other = sim.try_act("p", "open", json!({"totalAmount": 38_999})).await;
    assert_eq!((other.0, &other.1["code"]), (409, &json!("AmountNotEqualToPredefined")));
    assert_eq!(
        sim.try_act("p", "open", json!({"totalAmount": 39_000, "currency": "USD"}))
            .await
            .0,
        409
    );
    assert_eq!(register(40_000).await.0, 200, "the order changed");
    sim.act("p", "open", json!({"totalAmount": 40_000})).await;
    sim.act("p", "pay", json!({"totalAmount": 1})).await;
    assert_eq!(sim.payment("p").await["amount"]["total"], 1);
    assert_eq!(code(&register(40_000).await), (409, "ALREADY_PAID"));

    sim.post("/payments/q/pre-register", json!({"totalAmount": 7_000}))
        .await;
    sim.act("q", "pay", json!({})).await;
    assert_eq!(sim.payment("q").await["amount"]["paid"], 7_000);
    let unknown = sim.try_act("r", "pay", json!({})).await;
    assert_eq!((unknown.0, &unknown.1["code"]), (400, &json!("RequestParseFailed")));
}

#[tokio::test]
async fn test_channels_discounts_and_pending_approvals_can_be_made() {
    let sim = Sim::start().await;
    sim.act("test", "pay", json!({"amount": 1_000, "channelType": "TEST"}))
        .await;
    assert_eq!(sim.payment("test").await["channel"]["type"], "TEST");
    sim.act("off", "pay", json!({"amount": 1_000, "discount": 300})).await;
    let amount = sim.payment("off").await["amount"].clone();
    assert_eq!(
        (&amount["total"], &amount["discount"], &amount["paid"]),
        (&json!(1_000), &json!(300), &json!(700))
    );
    sim.act(
        "later",
        "pend",
        json!({"amount": 1_000, "payMethod": "PAYPAL", "currency": "USD"}),
    )
    .await;
    assert_eq!(sim.payment("later").await["status"], "PAY_PENDING");
    sim.act("later", "pay", json!({})).await;
    assert_eq!(sim.payment("later").await["status"], "PAID");
    sim.act("test", "dispute", json!({})).await;
    assert_eq!(sim.payment("test").await["disputes"][0]["status"], "UNRESOLVED");
    sim.act("test", "resolve-dispute", json!({})).await;
    assert_eq!(sim.payment("test").await["disputes"][0]["status"], "RESOLVED");
    for bad in [
        json!({"amount": 0}),
        json!({"amount": 1.5}),
        json!({"amount": 1, "payMethod": "GOLD"}),
        json!([]),
    ] {
        assert_eq!(sim.try_act("bad", "pay", bad.clone()).await.0, 400, "{bad}");
    }
    assert_eq!(sim.try_act("bad", "explode", json!({})).await.0, 404);
}

#[tokio::test]
async fn virtual_accounts_are_issued_deposited_expired_and_closed() {
    let sim = Sim::start().await;
    let window = json!({"totalAmount": 5_000, "payMethod": "VIRTUAL_ACCOUNT", "customer": {"fullName": "홍길동"},
                        "virtualAccount": {"accountExpiry": {"dueDate": "2026-03-05 23:59:59"}}});
    sim.act("p", "open", window).await;
    sim.act("p", "issue", json!({})).await;
    let payment = sim.payment("p").await;
    assert_eq!(
        (&payment["status"], &payment["method"]["remitterName"]),
        (&json!("VIRTUAL_ACCOUNT_ISSUED"), &json!("홍길동"))
    );
    assert_eq!(payment["method"]["expiredAt"], "2026-03-05T14:59:59.000Z");
    sim.act("p", "expire", json!({})).await;
    let expired = sim.payment("p").await;
    assert_eq!(
        (&expired["status"], &expired["method"]["expiredAt"]),
        (&payment["status"], &json!("2026-03-02T04:05:05.000Z"))
    );
    sim.act("p", "deposit", json!({})).await;
    assert_eq!(sim.payment("p").await["status"], "PAID", "banks report late");
    let without = sim.post("/payments/p/cancel", cancel_body(None)).await;
    assert_eq!(
        (without.0, &without.1["pgCode"]),
        (502, &json!("REFUND_ACCOUNT_REQUIRED"))
    );
    let body = json!({"reason": "r", "refundAccount": refund_account()});
    assert_eq!(sim.post("/payments/p/cancel", body).await.0, 200);

    sim.act("closed", "issue", json!({"amount": 5_000})).await;
    let close = |id: &str| sim.api(Method::POST, &format!("/payments/{id}/virtual-account/close"));
    let (status, answer) = reply(close("closed")).await;
    assert_eq!((status, &answer["closedAt"]), (200, &json!("2026-03-02T04:05:06.000Z")));
    let payment = sim.payment("closed").await;
    assert_eq!(
        (&payment["status"], &payment["cancellations"]),
        (&json!("CANCELLED"), &json!([]))
    );
    assert_eq!(payment["amount"]["cancelled"], 0);
    assert_eq!(sim.try_act("closed", "deposit", json!({})).await.0, 409);
    assert_eq!(
        code(&reply(close("closed")).await),
        (409, "PAYMENT_NOT_WAITING_FOR_DEPOSIT")
    );
    assert_eq!(code(&reply(close("none")).await), (404, "PAYMENT_NOT_FOUND"));
    let lenient = Sim::with(|config| config.refund_account_required = false).await;
    lenient.act("p", "issue", json!({"amount": 5_000})).await;
    lenient.act("p", "deposit", json!({"amount": 4_999})).await;
    let amount = lenient.payment("p").await["amount"].clone();
    assert_eq!((&amount["total"], &amount["paid"]), (&json!(4_999), &json!(4_999)));
    assert_eq!(lenient.post("/payments/p/cancel", cancel_body(None)).await.0, 200);
}

#[tokio::test]
async fn manual_approval_charges_only_what_was_agreed() {
    let sim = Sim::start().await;
    let token = sim.act("p", "authorize", json!({"amount": 9_000})).await["paymentToken"].clone();
    assert_eq!(sim.payment("p").await["status"], "READY");
    let confirm = async |body: Value| sim.post("/payments/p/confirm", body).await;
    assert_eq!(
        code(&confirm(json!({"paymentToken": "other"})).await),
        (400, "INVALID_PAYMENT_TOKEN")
    );
    assert_eq!(code(&confirm(json!({})).await), (400, "INVALID_REQUEST"));
    let mismatch = confirm(json!({"paymentToken": token, "totalAmount": 8_999})).await;
    assert_eq!(code(&mismatch), (409, "INFORMATION_MISMATCH"));
    let (status, answer) = confirm(json!({"paymentToken": token, "totalAmount": 9_000, "currency": "KRW"})).await;
    assert_eq!((status, &answer["paidAt"]), (200, &json!("2026-03-02T04:05:06.000Z")));
    assert_eq!(
        code(&confirm(json!({"paymentToken": token})).await),
        (409, "ALREADY_PAID")
    );
    let none = sim.post("/payments/none/confirm", json!({"paymentToken": token})).await;
    assert_eq!(code(&none), (404, "PAYMENT_NOT_FOUND"));
}

#[tokio::test]
async fn lists_filter_sort_and_page() {
    let sim = Sim::start().await;
    for number in 0..25 {
        let action = if number % 5 == 0 { "fail" } else { "pay" };
        sim.act(
            &format!("p{number:02}"),
            action,
            json!({"amount": 1_000 + number, "isTest": number >= 20}),
        )
        .await;
        sim.clock.advance(chrono::TimeDelta::minutes(1));
    }
    sim.post("/payments/registered/pre-register", json!({"totalAmount": 1}))
        .await;
    let ids = async |body: Value| {
        let (status, answer) = sim.list("/payments", body).await;
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().unwrap().iter();
        items
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(json!({})).await.len(), 10);
    assert_eq!(ids(json!({})).await[0], "p24", "the default is the latest first");
    let ascending = |number: u32| json!({"page": {"number": number, "size": 10}, "filter": {"sortOrder": "ASC"}});
    assert_eq!(ids(ascending(0)).await[0], "p00");
    assert_eq!(ids(ascending(2)).await, ["p20", "p21", "p22", "p23", "p24"]);
    assert!(ids(ascending(3)).await.is_empty());
    let failed = json!({"page": {"size": 100}, "filter": {"status": ["FAILED"], "isTest": false, "sortOrder": "ASC"}});
    assert_eq!(ids(failed).await, ["p00", "p05", "p10", "p15"]);
    let window = json!({"filter": {"from": "2026-03-02T04:07:00Z", "until": "2026-03-02T13:09:06+09:00"}});
    assert_eq!(ids(window).await, ["p04", "p03", "p02"]);
    let search = json!({"filter": {"textSearch": [{"field": "PAYMENT_ID", "value": "p07"}]}});
    assert_eq!(ids(search).await, ["p07"]);
    sim.post("/payments/p01/cancel", cancel_body(None)).await;
    let changed =
        json!({"page": {"size": 1}, "filter": {"timestampType": "STATUS_CHANGED_AT", "sortBy": "STATUS_CHANGED_AT"}});
    assert_eq!(ids(changed).await, ["p01"]);
    for bad in [
        json!([]),
        json!({"page": {"size": 0}}),
        json!({"page": {"number": 60, "size": 1_000}}),
        json!({"filter": {"cardBrand": "VISA"}}),
        json!({"filter": {"sortOrder": "UP"}}),
    ] {
        assert_eq!(
            code(&sim.list("/payments", bad.clone()).await),
            (400, "INVALID_REQUEST"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_cursor_walks_every_payment_once() {
    let sim = Sim::start().await;
    for number in 0..23 {
        sim.act(&format!("p{number}"), "pay", json!({"amount": 1_000})).await;
        if number % 3 == 0 {
            sim.clock.advance(chrono::TimeDelta::seconds(1));
        }
    }
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let (_, answer) = sim
            .list("/payments-by-cursor", json!({"cursor": cursor, "size": 5}))
            .await;
        let items = answer["items"].as_array().unwrap().clone();
        let Some(last) = items.last() else { break };
        cursor = last["cursor"].clone();
        seen.extend(
            items
                .iter()
                .map(|item| item["payment"]["id"].as_str().unwrap().to_owned()),
        );
    }
    assert_eq!(seen, (0..23).map(|number| format!("p{number}")).collect::<Vec<_>>());
}
