//! An order is explained by all that happened to it and nothing else, causes before effects.

use std::collections::{BTreeSet, HashSet};

use jangbu::explain::{self, Act, EffectState, Explanation, Outcome, Told};
use jangbu_events::{AggregateId, OrderId, PaymentId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::{
        JWT_SECRET,
        process::{Place, jangbu},
        servers,
    },
    shop::Shop,
    web::Web,
};

async fn explained(shop: &Shop, order: OrderId) -> Explanation {
    let explained = explain::explain(shop.executor.log(), order)
        .await
        .expect("it is explained");
    // What the log itself says belongs to the order.
    let logged: Vec<Uuid> =
        sqlx::query_scalar("select event_id from events where correlation_id = $1 order by position")
            .bind(order.uuid())
            .fetch_all(&shop.database.pool)
            .await
            .expect("events");
    let told: Vec<Uuid> = explained
        .commands
        .iter()
        .flat_map(|act| act.events.iter().map(|event| event.event_id))
        .collect();
    assert_eq!(
        told.iter().collect::<BTreeSet<_>>(),
        logged.iter().collect(),
        "all of it, and nothing else"
    );
    assert_eq!(told.len(), logged.len(), "each once");
    let mut seen = HashSet::new();
    for act in &explained.commands {
        if let Some(cause) = act.caused_by {
            assert!(seen.contains(&cause), "causes come first: {act:?}");
        }
        seen.extend(act.events.iter().map(|event| event.event_id));
    }
    explained
}

fn step<'a>(explained: &'a Explanation, name: &str) -> &'a Act {
    let found = explained.commands.iter().find(|act| act.step.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("{name} of {}", Told(explained)))
}

fn types(act: &Act) -> Vec<&str> {
    act.events.iter().map(|event| event.event_type).collect()
}

fn effects(explained: &Explanation) -> Vec<(&str, EffectState)> {
    explained
        .effects
        .iter()
        .map(|effect| (effect.kind.as_str(), effect.state))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_explained_from_its_cart_to_its_refund() {
    let shop = Shop::open().await;
    shop.product("A", 39_000, 10).await;
    shop.product("B", 1_000, 5).await;
    let cart = shop.cart(&[("A", 2), ("B", 1)]).await;
    let order = shop.check_out(cart).await.expect("it is placed").order_id;
    let placed = explained(&shop, order).await;
    assert_eq!((placed.status.as_str(), placed.commands.len()), ("awaiting_payment", 6));
    let states = effects(&placed);
    assert!(
        states.iter().all(|(_, state)| *state == EffectState::Pending),
        "nobody has set them yet"
    );
    // Others buy the same goods at the same time: that is another story.
    let other = shop.cart(&[("A", 1)]).await;
    shop.check_out(other).await.expect("it is placed");

    let payment = PaymentId::of(order, 1);
    shop.at_portone(payment, "pay", json!({})).await;
    shop.settle(payment).await;
    shop.run().await;
    let sold = explained(&shop, order).await;
    assert_eq!(sold.status, "confirmed");
    let root = &sold.commands[0];
    assert_eq!(
        (types(root), root.step.is_none(), root.caused_by),
        (vec!["cart.checked_out"], true, None)
    );
    assert_eq!(
        root.by.as_ref().map(|who| (who.kind.as_str(), who.channel.as_str())),
        Some(("guest", "test"))
    );
    let place = step(&sold, "place");
    assert_eq!(
        (types(place), place.caused_by),
        (vec!["order.placed"], Some(root.events[0].event_id))
    );
    for hold in ["hold:A", "hold:B"] {
        assert_eq!(step(&sold, hold).caused_by, Some(place.events[0].event_id));
    }
    let paid = sold.commands.iter().find(|act| types(act) == ["payment.confirmed"]);
    let paid = paid.expect("it was paid");
    assert!(paid.re_read && paid.caused_by.is_none());
    assert_eq!(paid.events[0].facts.split(" at ").next(), Some("79,000원 by card"));
    let confirmed = step(&sold, "confirm");
    assert_eq!(confirmed.caused_by, Some(paid.events[0].event_id));
    assert_eq!(types(step(&sold, "commit:A")), ["stock.committed"]);
    assert_eq!(
        effects(&sold),
        [
            ("hold_backstop", EffectState::Waiting),
            ("order_deadline", EffectState::Replaced),
            ("order_deadline", EffectState::Waiting)
        ]
    );

    let envelope = shop.envelope();
    let reason = jangbu_events::RefundReason::Operator;
    shop.payments
        .refund(payment, Some(10_000), reason, None, envelope)
        .await
        .expect("it is asked for");
    shop.run().await;
    let refunded = explained(&shop, order).await;
    let wished = refunded
        .commands
        .iter()
        .find(|act| types(act) == ["payment.cancellation_requested"]);
    let wished = wished.expect("somebody wished it");
    let refund = refunded
        .effects
        .iter()
        .find(|effect| effect.kind == "refund")
        .expect("PortOne was asked");
    assert_eq!(
        (refund.caused_by, refund.state),
        (Some(wished.events[0].event_id), EffectState::Over)
    );
    let tree = Told(&refunded).to_string();
    assert!(
        tree.contains("order.refunded") && tree.contains("10,000원 went back, 69,000원 remain"),
        "{tree}"
    );
    let json = serde_json::to_string(&refunded).expect("JSON");
    for secret in [
        "홍길동",
        "98765432",
        "hong.gildong",
        "테헤란로",
        "ciphertext",
        "00000000000000000000000000000000",
    ] {
        assert!(!tree.contains(secret) && !json.contains(secret), "{secret} in {tree}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_come_to_nothing_are_explained() {
    let shop = Shop::open().await;
    shop.product("A", 39_000, 10).await;
    shop.product("B", 1_000, 0).await;
    let cart = shop.cart(&[("A", 1), ("B", 1)]).await;
    shop.check_out(cart).await.expect_err("B is sold out");
    shop.run().await;
    let refused = explained(&shop, OrderId::of(cart, 1)).await;
    assert_eq!(refused.status, "refused");
    assert_eq!(types(step(&refused, "hold:B")), ["stock.hold_refused"]);
    assert_eq!(types(step(&refused, "refuse")), ["order.refused"]);
    assert_eq!(types(step(&refused, "release:A")), ["stock.released"]);
    assert_eq!(types(step(&refused, "reopen")), ["cart.reopened"]);

    let cart = shop.cart(&[("A", 3)]).await;
    let order = shop.check_out(cart).await.expect("it is placed").order_id;
    shop.run().await;
    shop.clock.advance(chrono::TimeDelta::hours(2));
    shop.run().await;
    let expired = explained(&shop, order).await;
    let end = expired
        .commands
        .iter()
        .find(|act| types(act) == ["order.expired"])
        .expect("it expired");
    assert_eq!(
        end.by.as_ref().map(|who| (who.kind.as_str(), who.channel.as_str())),
        Some(("system", "timer"))
    );
    assert!(!end.re_read && end.caused_by.is_none());
    assert!(
        effects(&expired).contains(&("order_deadline", EffectState::Over)),
        "{}",
        Told(&expired)
    );

    // Money comes all the same, and goes back: of that the order has nothing to record.
    let payment = PaymentId::of(order, 1);
    shop.at_portone(payment, "pay", json!({})).await;
    shop.settle(payment).await;
    shop.run().await;
    let late = explained(&shop, order).await;
    assert_eq!(types(step(&late, "confirm")), ["order.payment_rejected"]);
    let nothing = late.commands.iter().find(|act| act.outcome == Outcome::ChangedNothing);
    let nothing = nothing.unwrap_or_else(|| panic!("{}", Told(&late)));
    assert!(
        nothing
            .step
            .as_ref()
            .is_some_and(|step| step.starts_with("record_refund:"))
    );
    assert!(nothing.events.is_empty() && nothing.recorded_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_is_told_as_well() {
    let shop = Shop::open().await;
    shop.product("A", 39_000, 10).await;
    let cart = shop.cart(&[("A", 1)]).await;
    let order = shop.check_out(cart).await.expect("it is placed").order_id;
    shop.run().await;
    // The order ends, and whoever should have followed it up has died.
    let now = shop.executor.log().surroundings().now() + chrono::TimeDelta::days(1);
    shop.execute::<jangbu_domain::Order>(order, jangbu_domain::OrderCommand::Expire { now })
        .await;
    let explained = explain::explain(shop.executor.log(), order)
        .await
        .expect("it is explained");
    assert_eq!(step(&explained, "release:A").outcome, Outcome::Pending);
    let release = step(&explained, "release:A").command_id;
    sqlx::query(
        "insert into process_failures (command_id, process, key, position, step, error, failed_at)
         values ($1, 'checkout', $2, 1, 'release:A', 'stock_item: the order holds none of this stock', now())",
    )
    .bind(release)
    .bind(order.to_string())
    .execute(&shop.database.pool)
    .await
    .expect("as the runner leaves it");
    sqlx::query("update timers set attempts = 3, last_error = 'PortOne did not answer' where kind = 'order_deadline'")
        .execute(&shop.database.pool)
        .await
        .expect("a timer");
    let explained = explain::explain(shop.executor.log(), order)
        .await
        .expect("it is explained");
    assert_eq!(step(&explained, "release:A").outcome, Outcome::Failed);
    let tree = Told(&explained).to_string();
    for line in [
        "release:A: FAILED, stock_item: the order holds none",
        "reopen: not done yet",
        "waits, tried 3 times: PortOne did",
    ] {
        assert!(tree.contains(line), "{line} in {tree}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_explained_to_admins_and_on_the_command_line() {
    let web = Web::start().await;
    web.product("A", 39_000, 10).await;
    let (order, payment, token) = web.order(&[("A", 2)]).await;
    web.at_portone(&payment, "pay", json!({})).await;
    let confirmed = web.order_becomes(&order, &token, "confirmed").await;
    let path = format!("/api/v1/admin/orders/{order}/explain");
    web.get(&path).token(&token).send().await.refused(403, "forbidden");
    web.get(&path).send().await.refused(401, "unauthenticated");
    let nobody = format!("/api/v1/admin/orders/ord_{}/explain", "0".repeat(32));
    web.get(nobody).admin().send().await.refused(404, "order_not_found");
    let told = web.get(&path).admin().send().await.expect(200);
    assert_eq!(told.body["status"], "confirmed");
    let checked_out = &told.body["commands"][0];
    assert_eq!(checked_out["events"][0]["type"], "cart.checked_out");
    assert_eq!(
        (&checked_out["by"]["kind"], &checked_out["by"]["channel"]),
        (&json!("guest"), &json!("http"))
    );
    assert!(checked_out["by"]["request_id"].is_string(), "{checked_out}");
    let webhook = told.body["commands"]
        .as_array()
        .expect("commands")
        .iter()
        .find(|act| act["re_read"] == true);
    assert_eq!(webhook.expect("it was paid")["by"]["channel"], "webhook");

    let place = Place::new();
    let url = servers::url(web.database());
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    let number = confirmed.text_of("/number").to_lowercase();
    let tree = jangbu(&place, &["explain", "order", &number], &environment).await;
    assert_eq!(tree.code, 0, "{}", tree.stderr);
    assert!(
        tree.stdout
            .starts_with(&format!("{order} {} is confirmed", confirmed.text_of("/number"))),
        "{}",
        tree.stdout
    );
    assert!(tree.stdout.contains("portone by webhook, request "), "{}", tree.stdout);
    let json = jangbu(&place, &["explain", "order", &order, "--json"], &environment).await;
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["commands"][0], told.body["commands"][0]);
    for unknown in ["260302-AAAAAAAA", "", "ord_x", "a\u{1F600}"] {
        let refused = jangbu(&place, &["explain", "order", unknown], &environment).await;
        assert_eq!(
            (refused.code, refused.stderr.trim()),
            (1, "jangbu: there is no such order")
        );
    }
}
