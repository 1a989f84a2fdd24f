//! The feed of events for programs of others: pages and streams, both told everything and nobody's name.

use std::time::Duration;

use jangbu::{
    clock::Surroundings,
    http::auth::{Role, mint_token},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::web::{JWT_SECRET, Reply, Web};

async fn page(web: &Web, query: &str) -> Reply {
    web.get(format!("/api/v1/events?{query}")).admin().send().await
}

fn positions(page: &Value) -> Vec<i64> {
    let data = page["data"].as_array().expect("events").iter();
    data.map(|event| event["position"].as_i64().expect("a position"))
        .collect()
}

/// Everything from a cursor to the end, in pages.
async fn read_all(web: &Web, query: &str) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let page = page(web, &format!("after={after}&{query}")).await.expect(200);
        events.extend(page.body["data"].as_array().expect("events").iter().cloned());
        after = page.text_of("/page/next");
        if page.body["page"]["has_more"] == false {
            assert_eq!(page.body["page"]["position"], page.body["page"]["head"]);
            return events;
        }
    }
}

/// A stream of server-sent events, read as a client would.
struct Sse {
    answer: reqwest::Response,
    bytes: Vec<u8>,
    last_id: Option<String>,
}

/// What came.
#[derive(Debug, PartialEq)]
enum Said {
    Event(Value),
    /// A comment, or an id alone.
    Nothing,
    End,
}

impl Sse {
    async fn open(web: &Web, query: &str, last_id: Option<&str>) -> Self {
        let answer = Self::ask(web, query, last_id).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self::of(answer)
    }

    fn of(answer: reqwest::Response) -> Self {
        Self {
            answer,
            bytes: Vec::new(),
            last_id: None,
        }
    }

    async fn ask(web: &Web, query: &str, last_id: Option<&str>) -> reqwest::Response {
        let request = web.client.get(format!("{}/api/v1/events?{query}", web.base));
        let mut request = request.bearer_auth(&web.admin).header("accept", "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        request.send().await.expect("the server answers")
    }

    async fn said(&mut self) -> Said {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("whole characters");
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::to_owned)
                };
                self.last_id = field("id: ").or(self.last_id.take());
                return match field("data: ") {
                    Some(data) => Said::Event(serde_json::from_str(&data).expect("JSON")),
                    None => Said::Nothing,
                };
            }
            let chunk = timeout(Duration::from_secs(20), self.answer.chunk()).await;
            match chunk.expect("it says something") {
                Ok(Some(bytes)) => self.bytes.extend_from_slice(&bytes),
                Ok(None) | Err(_) => return Said::End,
            }
        }
    }

    async fn event(&mut self) -> Value {
        loop {
            match self.said().await {
                Said::Event(event) => return event,
                Said::Nothing => {}
                Said::End => panic!("the stream ended"),
            }
        }
    }
}

async fn purchase(web: &Web) -> (String, String) {
    web.product("DRIVER-10.5", 39_000, 3).await;
    let (order, payment, token) = web.order(&[("DRIVER-10.5", 1)]).await;
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    (order, token)
}

#[tokio::test]
async fn pages_have_everything_in_order_and_nobody_s_name() {
    let web = Web::start().await;
    let (order, _) = purchase(&web).await;
    let log: Vec<(i64, String, uuid::Uuid, String)> =
        sqlx::query_as("select position, event_type, event_id, aggregate_id from events order by position")
            .fetch_all(&web.database().pool)
            .await
            .expect("the log reads");
    let told = read_all(&web, "limit=3").await;
    let of = |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let told_rows: Vec<_> = told
        .iter()
        .map(|event| {
            (
                event["position"].as_i64(),
                of(event, "/type"),
                of(event, "/id"),
                of(event, "/aggregate/id"),
            )
        })
        .collect();
    let log_rows: Vec<_> = log
        .into_iter()
        .map(|(position, name, id, of)| {
            (
                Some(position),
                Some(name),
                Some(format!("evt_{}", id.simple())),
                Some(of),
            )
        })
        .collect();
    assert!(told_rows.len() >= log_rows.len().min(10));
    assert_eq!(told_rows[..log_rows.len()], log_rows);

    let placed = told
        .iter()
        .find(|event| event["type"] == "order.placed")
        .expect("an order");
    assert_eq!(placed["data"]["orderer"], json!({"sealed": true}));
    assert_eq!(placed["data"]["owner"], json!({"kind": "guest"}));
    assert_eq!(
        placed["data"]["totals"]["total"],
        json!({"amount": 39_000, "currency": "KRW"})
    );
    assert_eq!(
        (&placed["version"], &placed["aggregate"]["sequence"]),
        (&json!("1"), &json!(1))
    );
    assert!(placed["occurred_at"].as_str().expect("a time").ends_with("+09:00"));
    let confirmed = told
        .iter()
        .find(|event| event["type"] == "order.confirmed")
        .expect("it");
    assert_eq!(of(confirmed, "/metadata/correlation_id"), Some(order));
    let cause = of(confirmed, "/metadata/causation_id").expect("a cause");
    assert!(told.iter().any(|event| event["id"] == cause.as_str()), "{cause}");
    let all = json!(told).to_string();
    for secret in [
        "홍길동",
        "성춘향",
        "9876-5432",
        "98765432",
        "hong.gildong",
        "테헤란로",
        "904호",
        "ciphertext",
        "key_id",
        "token_hash",
        "ip_hash",
        "request_id",
    ] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_filter_skips_and_still_goes_on() {
    let web = Web::start_with(&[], false).await;
    for sku in ["A", "B", "C"] {
        web.product(sku, 1_000, 1).await;
    }
    let every = read_all(&web, "").await;
    let wanted = ["product.published", "stock.received"];
    let some = read_all(&web, &format!("limit=2&types={}", wanted.join(","))).await;
    let expected: Vec<&Value> = every
        .iter()
        .filter(|event| wanted.contains(&event["type"].as_str().expect("a type")))
        .collect();
    assert_eq!(some.iter().collect::<Vec<_>>(), expected);
    assert_eq!(expected.len(), 6);
    // Of a type that never came: nothing to show, and yet seen to the end.
    let none = page(&web, "types=payment.failed").await.expect(200);
    assert_eq!(
        (&none.body["data"], &none.body["page"]["has_more"]),
        (&json!([]), &json!(false))
    );
    assert_eq!(none.body["page"]["position"].as_u64(), Some(every.len() as u64));
    let next = none.text_of("/page/next");
    web.product("D", 1_000, 0).await;
    let news = page(&web, &format!("after={next}&limit=1")).await.expect(200);
    let seen = i64::try_from(every.len()).expect("a short log");
    assert_eq!(positions(&news.body), [seen + 1]);
    assert_eq!(news.body["page"]["has_more"], true);
}

#[tokio::test]
async fn a_rare_type_is_looked_for_in_steps() {
    let web = Web::start_with(&[], false).await;
    sqlx::query(
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
            slot, store_id, event_id, command_id, occurred_at, recorded_at)
        select n, 'cart', 'crt_1', n, case when n = 41000 then 'cart.reopened' else 'cart.cleared' end, '1',
            '{\"type\":\"cart.cleared\"}', '{\"actor_kind\":\"system\",\"channel\":\"cli\"}', 0, gen_random_uuid(),
            gen_random_uuid(), gen_random_uuid(), now(), now()
        from generate_series(1, 45000) as n",
    )
    .execute(&web.database().pool)
    .await
    .expect("rows");
    let (mut seen, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let page = page(&web, &format!("types=cart.reopened&after={after}"))
            .await
            .expect(200);
        seen.push((
            page.body["page"]["position"].as_i64().expect("a position"),
            positions(&page.body),
        ));
        after = page.text_of("/page/next");
        if page.body["page"]["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, [(20_000, vec![]), (40_000, vec![]), (45_000, vec![41_000])]);
    // A stream does not stop there either.
    let mut stream = Sse::open(&web, "types=cart.reopened", None).await;
    assert_eq!(stream.event().await["position"], 41_000);
}

#[tokio::test]
async fn what_cannot_be_read_on_from_is_refused() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 1).await;
    let first = page(&web, "limit=1").await.expect(200);
    let (log, next) = (first.text_of("/page/log_id"), first.text_of("/page/next"));
    assert_eq!(next, format!("{log}:1"));

    let unknown = page(&web, "types=order.placed,order.lost")
        .await
        .refused(400, "unknown_event_type");
    assert_eq!(unknown.body["errors"][0]["parameter"], "types");
    assert_eq!(unknown.body["unknown"], json!(["order.lost"]));
    for (query, parameter, code) in [
        ("limit=0", "limit", "out_of_range"),
        ("limit=1001", "limit", "out_of_range"),
        ("after=-1", "after", "wrong_type"),
        ("after=abc:1", "after", "wrong_type"),
        ("after=99999", "after", "beyond_the_log"),
        ("kinds=a", "kinds", "unknown_field"),
    ] {
        let refused = page(&web, query).await.refused(422, "validation_failed");
        let error = &refused.body["errors"][0];
        assert_eq!(
            (&error["parameter"], &error["code"]),
            (&json!(parameter), &json!(code)),
            "{query}"
        );
    }
    page(&web, "limit=1000").await.expect(200);

    // A cursor of before the restore.
    let fenced = jangbu::log::fence(
        &mut web.database().pool.acquire().await.expect("a connection"),
        &Surroundings::system(),
    )
    .await
    .expect("it is fenced");
    let foreign = page(&web, &format!("after={next}"))
        .await
        .refused(409, "cursor_of_another_log");
    assert_eq!(foreign.body["log_id"], fenced.log_id.simple().to_string());
    let stream = Sse::ask(&web, "", Some(&next)).await;
    assert_eq!(stream.status(), 409);
    let again = page(&web, "after=1&limit=1").await.expect(200);
    assert_eq!(positions(&again.body), [2]);
}

#[tokio::test]
async fn only_admins_are_told() {
    let web = Web::start_with(&[], false).await;
    let guest = web.post("/api/v1/carts").send().await.expect(201).text_of("/token");
    let now = Surroundings::system().now();
    let member = mint_token(
        JWT_SECRET,
        Role::Customer,
        "cus_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f",
        chrono::TimeDelta::hours(1),
        now,
    )
    .expect("a token");
    for accept in ["application/json", "text/event-stream"] {
        let ask = || web.get("/api/v1/events?types=nonsense").header("accept", accept);
        ask().send().await.refused(401, "unauthenticated");
        ask().token("a.b.c").send().await.refused(401, "token_invalid");
        ask().token(&guest).send().await.refused(403, "forbidden");
        ask().token(&member).send().await.refused(403, "forbidden");
        ask().admin().send().await.refused(400, "unknown_event_type");
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_left() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 1).await;
    let every = read_all(&web, "").await;
    let mut stream = Sse::open(&web, "", None).await;
    for expected in &every[..2] {
        assert_eq!(stream.event().await, *expected);
    }
    let seen = stream.last_id.clone().expect("an id");
    drop(stream);
    // The address still says where it began.
    let mut again = Sse::open(&web, "after=0", Some(&seen)).await;
    for expected in &every[2..] {
        assert_eq!(again.event().await, *expected);
    }
    // What happens from now on comes by itself.
    let mut renamed = Sse::open(&web, "types=product.renamed", None).await;
    assert_eq!(renamed.said().await, Said::Nothing);
    let product = every[0]["aggregate"]["id"].as_str().expect("an id");
    let body = json!({"name": "새 이름", "version": 2});
    let edit = web
        .patch(format!("/api/v1/admin/products/{product}"))
        .admin()
        .json(&body);
    edit.send().await.expect(200);
    let news = again.event().await;
    assert_eq!(news["type"], "product.renamed");
    assert_eq!(renamed.event().await, news);
    // In silence it says that it is there, and how far it looked.
    web.product("B", 1_000, 0).await;
    assert_eq!(renamed.said().await, Said::Nothing);
    let head = page(&web, "limit=1").await.body["page"]["head"].clone();
    let id = renamed.last_id.clone().expect("an id");
    assert!(id.ends_with(&format!(":{head}")), "{id}");
}

#[tokio::test]
async fn streams_are_few_and_end_with_the_process() {
    let web = Web::start_with(&[("JANGBU_EVENT_STREAMS_MAX", "2")], false).await;
    for n in 0..40 {
        web.product(&format!("SKU-{n}"), 1_000, 1).await;
    }
    let mut one = Sse::open(&web, "", None).await;
    // Opened and never read: nobody waits for it.
    let idle = Sse::ask(&web, "", None).await;
    let refused = Sse::ask(&web, "", None).await;
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers().get("retry-after").is_some()
        ),
        (503, true)
    );
    let all = page(&web, "limit=1000").await.expect(200);
    for position in positions(&all.body) {
        assert_eq!(one.event().await["position"], position);
    }
    drop(idle);
    // Its place is free again once the server has seen it gone.
    let mut two = loop {
        let answer = Sse::ask(&web, "after=1", None).await;
        if answer.status() == 200 {
            break Sse::of(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(two.event().await["position"], 2);
    web.stop_serving();
    for stream in [&mut one, &mut two] {
        while stream.said().await != Said::End {}
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let mut web = Web::start_with(&[], false).await;
    let now = Surroundings::system().now();
    web.admin = mint_token(JWT_SECRET, Role::Admin, "kim", chrono::TimeDelta::seconds(4), now).expect("a token");
    let mut stream = Sse::open(&web, "", None).await;
    timeout(Duration::from_secs(8), async {
        while stream.said().await != Said::End {}
    })
    .await
    .expect("it ends");
    page(&web, "limit=1").await.refused(401, "token_expired");
}
