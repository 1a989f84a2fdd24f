//! A whole process behind real HTTP: every role, a database of its own, PortOne's simulator.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use jangbu::{
    clock::Surroundings,
    config::Config,
    http::{
        self, App,
        auth::{Role, mint_token},
    },
    node::{Node, Roles},
};
use jangbu_sandbox::{Running, SandboxConfig};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::database::Database;

pub const JWT_SECRET: &str = "a secret for tests, of 32 bytes or more";
pub const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub const STORE: &str = "store-test";
const API_SECRET: &str = "sandbox-api-secret";

pub struct Web {
    pub node: Node,
    pub sandbox: Running,
    pub client: reqwest::Client,
    pub base: String,
    pub admin: String,
    keys: AtomicU32,
    shutdown: CancellationToken,
    _tasks: JoinSet<()>,
    database: Database,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Fails unless the status is this one.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Fails unless it is this problem, in the one format.
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.body["instance"].as_str(), self.header("x-request-id"));
        assert_eq!(self.body["status"], status);
        self
    }

    pub fn text_of(&self, pointer: &str) -> String {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{pointer} of {}", self.text))
            .to_owned()
    }
}

/// A request in the making.
pub struct Ask<'a> {
    web: &'a Web,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl Ask<'_> {
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn token_if(self, token: Option<&str>) -> Self {
        match token {
            Some(token) => self.token(token),
            None => self,
        }
    }

    pub fn admin(self) -> Self {
        let token = self.web.admin.clone();
        self.token(&token)
    }

    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string()).header("content-type", "application/json")
    }

    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub async fn send(self) -> Reply {
        let mut request = self
            .web
            .client
            .request(self.method, format!("{}{}", self.web.base, self.path));
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let answer = request.send().await.expect("the server answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("text");
        Reply {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }
}

impl Web {
    pub async fn start() -> Self {
        Self::start_with(&[], true).await
    }

    /// With other variables (an empty value takes one away), with or without workers.
    pub async fn start_with(changes: &[(&str, &str)], background: bool) -> Self {
        let database = Database::create().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let mut sandbox = SandboxConfig::new(API_SECRET, STORE);
        sandbox.webhook_urls = vec![format!("{base}/webhooks/portone")];
        sandbox.webhook_secrets = vec![WEBHOOK_SECRET.to_owned()];
        // The same shuffles in every run.
        sandbox.seed = Some(20_170_301);
        // What a busy machine refuses comes again in 0.1 s, not in a minute.
        sandbox.retry_time_scale = 600;
        let sandbox = jangbu_sandbox::start(sandbox, "127.0.0.1:0".parse().expect("an address"))
            .await
            .expect("the sandbox starts");
        let mut variables: HashMap<String, String> = [
            ("DATABASE_URL", database.options.to_url_lossy().as_str()),
            ("JANGBU_JWT_SECRET", JWT_SECRET),
            ("JANGBU_MASTER_KEY", &"07".repeat(32)),
            ("JANGBU_DB_POOL_MAX", "5"),
            ("JANGBU_RATE_REQUESTS_PER_MINUTE", "0"),
            ("PORTONE_API_BASE", &sandbox.base_url()),
            ("PORTONE_API_SECRET", API_SECRET),
            ("PORTONE_STORE_ID", STORE),
            ("PORTONE_CHANNEL_KEY", "channel-key-test"),
            ("PORTONE_WEBHOOK_SECRETS", WEBHOOK_SECRET),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(
            changes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = Config::from_vars(|name| variables.get(name).cloned()).expect("the configuration is right");
        let surroundings = Surroundings::system();
        let node = Node::start(config, surroundings.clone())
            .await
            .expect("the process starts");
        let shutdown = CancellationToken::new();
        let roles = Roles {
            processes: background,
            relay: background,
            projections: if background {
                jangbu_projections::all().iter().collect()
            } else {
                Vec::new()
            },
        };
        let tasks = node.spawn(roles, &shutdown);
        let app = App::try_new(&node, None).expect("the webhook secrets are right");
        tokio::spawn(http::serve(app, listener, shutdown.clone()));
        let admin = mint_token(
            JWT_SECRET,
            Role::Admin,
            "kim",
            chrono::TimeDelta::hours(1),
            surroundings.now(),
        );
        Self {
            node,
            sandbox,
            client: reqwest::Client::new(),
            base,
            admin: admin.expect("a token"),
            keys: AtomicU32::new(0),
            shutdown,
            _tasks: tasks,
            database,
        }
    }

    /// Its own.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// As SIGTERM would.
    pub fn stop_serving(&self) {
        self.shutdown.cancel();
    }

    fn ask(&self, method: Method, path: impl Into<String>) -> Ask<'_> {
        Ask {
            web: self,
            method,
            path: path.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn get(&self, path: impl Into<String>) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    pub fn post(&self, path: impl Into<String>) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    pub fn put(&self, path: impl Into<String>) -> Ask<'_> {
        self.ask(Method::PUT, path)
    }

    pub fn patch(&self, path: impl Into<String>) -> Ask<'_> {
        self.ask(Method::PATCH, path)
    }

    pub fn delete(&self, path: impl Into<String>) -> Ask<'_> {
        self.ask(Method::DELETE, path)
    }

    /// A key that no other request of this test has.
    pub fn fresh_key(&self) -> String {
        format!("a-key-of-this-test-{:06}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// A published product with so many in stock.
    pub async fn product(&self, sku: &str, price: i64, stock: u32) -> String {
        let body = json!({"sku": sku, "name": format!("{sku} 상품"), "category": "골프채", "price": price,
            "status": "published"});
        let product = self
            .post("/api/v1/admin/products")
            .admin()
            .json(&body)
            .send()
            .await
            .expect(201);
        if stock > 0 {
            self.post(format!("/api/v1/admin/stock/{sku}/receive"))
                .admin()
                .json(&json!({"quantity": stock}))
                .send()
                .await
                .expect(200);
        }
        product.text_of("/id")
    }

    /// A guest's cart with so many of each, and its token.
    pub async fn cart(&self, lines: &[(&str, u32)]) -> (String, String) {
        let cart = self.post("/api/v1/carts").send().await.expect(201);
        let (id, token) = (cart.text_of("/id"), cart.text_of("/token"));
        let lines: Vec<Value> = lines
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        self.post(format!("/api/v1/carts/{id}/lines"))
            .token(&token)
            .json(&json!({"lines": lines}))
            .send()
            .await
            .expect(200);
        (id, token)
    }

    pub async fn check_out(&self, cart: &str, token: &str) -> Reply {
        self.post(format!("/api/v1/carts/{cart}/checkout"))
            .token(token)
            .key(&self.fresh_key())
            .json(&checkout_body())
            .send()
            .await
    }

    /// An order that waits for its payment: its id, its payment's id at PortOne, its owner's token.
    pub async fn order(&self, lines: &[(&str, u32)]) -> (String, String, String) {
        let (cart, token) = self.cart(lines).await;
        let order = self.check_out(&cart, &token).await.expect(201);
        (
            order.text_of("/order/id"),
            order.text_of("/payment_request/paymentId"),
            token,
        )
    }

    /// What the shopper, the bank or bad luck does at PortOne.
    pub async fn at_portone(&self, payment: &str, action: &str, body: Value) -> Value {
        let url = format!("{}/_sim/payments/{payment}/{action}", self.sandbox.base_url());
        let answer = self
            .client
            .post(url)
            .json(&body)
            .send()
            .await
            .expect("the sandbox answers");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
        answer.json().await.expect("JSON")
    }

    /// The simulator's own book of a payment.
    pub async fn seen_at_portone(&self, payment: &str) -> Value {
        let url = format!("{}/_sim/payments/{payment}", self.sandbox.base_url());
        let answer = self.client.get(url).send().await.expect("the sandbox answers");
        answer.json().await.expect("JSON")
    }

    /// How many events of a type the log has.
    pub async fn events_of(&self, event_type: &str) -> i64 {
        sqlx::query_scalar("select count(*) from events where event_type = $1")
            .bind(event_type)
            .fetch_one(&self.database.pool)
            .await
            .expect("events can be counted")
    }

    /// Asks until the order stands there; the background work has ten seconds.
    pub async fn order_becomes(&self, order: &str, token: &str, status: &str) -> Reply {
        for _ in 0..400 {
            let reply = self
                .get(format!("/api/v1/orders/{order}"))
                .token(token)
                .send()
                .await
                .expect(200);
            if reply.body["status"] == status {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the order did not become {status}")
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn checkout_body() -> Value {
    json!({
        "orderer": {"name": "홍길동", "phone": "010-9876-5432", "email": "hong.gildong@example.com"},
        "recipient": {"name": "성춘향", "phone": "010-1111-2222", "postcode": "06236",
            "road": "서울특별시 강남구 테헤란로 152", "detail": "9층 904호"},
        "consents": {"privacy": true}, "pay_method": "CARD",
    })
}
