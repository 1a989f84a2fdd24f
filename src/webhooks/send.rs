//! One request to an endpoint.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::{Instant, timeout};

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
/// And for so long: its status has said everything.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Posts to endpoints. Cheap to clone. How many requests there are at a time is each endpoint's own
/// bound ([`IN_FLIGHT`](super::core::IN_FLIGHT)): with one for all, those that let requests time out
/// would take the places of the others.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    live: bool,
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
        })
    }

    /// Posts once; `None` is a message that could not be signed.
    pub async fn send(&self, message: Option<Outgoing>) -> Sent {
        let started = Instant::now();
        let (outcome, status) = match message {
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
                // What takes longer costs the connection, and nothing else.
                let _ = timeout(ANSWER_WITHIN, forget(answer)).await;
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;

    /// Requests that are never answered: of forty endpoints, say.
    const SILENT: usize = 320;

    fn message(listener: &TcpListener) -> Outgoing {
        Outgoing {
            url: format!("http://{}/", listener.local_addr().expect("it is bound")),
            id: "evt_1".into(),
            timestamp: 0,
            signature: "v1,".into(),
            body: b"{}".to_vec(),
        }
    }

    /// Takes one request, and answers with these bytes and silence.
    async fn answer_once(listener: &TcpListener, answer: &'static [u8]) {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4_096];
        let _ = connection.read(&mut request).await.expect("a request");
        connection.write_all(answer).await.expect("it is written");
        tokio::time::sleep(WITHIN).await;
    }

    #[tokio::test]
    async fn endpoints_that_let_requests_time_out_take_nobody_s_place() {
        let sender = Sender::try_new(false).expect("a client");
        // Connections to it are made by the kernel at most, and never answered: the first end after five seconds.
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let well = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut waiting = JoinSet::new();
        for _ in 0..SILENT {
            let (sender, message) = (sender.clone(), message(&silent));
            waiting.spawn(async move { sender.send(Some(message)).await });
        }
        // They all begin before the one that counts.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answering = answer_once(&well, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let sent = tokio::select! {
            sent = timeout(Duration::from_secs(4), sender.send(Some(message(&well)))) => sent.expect("it is its turn"),
            () = answering => panic!("it is not seen to be answered"),
        };
        assert_eq!(sent.outcome, Outcome::Delivered);
        assert_eq!(waiting.len(), SILENT);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_not_waited_for() {
        let sender = Sender::try_new(false).expect("a client");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let answering = answer_once(&listener, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx");
        let sent = tokio::select! {
            sent = sender.send(Some(message(&listener))) => sent,
            () = answering => panic!("it waits for the end"),
        };
        assert_eq!((sent.outcome, sent.status), (Outcome::Delivered, Some(200)));
        assert!(sent.took < Duration::from_secs(5), "{:?}", sent.took);
    }
}
