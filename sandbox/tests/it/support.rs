//! A running simulator with clients for its sides, and a shop that receives webhooks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use jangbu_sandbox::{Clock, ManualClock, Running, SandboxConfig, start};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

pub const SECRET: &str = "api-secret";
pub const STORE: &str = "store-ae356798-3d20-4969-b739-14c6b0e1a667";
pub const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// 2026-03-02T04:05:06Z.
pub const START_SECONDS: i64 = 1_772_424_306;

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Status and JSON of an answer.
pub type Reply = (u16, Value);

pub struct Sim {
    pub running: Running,
    pub clock: ManualClock,
    client: reqwest::Client,
}

impl Sim {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let clock = ManualClock::starting_at(
            chrono::DateTime::from_timestamp(START_SECONDS, 0).expect("the date is within range"),
        );
        let mut config = SandboxConfig::new(SECRET, STORE);
        config.clock = Clock::Manual(clock.clone());
        config.seed = Some(1);
        config.webhook_secrets = vec![WEBHOOK_SECRET.to_owned()];
        change(&mut config);
        let running = start(config, loopback()).await.expect("the simulator starts");
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a plain client can be built");
        Self { running, clock, client }
    }

    /// A request without credentials.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.running.base_url()))
    }

    /// A call of PortOne's API.
    pub fn api(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path)
            .header("authorization", format!("PortOne {SECRET}"))
    }

    pub async fn get(&self, path: &str) -> Reply {
        reply(self.api(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        reply(self.api(Method::POST, path).body(body.to_string())).await
    }

    /// `GET /payments` or the like, its body in the query.
    pub async fn list(&self, path: &str, body: Value) -> Reply {
        reply(self.api(Method::GET, path).query(&[("requestBody", body.to_string())])).await
    }

    /// The payment as the API shows it.
    pub async fn payment(&self, id: &str) -> Value {
        let (status, body) = self.get(&format!("/payments/{id}")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The simulator's own view.
    pub async fn inside(&self, id: &str) -> Value {
        let (status, body) = reply(self.request(Method::GET, &format!("/_sim/payments/{id}"))).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// An action of the control surface, whatever it answers.
    pub async fn try_act(&self, id: &str, action: &str, body: Value) -> Reply {
        reply(
            self.request(Method::POST, &format!("/_sim/payments/{id}/{action}"))
                .body(body.to_string()),
        )
        .await
    }

    /// An action that must succeed.
    pub async fn act(&self, id: &str, action: &str, body: Value) -> Value {
        let (status, answer) = self.try_act(id, action, body).await;
        assert_eq!(status, 200, "{action}: {answer}");
        answer
    }

    pub async fn fault(&self, fault: Value) {
        let (status, answer) = reply(self.request(Method::POST, "/_sim/faults").body(fault.to_string())).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn deliveries(&self) -> Vec<Value> {
        self.running.sandbox().webhooks_idle().await;
        let (_, body) = reply(self.request(Method::GET, "/_sim/webhooks")).await;
        body["items"].as_array().expect("items is a list").clone()
    }
}

pub async fn reply(request: RequestBuilder) -> Reply {
    let response = request.send().await.expect("the simulator answers");
    let status = response.status().as_u16();
    let text = response.text().await.expect("the answer has a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A webhook as the shop got it.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    pub timestamp: i64,
    pub signatures: String,
    pub content_type: String,
    pub body: String,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the webhook is JSON")
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether one of the signatures is right for this body.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let right = jangbu_sandbox::sign(secret, &self.id, self.timestamp, self.body.as_bytes())
            .expect("the test's secret is well formed");
        self.signatures.split(' ').any(|signature| signature == right)
    }
}

#[derive(Default)]
struct ShopState {
    received: Mutex<Vec<Received>>,
    answers: Mutex<VecDeque<u16>>,
}

/// A shop's webhook address. It answers 200, after the statuses that it was told to give first.
#[derive(Clone)]
pub struct Shop {
    state: Arc<ShopState>,
    pub url: String,
}

impl Shop {
    pub async fn open() -> Self {
        let state = Arc::new(ShopState::default());
        let router = Router::new()
            .route("/webhook", post(receive))
            .with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind(loopback()).await.expect("a port is free");
        let url = format!("http://{}/webhook", listener.local_addr().expect("the socket is bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { state, url }
    }

    /// The next webhooks are answered with these statuses.
    pub fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state.answers.lock().unwrap().extend(statuses);
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }
}

async fn receive(State(shop): State<Arc<ShopState>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    shop.received.lock().unwrap().push(Received {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp").parse().unwrap(),
        signatures: text("webhook-signature"),
        content_type: text("content-type"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let status = shop.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

/// A simulator that sends its webhooks to a shop.
pub async fn sim_and_shop(change: impl FnOnce(&mut SandboxConfig)) -> (Sim, Shop) {
    let shop = Shop::open().await;
    let url = shop.url.clone();
    let sim = Sim::with(|config| {
        config.webhook_urls = vec![url];
        change(config);
    })
    .await;
    (sim, shop)
}

/// The body of a cancel.
pub fn cancel_body(amount: Option<i64>) -> Value {
    match amount {
        Some(amount) => json!({"reason": "단순 변심", "amount": amount}),
        None => json!({"reason": "단순 변심"}),
    }
}

/// The refund account that a paid virtual account needs.
pub fn refund_account() -> Value {
    json!({"bank": "SHINHAN", "number": "110123456789", "holderName": "홍길동"})
}
