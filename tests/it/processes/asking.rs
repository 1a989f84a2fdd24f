//! Requests to the shop and to PortOne, and what a careful client does when they fail.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::shop::Shop;
use crate::web::Reply;

/// How long a client repeats one request.
const REPEATED_FOR: Duration = Duration::from_secs(60);

/// A request, which can be sent any number of times.
#[derive(Clone)]
pub struct Ask<'a> {
    pub node: usize,
    pub method: Method,
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub key: Option<&'a str>,
    pub if_match: Option<&'a str>,
    pub body: Option<Value>,
}

impl Shop {
    /// Sends a request once; `None` if the connection broke.
    pub async fn try_once(&self, ask: &Ask<'_>) -> Option<Reply> {
        let url = format!("http://{}{}", self.serves[ask.node], ask.path);
        let mut request = self.client.request(ask.method.clone(), url);
        if let Some(token) = ask.token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(version) = ask.if_match {
            request = request.header("if-match", version);
        }
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.ok()?;
        Some(Reply {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        })
    }

    /// As a careful client: the same request under the same key, until there is an answer. A failure
    /// of the server must say that this is what to do.
    pub async fn ask(&self, ask: Ask<'_>) -> Reply {
        let until = Instant::now() + REPEATED_FOR;
        loop {
            match self.try_once(&ask).await {
                Some(reply) if reply.status < 500 => return reply,
                Some(reply) => assert_eq!(reply.body["retry"], "same_key", "{} {}", ask.path, reply.text),
                None => {}
            }
            assert!(Instant::now() < until, "no answer to {} {}", ask.method, ask.path);
            self.repeats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// In the name of the shop's staff.
    pub async fn as_admin(&self, mut ask: Ask<'_>) -> Reply {
        let key = self.key();
        ask.token = Some(&self.admin);
        if ask.method != Method::GET {
            ask.key = Some(&key);
        }
        self.ask(ask).await
    }

    /// Something at PortOne's control surface.
    pub async fn at_portone(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let mut request = self.client.request(method, self.at_sandbox(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("PortOne answers");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A published product with so many in stock.
    pub async fn product(&self, node: usize, sku: &str, price: i64, stock: u32) {
        let body = json!({"sku": sku, "name": sku, "category": "골프채", "price": price, "status": "published"});
        let ask = Ask::post(node, "/api/v1/admin/products", body);
        self.as_admin(ask).await.expect(201);
        if stock > 0 {
            self.receive(node, sku, stock).await;
        }
    }

    pub async fn receive(&self, node: usize, sku: &str, quantity: u32) {
        let path = format!("/api/v1/admin/stock/{sku}/receive");
        let ask = Ask::post(node, &path, json!({"quantity": quantity}));
        self.as_admin(ask).await.expect(200);
    }

    /// As [`Self::receive`], of many.
    pub async fn receive_all(&self, wanted: &BTreeMap<String, u32>) {
        futures_util::stream::iter(wanted)
            .for_each_concurrent(32, async |(sku, quantity)| self.receive(0, sku, *quantity).await)
            .await;
    }
}

impl<'a> Ask<'a> {
    pub fn get(node: usize, path: &'a str) -> Self {
        Self {
            node,
            method: Method::GET,
            path,
            token: None,
            key: None,
            if_match: None,
            body: None,
        }
    }

    pub fn post(node: usize, path: &'a str, body: Value) -> Self {
        Self {
            method: Method::POST,
            body: Some(body),
            ..Self::get(node, path)
        }
    }

    pub fn token(mut self, token: &'a str) -> Self {
        self.token = Some(token);
        self
    }

    pub fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }
}
