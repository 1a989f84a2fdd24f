//! Webhooks to others, over real HTTP: signed, in order, again after a failure, after a crash and on demand.

mod changes;
mod receiver;

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use jangbu::{
    clock::Surroundings,
    sealing::Sealer,
    webhooks::{
        self, EndpointId, NewEndpoint, rows,
        runner::{self, Context},
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::receiver::{Receiver, now};
use crate::{
    cli::{
        process::{Place, Process, jangbu},
        servers,
    },
    database::surroundings_at,
    fanout::probe::eventually,
    web::{JWT_SECRET, Reply, Web},
};

const PATH: &str = "/api/v1/admin/webhooks";

async fn register(web: &Web, receiver: &Receiver, more: Value) -> Reply {
    let mut body = json!({"url": receiver.url, "after": 0});
    body.as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    web.post(PATH).admin().key(&web.fresh_key()).json(&body).send().await
}

async fn post(web: &Web, path: &str, body: Value) -> Reply {
    web.post(format!("{PATH}/{path}")).admin().json(&body).send().await
}

async fn one(web: &Web, id: &str) -> Value {
    web.get(format!("{PATH}/{id}")).admin().send().await.expect(200).body
}

/// Waits until it is kept that the endpoint has everything: what is not would be told again after a change.
async fn until_kept(web: &Web, id: &str) {
    eventually("it is kept how far it is", Duration::from_secs(20), async || {
        one(web, id).await["position"] == head(web).await
    })
    .await;
}

async fn head(web: &Web) -> i64 {
    jangbu::feed::head(&web.database().pool).await.expect("the log reads")
}

#[tokio::test]
async fn everything_is_told_signed_and_in_order_and_nobody_s_name() {
    let web = Web::start().await;
    let receiver = Receiver::start().await;
    let made = register(&web, &receiver, json!({})).await.expect(201);
    let (id, secret) = (made.text_of("/id"), made.text_of("/secret"));
    assert_eq!(made.header("location"), Some(format!("{PATH}/{id}").as_str()));

    web.product("DRIVER-10.5", 39_000, 3).await;
    let (order, payment, token) = web.order(&[("DRIVER-10.5", 1)]).await;
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    receiver.until_taken(1..=head(&web).await).await;

    receiver.assert_ordered();
    let got = receiver.got();
    for got in &got {
        assert!(got.is_signed_by(&secret, now()), "{got:?}");
        assert!(!got.is_signed_by("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", now()));
        assert_eq!(got.header("webhook-id"), got.event["id"]);
        assert_eq!(got.event["timestamp"], got.event["occurred_at"]);
        assert_eq!(got.header("content-type"), "application/json");
        let text = std::str::from_utf8(&got.body).expect("text");
        for personal in [
            "홍길동",
            "성춘향",
            "9876-5432",
            "98765432",
            "hong.gildong",
            "테헤란로",
            "ciphertext",
            "token_hash",
        ] {
            assert!(!text.contains(personal), "{personal} in {text}");
        }
    }
    the_documented_check_agrees(&got[0], &secret).await;
    // As the feed tells it.
    let placed = got
        .iter()
        .find(|got| got.event["type"] == "order.placed")
        .expect("an order");
    let query = format!("/api/v1/events?after={}&limit=1", placed.position() - 1);
    let mut told = placed.event.clone();
    told.as_object_mut().expect("an object").remove("timestamp");
    assert_eq!(told, web.get(query).admin().send().await.expect(200).body["data"][0]);

    // The secret is told once, and is in no table in clear.
    let shown = one(&web, &id).await;
    assert_eq!((&shown["status"], shown.get("secret")), (&json!("enabled"), None));
    let rows: Vec<String> =
        sqlx::query_scalar("select row_to_json(e)::text || encode(secret, 'escape') from webhook_endpoints e")
            .fetch_all(&web.database().pool)
            .await
            .expect("rows");
    assert!(!rows[0].contains(secret.trim_start_matches("whsec_")), "{rows:?}");
    until_kept(&web, &id).await;
    let deliveries = web
        .get(format!("{PATH}/{id}/deliveries"))
        .admin()
        .send()
        .await
        .expect(200)
        .body;
    assert_eq!(deliveries["data"], json!([]));
    assert_eq!(
        (
            &deliveries["attempts"][0]["status"],
            &deliveries["attempts"][0]["error"]
        ),
        (&json!(200), &Value::Null)
    );
}

/// Runs the example of docs/event-feed.md, where there is a Python to run it.
async fn the_documented_check_agrees(got: &receiver::Got, secret: &str) {
    let page = include_str!("../../docs/event-feed.md");
    let (_, rest) = page.split_once("```python\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let headers: std::collections::BTreeMap<&str, &str> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (name, got.header(name)))
        .into();
    let body = std::str::from_utf8(&got.body).expect("text");
    let arguments = json!({"headers": headers, "body": body, "secret": secret});
    let script = format!(
        "{example}\nimport json, sys\n\
         given = json.loads(sys.argv[1])\n\
         body = given['body'].encode()\n\
         other = 'whsec_' + base64.b64encode(b'x' * 32).decode()\n\
         print(verify([other, given['secret']], given['headers'], body), verify([other], given['headers'], body),\n\
             verify([given['secret']], given['headers'], body + b' '))"
    );
    let python = tokio::process::Command::new("python3")
        .args(["-c", &script, &arguments.to_string()])
        .output()
        .await;
    let Ok(output) = python else {
        eprintln!("there is no python3: the example is not run");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said,
        "True False False\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn what_fails_is_tried_again_and_holds_up_itself_alone() {
    let web = Web::start().await;
    let receiver = Receiver::start().await;
    let bad = web.product("BAD", 1_000, 0).await;
    let id = bad.clone();
    let mut refused = 0;
    receiver.judge(move |event| {
        if event["aggregate"]["id"] == id.as_str() && refused < 2 {
            refused += 1;
            // Not followed: what it leads to is not what an admin typed.
            return [302, 500][refused - 1];
        }
        200
    });
    let endpoint = register(&web, &receiver, json!({})).await.expect(201).text_of("/id");
    for sku in ["A", "B", "C", "D"] {
        web.product(sku, 1_000, 1).await;
    }
    let last = head(&web).await;
    let of_bad = receiver_positions(&web, &bad).await;
    assert_eq!(of_bad.len(), 2);
    receiver
        .until_taken((1..=last).filter(|position| !of_bad.contains(position)))
        .await;
    assert!(
        receiver.taken().iter().all(|position| !of_bad.contains(position)),
        "it waits"
    );
    let path = format!("{PATH}/{endpoint}/deliveries?status=retrying");
    eventually("it is told why", Duration::from_secs(5), async || {
        let waiting = web.get(&path).admin().send().await.expect(200).body;
        let [row] = &waiting["data"].as_array().expect("rows")[..] else {
            return false;
        };
        row["aggregate_id"] == bad.as_str() && row["position"] == of_bad[0] && row["error"] == "status 302"
    })
    .await;
    receiver.until_taken(1..=last).await;
    receiver.assert_ordered();
    let tries: Vec<u16> = receiver
        .got()
        .iter()
        .filter(|got| got.position() == of_bad[0])
        .map(|got| got.status)
        .collect();
    assert_eq!(tries, [302, 500, 200]);
    let ids: BTreeSet<String> = receiver
        .got()
        .iter()
        .filter(|got| got.position() == of_bad[0])
        .map(|got| got.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "the same message, whenever it is sent");
    eventually("nothing waits any more", Duration::from_secs(5), async || {
        let shown = one(&web, &endpoint).await;
        (&shown["retrying"], &shown["position"]) == (&json!(0), &json!(last))
    })
    .await;
}

async fn receiver_positions(web: &Web, aggregate: &str) -> Vec<i64> {
    sqlx::query_scalar("select position from events where aggregate_id = $1 order by position")
        .bind(aggregate)
        .fetch_all(&web.database().pool)
        .await
        .expect("the log reads")
}

#[tokio::test]
async fn an_endpoint_that_never_answers_slows_nobody_down() {
    let web = Web::start().await;
    // Takes connections, and that is all.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("it is bound"));
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            held.push(connection);
        }
    });
    let body = json!({"url": url, "after": 0});
    web.post(PATH).admin().json(&body).send().await.expect(201);
    let receiver = Receiver::start().await;
    register(&web, &receiver, json!({})).await.expect(201);
    let started = std::time::Instant::now();
    for n in 0..20 {
        web.product(&format!("SKU-{n}"), 1_000, 1).await;
    }
    receiver.until_taken(1..=head(&web).await).await;
    receiver.assert_ordered();
    // A request to the silent one takes fifteen.
    assert!(started.elapsed() < Duration::from_secs(14), "{:?}", started.elapsed());
    holding.abort();
}

#[tokio::test]
async fn it_is_told_again_from_any_position_and_by_two_secrets_for_a_while() {
    let web = Web::start().await;
    let receiver = Receiver::start().await;
    web.product("A", 1_000, 1).await;
    let made = register(
        &web,
        &receiver,
        json!({"event_types": ["product.registered", "stock.received"]}),
    )
    .await
    .expect(201);
    let (id, first) = (made.text_of("/id"), made.text_of("/secret"));
    assert_eq!(
        made.body["event_types"],
        json!(["product.registered", "stock.received"])
    );
    eventually("both are told", Duration::from_secs(20), async || {
        receiver.got().len() == 2
    })
    .await;

    until_kept(&web, &id).await;
    let rotated = post(&web, &format!("{id}/rotate"), json!({})).await.expect(200);
    let second = rotated.text_of("/secret");
    assert_ne!(first, second);
    assert!(rotated.body["former_secret_until"].is_string());
    post(&web, &format!("{id}/rewind"), json!({"to": 0})).await.expect(200);
    eventually("both are told again", Duration::from_secs(20), async || {
        receiver.got().len() == 4
    })
    .await;
    let got = receiver.got();
    for (before, after) in got[..2].iter().zip(&got[2..]) {
        assert_eq!(
            (before.header("webhook-id"), &before.body),
            (after.header("webhook-id"), &after.body)
        );
        assert!(before.is_signed_by(&first, now()) && !before.is_signed_by(&second, now()));
        assert!(after.is_signed_by(&first, now()) && after.is_signed_by(&second, now()));
    }

    until_kept(&web, &id).await;
    // The former secret became known to others: it ends at once.
    let third = post(&web, &format!("{id}/rotate"), json!({"overlap_hours": 0}))
        .await
        .expect(200)
        .text_of("/secret");
    let skip = got[3].position();
    post(&web, &format!("{id}/rewind"), json!({"to": skip - 1}))
        .await
        .expect(200);
    eventually("one is told again", Duration::from_secs(20), async || {
        receiver.got().len() == 5
    })
    .await;
    let last = receiver.got().pop().expect("one");
    assert_eq!(last.position(), skip);
    assert!(last.is_signed_by(&third, now()) && !last.is_signed_by(&second, now()));

    until_kept(&web, &id).await;
    // Disabled it is told nothing, and enabled what happened meanwhile.
    let change = |body: Value| web.patch(format!("{PATH}/{id}")).admin().json(&body).send();
    change(json!({"enabled": false})).await.expect(200);
    tokio::time::sleep(Duration::from_millis(700)).await;
    web.product("B", 1_000, 1).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(receiver.got().len(), 5);
    let shown = change(json!({"enabled": true, "event_types": ["stock.received"]}))
        .await
        .expect(200);
    assert_eq!(
        (&shown.body["status"], &shown.body["event_types"]),
        (&json!("enabled"), &json!(["stock.received"]))
    );
    eventually("it is told", Duration::from_secs(20), async || {
        receiver.got().len() == 6
    })
    .await;
    assert_eq!(receiver.got()[5].event["type"], "stock.received");

    until_kept(&web, &id).await;
    // Gone is gone, until somebody says otherwise.
    receiver.judge(|_| 410);
    web.product("C", 1_000, 1).await;
    eventually("it is gone", Duration::from_secs(20), async || {
        one(&web, &id).await["status"] == "gone"
    })
    .await;
    web.product("D", 1_000, 1).await;
    receiver.judge(|_| 200);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(receiver.got().len(), 7);
    change(json!({"enabled": true})).await.expect(200);
    eventually("both are told", Duration::from_secs(20), async || {
        receiver.got().len() == 9
    })
    .await;
    web.delete(format!("{PATH}/{id}")).admin().send().await.expect(204);
    web.get(format!("{PATH}/{id}"))
        .admin()
        .send()
        .await
        .refused(404, "webhook_not_found");
}

#[tokio::test]
async fn after_three_days_it_is_parked_until_somebody_asks() {
    let web = Web::start_with(&[], false).await;
    let receiver = Receiver::start().await;
    let bad = web.product("BAD", 1_000, 0).await;
    web.product("GOOD", 1_000, 1).await;
    let of_bad = receiver_positions(&web, &bad).await;
    let id = bad.clone();
    receiver.judge(move |event| {
        if event["aggregate"]["id"] == id.as_str() {
            503
        } else {
            200
        }
    });
    let endpoint = register(&web, &receiver, json!({})).await.expect(201).text_of("/id");

    let start = now();
    let (surroundings, clock) = surroundings_at(start);
    let ctx = Context {
        surroundings,
        ..web.node.webhooks_context()
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(runner::run(ctx, stop.clone()));
    let status = async |wanted: &str| {
        let path = format!("{PATH}/{endpoint}/deliveries?status={wanted}");
        web.get(path).admin().send().await.expect(200).body["data"].clone()
    };
    let tries = || receiver.got().iter().filter(|got| got.status == 503).count();
    let mut hours = 0;
    while status("parked").await == json!([]) {
        let before = tries();
        assert!(before < 200 && hours < 400, "{before} tries in {hours} hours");
        hours += 2;
        clock.advance(TimeDelta::hours(2));
        // What was on its way when the clock moved comes back after it, and waits for the next hour.
        for _ in 0..100 {
            if tries() > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(hours >= 72, "{hours}");
    let parked = status("parked").await;
    assert_eq!(
        (
            &parked[0]["aggregate_id"],
            &parked[0]["position"],
            &parked[0]["next_at"],
            &parked[0]["error"]
        ),
        (&json!(bad), &json!(of_bad[0]), &Value::Null, &json!("status 503"))
    );
    assert_eq!(one(&web, &endpoint).await["parked"], 1);
    assert_eq!(
        i64::try_from(receiver.taken().len()).expect("few"),
        head(&web).await - 2,
        "everybody else was told"
    );

    receiver.judge(|_| 200);
    clock.advance(TimeDelta::days(2));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!receiver.taken().contains(&of_bad[0]), "nobody has asked");
    let refused = post(&web, &format!("{endpoint}/retry"), json!({}))
        .await
        .refused(422, "validation_failed");
    assert_eq!(refused.body["errors"][0]["pointer"], "/all");
    let retry = json!({"aggregate_id": bad});
    assert_eq!(
        post(&web, &format!("{endpoint}/retry"), retry.clone())
            .await
            .expect(200)
            .body["retried"],
        1
    );
    receiver.until_taken(1..=head(&web).await).await;
    receiver.assert_ordered();
    assert_eq!(
        post(&web, &format!("{endpoint}/retry"), retry).await.expect(200).body["retried"],
        0
    );
    stop.cancel();
    running.await.expect("it ends in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_lose_nothing() {
    let web = Web::start_with(&[], false).await;
    let receiver = Receiver::start().await;
    // Slow enough that something is always on the way.
    receiver.judge(|_| {
        std::thread::sleep(Duration::from_millis(3));
        200
    });
    let made = register(&web, &receiver, json!({})).await.expect(201);
    let secret = made.text_of("/secret");
    let url = servers::url(web.database());
    let place = Place::new();
    let master = "07".repeat(32);
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_MASTER_KEY", master.as_str()),
        ("JANGBU_BIND", "127.0.0.1:0"),
        ("JANGBU_DB_POOL_MAX", "4"),
    ];
    for round in 0..3 {
        let mut shop = Process::start(&place, &["serve", "--only", "http"], &environment);
        shop.stderr.until("serving").await;
        let before = receiver.taken().len();
        let busy = async {
            for n in 0..40 {
                web.product(&format!("SKU-{round}-{n}"), 1_000, 1).await;
            }
        };
        let killing = async {
            eventually("some are told", Duration::from_secs(30), async || {
                tokio::time::sleep(Duration::from_millis(5)).await;
                receiver.taken().len() > before + 20
            })
            .await;
            shop.stop(Signal::KILL).await;
        };
        tokio::join!(busy, killing);
    }
    let mut shop = Process::start(&place, &["serve", "--only", "http"], &environment);
    shop.stderr.until("serving").await;
    receiver.until_taken(1..=head(&web).await).await;
    receiver.assert_ordered();
    assert!(receiver.got().iter().all(|got| got.is_signed_by(&secret, now())));
    let ended = shop.stop(Signal::TERM).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains("in-the-address"), "{}", ended.stderr);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let web = Web::start_with(&[], false).await;
    let receiver = Receiver::start().await;
    let guest = web.post("/api/v1/carts").send().await.expect(201).text_of("/token");
    for path in [PATH.to_owned(), format!("{PATH}/whk_{}", "0".repeat(32))] {
        web.get(&path).send().await.refused(401, "unauthenticated");
        web.get(&path).token(&guest).send().await.refused(403, "forbidden");
    }
    for (body, pointer, code) in [
        (json!({"url": "http://books.example.com/"}), "/url", "not_allowed"),
        (
            json!({"url": "https://kim:pw@books.example.com/"}),
            "/url",
            "not_allowed",
        ),
        (json!({"url": "books"}), "/url", "not_allowed"),
        (json!({}), "/url", "required"),
        (json!({"url": receiver.url, "after": -1}), "/after", "out_of_range"),
        (json!({"url": receiver.url, "after": 9_999}), "/after", "beyond_the_log"),
        (
            json!({"url": receiver.url, "secret": "whsec_mine"}),
            "/secret",
            "unknown_field",
        ),
    ] {
        let refused = web
            .post(PATH)
            .admin()
            .json(&body)
            .send()
            .await
            .refused(422, "validation_failed");
        let error = &refused.body["errors"][0];
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!(pointer), &json!(code)),
            "{body}"
        );
    }
    let unknown = register(&web, &receiver, json!({"event_types": ["order.lost"]})).await;
    let unknown = unknown.refused(400, "unknown_event_type");
    assert_eq!(unknown.body["errors"][0]["pointer"], "/event_types");

    // The same request makes one endpoint, and one secret.
    let ask = |body: Value| web.post(PATH).admin().key("once").json(&body).send();
    let made = ask(json!({"url": receiver.url})).await.expect(201);
    let again = ask(json!({"url": receiver.url})).await.expect(201);
    assert_eq!(
        (&again.body["secret"], again.header("idempotent-replayed")),
        (&made.body["secret"], Some("true"))
    );
    ask(json!({"url": receiver.url, "after": 0}))
        .await
        .refused(422, "idempotency_key_reused");
    let id = made.text_of("/id");
    let rotate = || {
        web.post(format!("{PATH}/{id}/rotate"))
            .admin()
            .key("turn")
            .json(&json!({}))
            .send()
    };
    let turned = rotate().await.expect(200);
    assert_eq!(rotate().await.expect(200).body["secret"], turned.body["secret"]);
    assert_eq!(
        ask(json!({"url": receiver.url})).await.expect(201).body["secret"],
        Value::Null
    );
    let far = post(&web, &format!("{id}/rewind"), json!({"to": 9_999}))
        .await
        .refused(422, "validation_failed");
    assert_eq!(far.body["errors"][0]["code"], "beyond_the_log");
    let nobody = format!("whk_{}", "0".repeat(32));
    for (path, body) in [
        ("rewind", json!({"to": 0})),
        ("retry", json!({"all": true})),
        ("rotate", json!({})),
    ] {
        post(&web, &format!("{nobody}/{path}"), body)
            .await
            .refused(404, "webhook_not_found");
    }
    assert_eq!(
        web.get(PATH).admin().send().await.expect(200).body["data"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn the_command_line_lists_rewinds_and_retries() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 1).await;
    let url = servers::url(web.database());
    let (place, master) = (Place::new(), "07".repeat(32));
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_MASTER_KEY", master.as_str()),
    ];
    let ask = async |arguments: &[&str]| jangbu(&place, arguments, &environment).await;
    assert_eq!(ask(&["webhooks", "list"]).await.stdout, "nobody is told what happens\n");
    let surroundings = Surroundings::system();
    let new = NewEndpoint {
        url: "https://books.example.com/".into(),
        event_types: Vec::new(),
        after: None,
        request: surroundings.ids.uuid(),
        request_hash: [0; 32],
    };
    let db = &web.database().pool;
    let made = webhooks::create(db, &Sealer::new(&[7; 32]), &surroundings, &new)
        .await
        .expect("it is made");
    let id = made.id.to_string();
    let listed = ask(&["webhooks", "list"]).await;
    let expected =
        format!("{id} enabled https://books.example.com/ at position 3, 0 retrying, 0 parked: every event\n");
    assert_eq!((listed.code, listed.stdout), (0, expected), "{}", listed.stderr);
    let rewound = ask(&["webhooks", "rewind", &id, "--to", "1"]).await;
    assert_eq!(
        (rewound.code, rewound.stdout),
        (0, format!("{id} is told everything after position 1\n"))
    );
    let json: Value = serde_json::from_str(ask(&["webhooks", "list", "--json"]).await.stdout.trim()).expect("JSON");
    assert_eq!((&json["position"], &json["id"]), (&json!(1), &json!(id)));
    sqlx::query(
        "insert into webhook_held (endpoint_id, aggregate_type, aggregate_id, position, attempts, since, next_at, parked, error)
        values ($1, 'product', 'prd_1', 1, 80, now(), now(), true, 'status 500')",
    )
    .bind(made.id.0)
    .execute(db)
    .await
    .expect("a row");
    let retried = ask(&["webhooks", "retry", &id, "--all"]).await;
    assert_eq!(retried.stdout, "1 aggregates are tried again\n", "{}", retried.stderr);
    assert_eq!(
        ask(&["webhooks", "retry", &id, "prd_1"]).await.stdout,
        "nothing like that is parked\n"
    );
    let unknown = EndpointId(uuid::Uuid::nil()).to_string();
    for (arguments, code) in [
        (["webhooks", "rewind", id.as_str(), "--to", "99"], 1),
        (["webhooks", "rewind", unknown.as_str(), "--to", "0"], 1),
        (["webhooks", "rewind", "whk_1", "--to", "0"], 2),
        (["webhooks", "rewind", id.as_str(), "--to", "-1"], 2),
    ] {
        let refused = ask(&arguments).await;
        assert_eq!(refused.code, code, "{arguments:?}: {}", refused.stderr);
    }
    let shown = rows::list(db, Some(made.id), 1, now()).await.expect("a list");
    assert_eq!((shown[0].position, shown[0].retrying, shown[0].parked), (1, 1, 0));

    // After a restore nothing waits for what is not there any more.
    sqlx::raw_sql(
        "update webhook_endpoints set position = 50;
        insert into webhook_held select endpoint_id, aggregate_type, 'prd_2', 51, attempts, since, next_at, true, error
            from webhook_held",
    )
    .execute(db)
    .await
    .expect("rows");
    let doctor = ask(&["doctor"]).await;
    assert!(
        doctor.stdout.contains("1 aggregates were given up for endpoints"),
        "{}",
        doctor.stdout
    );
    let fenced = ask(&["log", "fence"]).await;
    assert_eq!(fenced.code, 0, "{}", fenced.stderr);
    let shown = rows::list(db, Some(made.id), 1, now()).await.expect("a list");
    assert_eq!((shown[0].position, shown[0].retrying, shown[0].parked), (3, 1, 0));
}
