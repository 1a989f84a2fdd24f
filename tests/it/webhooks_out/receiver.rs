//! A program of somebody else's: takes webhooks over real HTTP, and checks them as its author would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use jangbu::{
    clock::Surroundings,
    standard_webhooks::{SignatureHeaders, TOLERANCE, Verifier},
};
use jangbu_events::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::fanout::probe::eventually;

/// What came.
#[derive(Debug, Clone)]
pub struct Got {
    pub headers: HeaderMap,
    pub body: Bytes,
    pub event: Value,
    /// As it was answered.
    pub status: u16,
}

impl Got {
    pub fn position(&self) -> i64 {
        self.event["position"].as_i64().expect("a position")
    }

    pub fn aggregate(&self) -> &str {
        self.event["aggregate"]["id"].as_str().expect("an id")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .expect("a header")
    }

    /// Whether somebody who knows this secret signed it, about now.
    pub fn is_signed_by(&self, secret: &str, now: Timestamp) -> bool {
        let verifier = Verifier::try_new(&[secret.to_owned()], TOLERANCE).expect("a secret");
        let signature = SignatureHeaders::from_map(&self.headers);
        verifier.verify(signature, &self.body, now).is_ok()
    }
}

type Judge = Box<dyn FnMut(&Value) -> u16 + Send>;

struct Parts {
    got: Mutex<Vec<Got>>,
    judge: Mutex<Judge>,
}

pub struct Receiver {
    parts: Arc<Parts>,
    pub url: String,
}

impl Receiver {
    /// Answers 200 to everything.
    pub async fn start() -> Self {
        let parts = Arc::new(Parts {
            got: Mutex::default(),
            judge: Mutex::new(Box::new(|_| 200)),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!(
            "http://{}/hook?key=in-the-address",
            listener.local_addr().expect("bound")
        );
        let router = Router::new().fallback(take).with_state(parts.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { parts, url }
    }

    /// How events are answered from now on.
    pub fn judge(&self, judge: impl FnMut(&Value) -> u16 + Send + 'static) {
        *self.parts.judge.lock().expect("a lock") = Box::new(judge);
    }

    pub fn got(&self) -> Vec<Got> {
        self.parts.got.lock().expect("a lock").clone()
    }

    /// Positions that were taken, in the order of their first time.
    pub fn taken(&self) -> Vec<i64> {
        let mut taken = Vec::new();
        for got in self.got().iter().filter(|got| got.status == 200) {
            if !taken.contains(&got.position()) {
                taken.push(got.position());
            }
        }
        taken
    }

    pub async fn until_taken(&self, positions: impl IntoIterator<Item = i64>) {
        let wanted: Vec<i64> = positions.into_iter().collect();
        eventually("every event is taken", Duration::from_secs(60), async || {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let taken = self.taken();
            wanted.iter().all(|position| taken.contains(position))
        })
        .await;
    }

    /// Whatever was taken, and however often: nothing of an aggregate before what comes before it.
    pub fn assert_ordered(&self) {
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        for got in self.got().iter().filter(|got| got.status == 200) {
            let sequence = got.event["aggregate"]["sequence"].as_i64().expect("a sequence");
            let last = last.entry(got.aggregate().to_owned()).or_default();
            assert!(sequence <= *last + 1, "{sequence} of {} after {last}", got.aggregate());
            *last = sequence.max(*last);
        }
    }
}

async fn take(State(parts): State<Arc<Parts>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    let status = parts.judge.lock().expect("a lock")(&event);
    parts.got.lock().expect("a lock").push(Got {
        headers,
        body,
        event,
        status,
    });
    // Where a redirect would lead, if somebody followed it: here again.
    let location = [(header::LOCATION, "/elsewhere")];
    (
        StatusCode::from_u16(status).expect("a status"),
        location,
        "x".repeat(100_000),
    )
}

pub fn now() -> Timestamp {
    Surroundings::system().now()
}
