//! `Idempotency-Key` over HTTP: one effect under any concurrency.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Sim, cancel_body, reply};

const KEY: &str = "\"refund-01J9ZK3V6Q8W2N4B\"";

async fn cancel(sim: &Sim, id: &str, key: &str, amount: Option<i64>) -> Reply {
    let request = sim
        .api(Method::POST, &format!("/payments/{id}/cancel"))
        .header("idempotency-key", key);
    reply(request.body(cancel_body(amount).to_string())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_cancels_at_once_with_one_key_have_one_effect() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 100_000})).await;
    let until_done = async || loop {
        let (status, body) = cancel(&sim, "p", KEY, Some(1_000)).await;
        if status != 409 {
            return (status, body);
        }
        assert_eq!(body["type"], "IDEMPOTENCY_OUTSTANDING_REQUEST");
    };
    let done = join_all((0..50).map(|_| until_done())).await;
    assert_eq!(done[0].0, 200);
    assert!(
        done.iter().all(|reply| *reply == done[0]),
        "everybody gets the same answer"
    );
    assert_eq!(cancel(&sim, "p", KEY, Some(1_000)).await, done[0]);
    let inside = sim.inside("p").await;
    assert_eq!(
        (&inside["cancelEffects"], &inside["payment"]["amount"]["cancelled"]),
        (&json!(1), &json!(1_000))
    );
    assert!(inside["callCounts"]["cancel"].as_u64().unwrap() >= 51);
    let last = inside["calls"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["idempotencyKey"], &last["replayed"]),
        (&json!(KEY), &json!(true))
    );
}

#[tokio::test]
async fn a_key_is_outstanding_while_its_first_call_runs() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    sim.fault(json!({"fault": "api_delay", "ms": 60_000, "when": "after", "times": 1}))
        .await;
    let hangs = cancel(&sim, "p", KEY, None);
    let meanwhile = async {
        while sim.inside("p").await["cancelEffects"] == 0 {
            tokio::task::yield_now().await;
        }
        cancel(&sim, "p", KEY, None).await
    };
    tokio::select! {
        _ = hangs => panic!("the first call takes a minute"),
        (status, body) = meanwhile => {
            assert_eq!((status, &body["type"]), (409, &json!("IDEMPOTENCY_OUTSTANDING_REQUEST")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_key_the_balance_still_holds_under_concurrency() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    let cancels = (0..50).map(|_| sim.post("/payments/p/cancel", cancel_body(Some(1_000))));
    let succeeded = join_all(cancels)
        .await
        .into_iter()
        .filter(|(status, _)| *status == 200)
        .count();
    assert_eq!(succeeded, 10);
    assert_eq!(sim.payment("p").await["status"], "CANCELLED");
}

#[tokio::test]
async fn errors_are_stored_too_and_a_new_key_tries_anew() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    sim.fault(json!({"fault": "pg_provider", "times": 1, "pgCode": "E1", "pgMessage": "점검 중"}))
        .await;
    let refused = cancel(&sim, "p", KEY, None).await;
    assert_eq!(
        (refused.0, &refused.1["type"], &refused.1["pgCode"]),
        (502, &json!("PG_PROVIDER"), &json!("E1"))
    );
    assert_eq!(cancel(&sim, "p", KEY, None).await, refused);
    let bare = KEY.trim_matches('"');
    assert_eq!(
        cancel(&sim, "p", bare, None).await,
        refused,
        "the quotes do not make another key"
    );
    assert_eq!(cancel(&sim, "p", "\"refund-another-key-01\"", None).await.0, 200);
    assert_eq!(sim.inside("p").await["cancelEffects"], 1);
}

#[tokio::test]
async fn a_key_belongs_to_its_path_and_ends_after_three_hours() {
    let sim = Sim::start().await;
    for id in ["p", "q"] {
        sim.act(id, "pay", json!({"amount": 10_000})).await;
        assert_eq!(cancel(&sim, id, KEY, Some(100)).await.0, 200);
    }
    sim.clock.advance(chrono::TimeDelta::hours(3));
    assert_eq!(cancel(&sim, "p", KEY, Some(100)).await.0, 200);
    assert_eq!(sim.inside("p").await["cancelEffects"], 2);
    assert_eq!(cancel(&sim, "p", "\"short\"", Some(100)).await.0, 400);
    let read = sim.api(Method::GET, "/payments/q").header("idempotency-key", "ignored");
    assert_eq!(reply(read).await.0, 200, "a GET ignores the key");
}

#[tokio::test]
async fn a_dropped_answer_is_learnt_by_repeating_the_call() {
    let sim = Sim::start().await;
    sim.act("p", "pay", json!({"amount": 10_000})).await;
    sim.fault(json!({"fault": "api_drop_after", "times": 1, "operation": "cancel"}))
        .await;
    let call = || {
        let request = sim
            .api(Method::POST, "/payments/p/cancel")
            .header("idempotency-key", KEY);
        request.body(cancel_body(None).to_string())
    };
    let error = call()
        .send()
        .await
        .expect_err("the connection is dropped before any answer");
    assert!(error.is_request(), "{error:?}");
    assert_eq!(sim.payment("p").await["status"], "CANCELLED");
    let (status, answer): (u16, Value) = reply(call()).await;
    assert_eq!((status, &answer["cancellation"]["status"]), (200, &json!("SUCCEEDED")));
    let inside = sim.inside("p").await;
    assert_eq!(
        (&inside["cancelEffects"], &inside["calls"][0]["status"]),
        (&json!(1), &Value::Null)
    );
}
