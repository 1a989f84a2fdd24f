//! One request to an endpoint.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    core::Outcome,
    target::{self, PublicOnly},
};
use crate::standard_webhooks::{ID, SIGNATURE, TIMESTAMP};

/// How long one request may take, connecting and reading included.
const WITHIN: Duration = Duration::from_secs(15);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An answer is read so far, to use the connection again, and forgotten.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Requests of this process at a time, to all endpoints together. Far more than the endpoints that let
/// requests time out can take at once (each four, once it is known to be ill).
const AT_ONCE: usize = 256;

/// Posts to endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    live: bool,
    places: Arc<Semaphore>,
}

/// A signed message.
#[derive(Debug)]
pub struct Outgoing {
    pub url: String,
    pub id: String,
    /// Seconds since 1970.
    pub timestamp: i64,
    /// Entries with spaces between them.
    pub signature: String,
    pub body: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Sent {
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub took: Duration,
}

impl Sender {
    /// With `live` only to the Internet at large.
    pub fn try_new(live: bool) -> reqwest::Result<Self> {
        let mut client = Client::builder()
            // An answer that leads elsewhere is not taken for a delivery, and not followed into our network.
            .redirect(Policy::none())
            // A proxy would look names up by itself.
            .no_proxy()
            .timeout(WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            .user_agent(concat!("jangbu/", env!("CARGO_PKG_VERSION")));
        if live {
            client = client.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self {
            client: client.build()?,
            live,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Posts once. `sign` is called when it is this request's turn, as the time is a part of what is signed.
    pub async fn send(&self, sign: impl FnOnce() -> Option<Outgoing>) -> Sent {
        // Nobody closes it.
        let _place = self.places.acquire().await;
        let started = Instant::now();
        let (outcome, status) = match sign() {
            Some(message) => self.post(message).await,
            None => (
                failed("the secret does not open; is JANGBU_MASTER_KEY another one?"),
                None,
            ),
        };
        Sent {
            outcome,
            status,
            took: started.elapsed(),
        }
    }

    async fn post(&self, message: Outgoing) -> (Outcome, Option<u16>) {
        let url = match target::check(&message.url, self.live) {
            Ok(url) => url,
            Err(error) => return (failed(&format!("the address {error}")), None),
        };
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ID, message.id)
            .header(TIMESTAMP, message.timestamp.to_string())
            .header(SIGNATURE, message.signature)
            .body(message.body);
        match request.send().await {
            Ok(answer) => {
                let outcome = judge(&answer);
                let status = answer.status().as_u16();
                forget(answer).await;
                (outcome, Some(status))
            }
            // Its text has the address, which may have a secret in its query.
            Err(error) if error.is_timeout() => (failed("no answer in time"), None),
            Err(error) if error.is_connect() => (failed("no connection"), None),
            Err(_) => (failed("the connection broke"), None),
        }
    }
}

fn failed(error: &str) -> Outcome {
    Outcome::Failed {
        error: error.to_owned(),
        retry_after: None,
    }
}

fn judge(answer: &Response) -> Outcome {
    match answer.status() {
        status if status.is_success() => Outcome::Delivered,
        StatusCode::GONE => Outcome::Gone,
        status => Outcome::Failed {
            error: format!("status {}", status.as_u16()),
            retry_after: answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok()),
        },
    }
}

/// Reads what little there is: a connection with an unread answer cannot be used again.
async fn forget(mut answer: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES_MAX {
            return;
        }
    }
}
