//! API faults, and the control surface for all of them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{Sim, cancel_body, reply};

#[tokio::test]
async fn a_drop_before_the_effect_leaves_nothing() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.fault(json!({"fault": "api_drop_before", "times": 1, "paymentId": "p"}))
        .await;
    let call = sim
        .api(Method::POST, "/payments/p/cancel")
        .body(cancel_body(None).to_string());
    assert!(call.send().await.is_err());
    assert_eq!(sim.payment("p").await["status"], "PAID");
    assert_eq!(sim.inside("p").await["cancelEffects"], 0);
}

#[tokio::test]
async fn an_error_of_the_gateway_is_no_json() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.fault(json!([{"fault": "api_error", "times": 2, "operation": "get"},
                     {"fault": "api_error", "times": 1, "status": 429, "operation": "list"}]))
        .await;
    for _ in 0..2 {
        let (status, body) = sim.get("/payments/p").await;
        assert_eq!(status, 503);
        assert!(body.as_str().unwrap().starts_with("<html>"), "{body}");
    }
    assert_eq!(sim.get("/payments/p").await.0, 200);
    assert_eq!(sim.get("/payments").await.0, 429);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_the_operation() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.fault(json!({"fault": "api_delay", "ms": 150, "times": 1})).await;
    let call = sim
        .api(Method::POST, "/payments/p/cancel")
        .body(cancel_body(None).to_string());
    let hung_up = call.timeout(Duration::from_millis(30)).send().await;
    assert!(hung_up.expect_err("the answer takes 150 ms").is_timeout());
    assert_eq!(
        sim.payment("p").await["status"],
        "PAID",
        "the effect comes after the delay"
    );
    for _ in 0..200 {
        if sim.inside("p").await["cancelEffects"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the cancel was never carried out");
}

#[tokio::test]
async fn a_delay_may_also_come_after_the_effect() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.fault(json!({"fault": "api_delay", "ms": 60_000, "when": "after", "times": 1}))
        .await;
    let call = sim
        .api(Method::POST, "/payments/p/cancel")
        .body(cancel_body(None).to_string());
    assert!(call.timeout(Duration::from_millis(100)).send().await.is_err());
    assert_eq!(sim.payment("p").await["status"], "CANCELLED");
}

#[tokio::test]
async fn a_failed_cancellation_comes_with_200() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 1_000})).await;
    sim.fault(json!({"fault": "cancel_failed", "times": 1})).await;
    let (status, answer) = sim.post("/payments/p/cancel", cancel_body(None)).await;
    assert_eq!((status, &answer["cancellation"]["status"]), (200, &json!("FAILED")));
    let payment = sim.payment("p").await;
    assert_eq!(
        (&payment["status"], &payment["cancellations"][0]["status"]),
        (&json!("PAID"), &json!("FAILED"))
    );
    assert_eq!(payment["amount"]["cancelled"], 0);
    assert_eq!(
        sim.post("/payments/p/cancel", cancel_body(None)).await.1["cancellation"]["status"],
        "SUCCEEDED"
    );
    assert_eq!(sim.payment("p").await["amount"]["cancelled"], 1_000);
}

#[tokio::test]
async fn a_deposit_may_come_short() {
    let sim = Sim::start().await;
    sim.fault(json!({"fault": "deposit_short", "times": 1})).await;
    for (id, arrives) in [("short", 9_999), ("right", 10_000)] {
        sim.act(id, "issue", json!({"amount": 10_000})).await;
        sim.act(id, "deposit", json!({})).await;
        let payment = sim.payment(id).await;
        assert_eq!(
            (&payment["status"], &payment["amount"]["total"]),
            (&json!("PAID"), &json!(arrives))
        );
        assert_eq!(payment["amount"]["paid"], arrives);
    }
}

#[tokio::test]
async fn faults_are_listed_refused_and_cleared() {
    let sim = Sim::start().await;
    sim.fault(json!({"fault": "api_error"})).await;
    let (_, listed) = reply(sim.request(Method::GET, "/_sim/faults")).await;
    assert_eq!(listed["items"][0]["fault"], "api_error");
    assert_eq!(sim.get("/payments").await.0, 503);
    for bad in [
        json!({"fault": "no_such"}),
        json!({"fault": "api_error", "operation": "fly"}),
        json!(7),
    ] {
        let refused = reply(sim.request(Method::POST, "/_sim/faults").body(bad.to_string())).await;
        assert_eq!(refused.0, 400, "{bad}");
    }
    let (_, cleared) = reply(sim.request(Method::DELETE, "/_sim/faults")).await;
    assert_eq!(cleared, json!({"items": []}));
    assert_eq!(sim.get("/payments").await.0, 200);
    let alive = reply(sim.request(Method::GET, "/livez")).await;
    assert_eq!(alive, (200, json!("ok")));
}
