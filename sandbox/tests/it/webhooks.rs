//! Webhooks as the shop gets them.

use std::collections::HashSet;

use jangbu_sandbox::WebhookVersion;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    START_SECONDS, STORE, Shop, Sim, WEBHOOK_SECRET, cancel_body, refund_account, reply, sim_and_shop,
};

/// One retry delay is at most 256 minutes / this = 15 ms.
const FAST: u32 = 1_000_000;

async fn kinds(sim: &Sim, shop: &Shop) -> Vec<String> {
    sim.running.sandbox().webhooks_idle().await;
    let mut kinds: Vec<String> = shop.received().iter().map(crate::support::Received::kind).collect();
    kinds.sort();
    kinds
}

#[tokio::test]
async fn a_webhook_has_the_documented_body_and_a_right_signature() {
    let (sim, shop) = sim_and_shop(|config| config.ready_webhooks = false).await;
    let paid = sim.act("order-0001", "pay", json!({"amount": 1_000})).await;
    sim.running.sandbox().webhooks_idle().await;
    let received = shop.received();
    assert_eq!(received.len(), 1);
    let tx_id = paid["txId"].as_str().unwrap();
    let expected = format!(
        r#"{{"type":"Transaction.Paid","timestamp":"2026-03-02T04:05:06.000Z","data":{{"paymentId":"order-0001","storeId":"{STORE}","transactionId":"{tx_id}"}}}}"#
    );
    assert_eq!(received[0].body, expected);
    assert_eq!(
        (received[0].timestamp, received[0].content_type.as_str()),
        (START_SECONDS, "application/json")
    );
    assert!(received[0].is_signed_by(WEBHOOK_SECRET));
    assert!(!received[0].signatures.contains(' '));
    let webhooks = sim.payment("order-0001").await["webhooks"].clone();
    assert_eq!(
        (&webhooks[0]["id"], &webhooks[0]["status"]),
        (&json!(received[0].id), &json!("SUCCEEDED"))
    );
}

#[tokio::test]
async fn every_change_is_told() {
    let (sim, shop) = sim_and_shop(|_| ()).await;
    sim.act("a", "fail", json!({"amount": 1_000})).await;
    sim.act("a", "pend", json!({})).await;
    sim.act("a", "pay", json!({})).await;
    sim.act("a", "dispute", json!({})).await;
    sim.act("a", "resolve-dispute", json!({})).await;
    sim.act("b", "issue", json!({"amount": 1_000})).await;
    sim.act("b", "deposit", json!({})).await;
    sim.fault(json!({"fault": "cancel_requested", "times": 1})).await;
    let body = json!({"reason": "r", "amount": 400, "refundAccount": refund_account()});
    let (_, answer) = sim.post("/payments/b/cancel", body.clone()).await;
    sim.act("b", "complete-cancel", json!({})).await;
    let mut silent = body.clone();
    silent["skipWebhook"] = true.into();
    assert_eq!(sim.post("/payments/b/cancel", silent).await.0, 200);
    sim.act("b", "cancel", json!({})).await;
    let expected = [
        "Transaction.CancelPending",
        "Transaction.Cancelled",
        "Transaction.DisputeCreated",
        "Transaction.DisputeResolved",
        "Transaction.Failed",
        "Transaction.Paid",
        "Transaction.Paid",
        "Transaction.PartialCancelled",
        "Transaction.PayPending",
        "Transaction.Ready",
        "Transaction.Ready",
        "Transaction.Ready",
        "Transaction.VirtualAccountIssued",
    ];
    assert_eq!(kinds(&sim, &shop).await, expected);
    let pending = shop
        .received()
        .into_iter()
        .find(|one| one.kind() == "Transaction.CancelPending")
        .unwrap();
    assert_eq!(pending.json()["data"]["cancellationId"], answer["cancellation"]["id"]);
    let ids: HashSet<String> = shop.received().into_iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), expected.len(), "each webhook has an id of its own");
}

#[tokio::test]
async fn a_refused_webhook_comes_again_with_the_same_id_and_a_new_time() {
    let (sim, shop) = sim_and_shop(|config| {
        config.ready_webhooks = false;
        config.retry_time_scale = FAST;
    })
    .await;
    // 202 is no 200 either.
    shop.answer([500, 404, 202, 301]);
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.clock.advance(chrono::TimeDelta::seconds(7));
    sim.running.sandbox().webhooks_idle().await;
    let received = shop.received();
    assert_eq!(received.len(), 5);
    assert!(
        received
            .iter()
            .all(|one| one.id == received[0].id && one.body == received[0].body)
    );
    assert!(received.iter().all(|one| one.is_signed_by(WEBHOOK_SECRET)));
    assert_eq!(received[4].timestamp, START_SECONDS + 7);
    let log = sim.deliveries().await;
    let statuses: Vec<&Value> = log.iter().map(|line| &line["status"]).collect();
    assert_eq!(
        statuses,
        [&json!(500), &json!(404), &json!(202), &json!(301), &json!(200)]
    );

    shop.answer(std::iter::repeat_n(500, 6));
    sim.act("q", "pay", json!({"amount": 1_000})).await;
    sim.running.sandbox().webhooks_idle().await;
    assert_eq!(shop.received().len(), 5 + 6, "five retries, then it is given up");
    assert_eq!(
        sim.payment("q").await["webhooks"][0]["status"],
        "FAILED_NOT_OK_RESPONSE"
    );
}

#[tokio::test]
async fn a_shop_that_is_down_gets_its_webhook_once_it_is_up() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(crate::support::loopback()).unwrap();
    let address = socket.local_addr().unwrap();
    let sim = Sim::with(|config| {
        config.webhook_urls = vec![format!("http://{address}/webhook")];
        config.ready_webhooks = false;
        config.retry_time_scale = FAST;
    })
    .await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    let log = sim.deliveries().await;
    assert_eq!((log.len(), &log[0]["outcome"]), (6, &json!("unreachable")));
    let shop = Shop::open().await;
    let urls = json!([shop.url]);
    assert_eq!(
        reply(sim.request(Method::PUT, "/_sim/webhook-urls").body(urls.to_string()))
            .await
            .0,
        200
    );
    sim.act("q", "pay", json!({"amount": 1_000})).await;
    assert_eq!(kinds(&sim, &shop).await, ["Transaction.Paid"]);
}

#[tokio::test]
async fn signatures_and_times_can_be_spoilt() {
    let (sim, shop) = sim_and_shop(|config| config.ready_webhooks = false).await;
    let pay = async |fault: &str| {
        sim.fault(json!({"fault": fault, "times": 1, "paymentId": fault, "seconds": 301}))
            .await;
        shop.answer([]);
        sim.act(fault, "pay", json!({"amount": 1_000})).await;
        sim.running.sandbox().webhooks_idle().await;
        shop.received().pop().unwrap()
    };
    let wrong = pay("webhook_wrong_signature").await;
    assert!(!wrong.is_signed_by(WEBHOOK_SECRET) && wrong.signatures.starts_with("v1,"));
    let old = pay("webhook_old_timestamp").await;
    assert!(old.is_signed_by(WEBHOOK_SECRET));
    assert_eq!(old.timestamp, START_SECONDS - 301);
    let future = pay("webhook_future_timestamp").await;
    assert_eq!(
        (future.timestamp, future.is_signed_by(WEBHOOK_SECRET)),
        (START_SECONDS + 301, true)
    );
    let two = pay("webhook_two_signatures").await;
    assert_eq!(
        (two.signatures.split(' ').count(), two.is_signed_by(WEBHOOK_SECRET)),
        (2, true)
    );
}

#[tokio::test]
async fn webhooks_are_duplicated_delayed_and_dropped() {
    let (sim, shop) = sim_and_shop(|config| config.ready_webhooks = false).await;
    sim.fault(
        json!([{"fault": "webhook_duplicate", "copies": 3, "paymentId": "twice"},
                     {"fault": "webhook_delay", "ms": 30, "paymentId": "late"},
                     {"fault": "webhook_drop", "paymentId": "lost"}]),
    )
    .await;
    for id in ["twice", "late", "lost"] {
        sim.act(id, "pay", json!({"amount": 1_000})).await;
    }
    sim.running.sandbox().webhooks_idle().await;
    let of = |id: &str| {
        shop.received()
            .into_iter()
            .filter(|one| one.json()["data"]["paymentId"] == id)
            .collect::<Vec<_>>()
    };
    let copies = of("twice");
    assert_eq!(copies.len(), 3);
    assert!(copies.iter().all(|copy| copy.id == copies[0].id));
    assert_eq!((of("late").len(), of("lost").len()), (1, 0));
    let log = sim.deliveries().await;
    let dropped = log.iter().find(|line| line["paymentId"] == "lost").unwrap();
    assert_eq!(dropped["outcome"], "dropped");
    assert_eq!(log.iter().filter(|line| line["duplicate"] == true).count(), 2);
}

#[tokio::test]
async fn webhooks_are_held_and_sent_in_another_order() {
    let (sim, shop) = sim_and_shop(|config| {
        config.ready_webhooks = false;
        config.webhook_concurrency = 1;
    })
    .await;
    let ids: Vec<String> = (0..20).map(|number| format!("p{number:02}")).collect();
    sim.fault(json!({"fault": "webhook_reorder", "hold": 20, "times": 1, "ms": 60_000}))
        .await;
    for id in &ids {
        assert!(shop.received().is_empty(), "nothing goes out before the batch is full");
        sim.act(id, "pay", json!({"amount": 1_000})).await;
    }
    sim.running.sandbox().webhooks_idle().await;
    let order: Vec<String> = shop
        .received()
        .iter()
        .map(|one| one.json()["data"]["paymentId"].as_str().unwrap().to_owned())
        .collect();
    assert_ne!(order, ids);
    assert_eq!(order.iter().collect::<HashSet<_>>().len(), 20);

    sim.fault(json!({"fault": "webhook_reorder", "hold": 5, "times": 1, "ms": 20}))
        .await;
    sim.act("alone", "pay", json!({"amount": 1_000})).await;
    sim.running.sandbox().webhooks_idle().await;
    assert_eq!(
        shop.received().len(),
        21,
        "a batch that does not fill up is let go after its time"
    );
    sim.fault(json!({"fault": "webhook_reorder", "hold": 5, "ms": 60_000}))
        .await;
    sim.act("held", "pay", json!({"amount": 1_000})).await;
    reply(sim.request(Method::DELETE, "/_sim/faults")).await;
    sim.running.sandbox().webhooks_idle().await;
    assert_eq!(shop.received().len(), 22, "clearing the faults lets go of what is held");
}

#[tokio::test]
async fn notice_urls_replace_the_shop_wide_address() {
    let (sim, shop) = sim_and_shop(|_| ()).await;
    let other = Shop::open().await;
    sim.act("p", "pay", json!({"amount": 1_000, "noticeUrls": [other.url]}))
        .await;
    assert_eq!(kinds(&sim, &other).await, ["Transaction.Paid", "Transaction.Ready"]);
    assert!(shop.received().is_empty());
    assert_eq!(
        sim.try_act("q", "pay", json!({"amount": 1, "noticeUrls": ["file:///etc/passwd"]}))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn older_shops_get_the_older_body() {
    let older = async |version| {
        let (sim, shop) = sim_and_shop(|config| {
            config.ready_webhooks = false;
            config.webhook_version = version;
        })
        .await;
        let paid = sim.act("주문 1", "pay", json!({"amount": 1_000})).await;
        sim.act("주문 1", "dispute", json!({})).await;
        sim.running.sandbox().webhooks_idle().await;
        let received = shop.received();
        assert_eq!(received.len(), 1, "the old version knows no disputes");
        assert!(received[0].is_signed_by(WEBHOOK_SECRET));
        (received[0].clone(), paid["txId"].as_str().unwrap().to_owned())
    };
    let (as_json, tx_id) = older(WebhookVersion::V20240101).await;
    assert_eq!(
        as_json.json(),
        json!({"payment_id": "주문 1", "tx_id": tx_id, "status": "Paid"})
    );
    let (as_form, tx_id) = older(WebhookVersion::V20240101Form).await;
    assert_eq!(
        as_form.body,
        format!("payment_id=%EC%A3%BC%EB%AC%B8+1&tx_id={tx_id}&status=Paid")
    );
    assert_eq!(as_form.content_type, "application/x-www-form-urlencoded");
}

#[tokio::test]
async fn a_webhook_can_be_sent_again_on_request() {
    let (sim, shop) = sim_and_shop(|config| config.ready_webhooks = false).await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.post("/payments/p/cancel", cancel_body(None)).await;
    sim.running.sandbox().webhooks_idle().await;
    let first = shop
        .received()
        .into_iter()
        .find(|one| one.kind() == "Transaction.Paid")
        .unwrap();
    let (status, answer) = sim
        .post("/payments/p/resend-webhook", json!({"webhookId": first.id}))
        .await;
    assert_eq!((status, &answer["webhook"]["id"]), (200, &json!(first.id)));
    let (_, latest) = sim.post("/payments/p/resend-webhook", json!({})).await;
    assert_eq!(latest["webhook"]["paymentStatus"], "CANCELLED");
    sim.running.sandbox().webhooks_idle().await;
    assert_eq!(shop.received().iter().filter(|one| one.id == first.id).count(), 2);
    let code = async |id: &str, body: Value| {
        let (status, answer) = sim.post(&format!("/payments/{id}/resend-webhook"), body).await;
        (status, answer["type"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code("none", json!({})).await, (404, "PAYMENT_NOT_FOUND".to_owned()));
    assert_eq!(
        code("p", json!({"webhookId": "wh_none"})).await,
        (404, "WEBHOOK_NOT_FOUND".to_owned())
    );
    for _ in 0..9 {
        assert_eq!(code("p", json!({"webhookId": first.id})).await.0, 200);
    }
    let exhausted = code("p", json!({"webhookId": first.id})).await;
    assert_eq!(exhausted, (400, "MAX_WEBHOOK_RETRY_COUNT_REACHED".to_owned()));
}

#[tokio::test]
async fn webhooks_can_be_made_by_hand() {
    let (sim, shop) = sim_and_shop(|_| ()).await;
    let send = async |body: Value| {
        let request = sim
            .request(Method::POST, "/_sim/webhooks")
            .body(json!({"body": body}).to_string());
        assert_eq!(reply(request).await.0, 200);
        sim.running.sandbox().webhooks_idle().await;
        shop.received().pop().unwrap()
    };
    let unknown = send(json!({"type": "Transaction.Teleported", "data": {"paymentId": "none"}})).await;
    assert_eq!(
        (unknown.kind().as_str(), unknown.is_signed_by(WEBHOOK_SECRET)),
        ("Transaction.Teleported", true)
    );
    assert_eq!(send(json!("{not json")).await.body, "{not json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_that_never_answers_does_not_hold_up_the_api_and_memory_is_bounded() {
    let listener = tokio::net::TcpListener::bind(crate::support::loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let sim = Sim::with(|config| {
        config.webhook_urls = vec![format!("http://{address}/webhook")];
        config.ready_webhooks = false;
        config.webhooks_pending_max = 50;
        config.deliveries_max = 20;
        config.webhook_concurrency = 4;
    })
    .await;
    for number in 0..100 {
        sim.act(&format!("p{number}"), "pay", json!({"amount": 1_000})).await;
    }
    let (_, log) = reply(sim.request(Method::GET, "/_sim/webhooks")).await;
    assert_eq!(
        (&log["pending"], log["items"].as_array().unwrap().len()),
        (&json!(50), 20)
    );
    assert!(
        log["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line["outcome"] == "dropped")
    );
    sim.running.stop().await;
}
