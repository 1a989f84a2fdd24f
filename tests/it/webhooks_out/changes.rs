//! What an admin changes of an endpoint while something waits for it.

use std::time::Duration;

use chrono::TimeDelta;
use jangbu::webhooks::{EndpointId, runner};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{PATH, head, now, one, receiver::Receiver, receiver_positions as positions, register, until_kept};
use crate::{fanout::probe::eventually, web::Web};

/// An endpoint that has been at the end of the log for four days, but for what waits.
async fn endpoint(web: &Web, receiver: &Receiver, held: &[(&str, &str, i64, bool)]) -> String {
    let id = register(web, receiver, json!({"after": head(web).await}))
        .await
        .expect(201)
        .text_of("/id");
    let endpoint: EndpointId = id.parse().expect("an id");
    for (aggregate_type, aggregate_id, position, parked) in held {
        sqlx::query(
            "insert into webhook_held
                (endpoint_id, aggregate_type, aggregate_id, position, attempts, since, next_at, parked, error)
            values ($1, $2, $3, $4, 80, $5, $5, $6, 'status 500')",
        )
        .bind(endpoint.0)
        .bind(aggregate_type)
        .bind(aggregate_id)
        .bind(position)
        .bind(now() - TimeDelta::days(4))
        .bind(parked)
        .execute(&web.database().pool)
        .await
        .expect("a row");
    }
    id
}

async fn change(web: &Web, id: &str, body: Value) {
    web.patch(format!("{PATH}/{id}"))
        .admin()
        .json(&body)
        .send()
        .await
        .expect(200);
}

async fn waiting(web: &Web, id: &str) -> Vec<(i64, String, i64)> {
    let told = web
        .get(format!("{PATH}/{id}/deliveries"))
        .admin()
        .send()
        .await
        .expect(200)
        .body;
    let row = |row: &Value| {
        let number = |name: &str| row[name].as_i64().expect("a number");
        let status = row["status"].as_str().expect("a status").to_owned();
        (number("position"), status, number("attempts"))
    };
    told["data"].as_array().expect("rows").iter().map(row).collect()
}

#[tokio::test]
async fn the_time_that_it_was_disabled_is_not_held_against_it() {
    let web = Web::start_with(&[], false).await;
    let receiver = Receiver::start().await;
    let (bad, given_up) = (web.product("BAD", 1_000, 0).await, web.product("WORSE", 1_000, 0).await);
    let (first, parked) = (positions(&web, &bad).await[0], positions(&web, &given_up).await[0]);
    let held = [
        ("product", bad.as_str(), first, false),
        ("product", &given_up, parked, true),
    ];
    let id = endpoint(&web, &receiver, &held).await;
    let as_before = [(first, "retrying".to_owned(), 80), (parked, "parked".to_owned(), 80)];
    change(&web, &id, json!({"enabled": true})).await;
    assert_eq!(waiting(&web, &id).await, as_before, "it was enabled");
    change(&web, &id, json!({"enabled": false})).await;
    assert_eq!(waiting(&web, &id).await, as_before);
    change(&web, &id, json!({"enabled": true})).await;
    let anew = [(first, "retrying".to_owned(), 0), (parked, "parked".to_owned(), 80)];
    assert_eq!(waiting(&web, &id).await, anew);

    // It fails once more, and is tried again.
    receiver.judge(|_| 503);
    let stop = CancellationToken::new();
    let running = tokio::spawn(runner::run(web.node.webhooks_context(), stop.clone()));
    eventually("it is tried", Duration::from_secs(20), async || {
        waiting(&web, &id).await[0] == (first, "retrying".to_owned(), 1)
    })
    .await;
    receiver.judge(|_| 200);
    receiver.until_taken(positions(&web, &bad).await).await;
    receiver.assert_ordered();
    stop.cancel();
    running.await.expect("it ends in order");
}

#[tokio::test]
async fn what_is_wanted_no_more_is_told_no_more() {
    let web = Web::start_with(&[], false).await;
    let receiver = Receiver::start().await;
    let mut held = Vec::new();
    for sku in ["A", "B"] {
        let product = web.product(sku, 1_000, 1).await;
        let first = positions(&web, &product).await[0];
        held.push(("product", product, first, sku == "B"));
    }
    let (stock, stocked_at): (String, i64) = sqlx::query_as(
        "select aggregate_id, position from events where event_type = 'stock.received' order by position limit 1",
    )
    .fetch_one(&web.database().pool)
    .await
    .expect("stock");
    held.push(("stock_item", stock, stocked_at, false));
    let rows: Vec<(&str, &str, i64, bool)> = held
        .iter()
        .map(|(kind, id, at, parked)| (*kind, id.as_str(), *at, *parked))
        .collect();
    let id = endpoint(&web, &receiver, &rows).await;
    let published: Vec<i64> =
        sqlx::query_scalar("select position from events where event_type = 'product.published' order by position")
            .fetch_all(&web.database().pool)
            .await
            .expect("the log reads");
    assert_eq!(published.len(), 2);

    // What they wait for is among the types: nothing moves.
    change(
        &web,
        &id,
        json!({"event_types": ["product.registered", "stock.received"]}),
    )
    .await;
    assert_eq!(waiting(&web, &id).await.iter().filter(|row| row.2 == 80).count(), 3);
    change(&web, &id, json!({"event_types": ["product.published"]})).await;
    let expected: Vec<_> = published
        .iter()
        .map(|position| (*position, "retrying".to_owned(), 0))
        .collect();
    assert_eq!(waiting(&web, &id).await, expected);

    let stop = CancellationToken::new();
    let running = tokio::spawn(runner::run(web.node.webhooks_context(), stop.clone()));
    receiver.until_taken(published.clone()).await;
    until_kept(&web, &id).await;
    eventually("nothing waits any more", Duration::from_secs(20), async || {
        one(&web, &id).await["retrying"] == 0
    })
    .await;
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, published);
    stop.cancel();
    running.await.expect("it ends in order");
}

#[tokio::test]
async fn a_rotation_that_is_asked_for_again_is_not_another() {
    let web = Web::start_with(&[], false).await;
    let receiver = Receiver::start().await;
    let id = endpoint(&web, &receiver, &[]).await;
    let rotate = |key: &'static str, body: Value| {
        web.post(format!("{PATH}/{id}/rotate"))
            .admin()
            .key(key)
            .json(&body)
            .send()
    };
    let first = rotate("one", json!({})).await.expect(200).text_of("/secret");
    assert_eq!(rotate("one", json!({})).await.expect(200).text_of("/secret"), first);
    rotate("one", json!({"overlap_hours": 0}))
        .await
        .refused(422, "idempotency_key_reused");
    let second = rotate("two", json!({})).await.expect(200).text_of("/secret");
    // Late, by way of a network that repeats: what the receivers changed over to stays.
    let late = rotate("one", json!({})).await.expect(200);
    assert_eq!(
        (&late.body["secret"], late.header("idempotent-replayed")),
        (&Value::Null, Some("true"))
    );
    assert_eq!(rotate("two", json!({})).await.expect(200).text_of("/secret"), second);
    // And a second removal finds nothing.
    let remove = || web.delete(format!("{PATH}/{id}")).admin().send();
    remove().await.expect(204);
    remove().await.refused(404, "webhook_not_found");
}
