//! Just enough of `PortOne`, and a proxy that loses its replies.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::portone::{Client, ClientConfig, Secret};

pub const SECRET: &str = "test-api-secret";
pub const STORE: &str = "store-1";
/// Far more than any test needs: one that gets here hangs.
pub const AMPLE: Duration = Duration::from_secs(30);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Value,
    /// The client's end of the connection.
    pub peer: SocketAddr,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What to do with the next request instead of serving it.
pub enum Fault {
    Answer(u16, String),
    AnswerWith(u16, &'static str, String),
    /// Accept it and never answer.
    Hang,
    /// Look the answer up at once, but hand it out only when the gate opens.
    Hold(Arc<Semaphore>),
}

#[derive(Default)]
struct Inner {
    seen: Vec<Seen>,
    faults: VecDeque<Fault>,
    payments: HashMap<String, Value>,
    replays: HashMap<String, (u16, Value)>,
}

/// A small `PortOne` that remembers what it was asked.
#[derive(Clone)]
pub struct Fake {
    inner: Arc<Mutex<Inner>>,
    pub address: SocketAddr,
    arrivals: Arc<Semaphore>,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let fake = Self {
            inner: Arc::default(),
            address,
            arrivals: Arc::new(Semaphore::new(0)),
        };
        let router = Router::new().fallback(serve).with_state(fake.clone());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        fake
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panicked")
    }

    pub fn put(&self, payment: Value) {
        self.inner()
            .payments
            .insert(payment["id"].as_str().expect("an id").to_owned(), payment);
    }

    pub fn fault(&self, fault: Fault) {
        self.inner().faults.push_back(fault);
    }

    /// Answers the next requests with error codes.
    pub fn refuse(&self, answers: &[(u16, &str)]) {
        for (status, kind) in answers {
            self.fault(Fault::Answer(
                *status,
                json!({"type": kind, "message": "for a person"}).to_string(),
            ));
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.inner().seen.clone()
    }

    pub fn payment(&self, id: &str) -> Value {
        self.inner().payments[id].clone()
    }

    /// Waits until one more request has arrived.
    pub async fn arrival(&self) {
        self.arrivals.acquire().await.expect("never closed").forget();
    }

    pub fn client(&self) -> Client {
        client(self.address, |_| ())
    }

    fn answer(&self, request: &Seen) -> (u16, Value) {
        if request.header("authorization") != Some(&format!("PortOne {SECRET}")) {
            return error(401, "UNAUTHORIZED");
        }
        let path = request.uri.path();
        if path == "/payments" {
            return self.page(request);
        }
        let mut segments = path.trim_start_matches('/').split('/').skip(1);
        let id = decode(segments.next().unwrap_or_default());
        let rest = segments.collect::<Vec<_>>().join("/");
        match (request.method.as_str(), rest.as_str()) {
            ("GET", "") => match self.inner().payments.get(&id) {
                Some(payment) => (200, payment.clone()),
                None => error(404, "PAYMENT_NOT_FOUND"),
            },
            ("POST", "cancel") => self.cancel(&id, request),
            ("POST", "pre-register") => (200, json!({})),
            ("POST", "virtual-account/close") => match self.inner().payments[&id]["status"].as_str() {
                Some("VIRTUAL_ACCOUNT_ISSUED") => (200, json!({"closedAt": "2026-03-02T04:05:06Z"})),
                _ => error(409, "PAYMENT_NOT_WAITING_FOR_DEPOSIT"),
            },
            _ => error(400, "INVALID_REQUEST"),
        }
    }

    /// Takes effect once a key; insists on the quotes, which belong to the header's value.
    fn cancel(&self, id: &str, request: &Seen) -> (u16, Value) {
        let key = request.header("idempotency-key").unwrap_or_default().to_owned();
        let quoted = key.len() >= 18 && key.starts_with('"') && key.ends_with('"');
        let mut inner = self.inner();
        if !quoted {
            return error(400, "INVALID_REQUEST");
        }
        if let Some(replay) = inner.replays.get(&key) {
            return replay.clone();
        }
        let payment = inner.payments.get_mut(id).expect("the payment");
        let amount = request.body["amount"].as_i64().expect("an amount");
        let cancelled = payment["amount"]["cancelled"].as_i64().expect("a sum");
        let balance = payment["amount"]["total"].as_i64().expect("a sum") - cancelled;
        let answer = if request.body["currentCancellableAmount"] == balance {
            let cancellation = cancellation("SUCCEEDED", amount);
            payment["amount"]["cancelled"] = json!(cancelled + amount);
            let all = payment["cancellations"].as_array().cloned().unwrap_or_default();
            payment["cancellations"] = all.into_iter().chain([cancellation.clone()]).collect();
            (200, json!({"cancellation": cancellation}))
        } else {
            error(409, "CANCELLABLE_AMOUNT_CONSISTENCY_BROKEN")
        };
        inner.replays.insert(key, answer.clone());
        answer
    }

    fn page(&self, request: &Seen) -> (u16, Value) {
        let query = request.uri.query().expect("a query");
        let wish: Value =
            serde_json::from_str(&decode(query.strip_prefix("requestBody=").expect("a body"))).expect("JSON");
        let time = |value: &Value| {
            value
                .as_str()
                .and_then(|text| text.parse::<chrono::DateTime<chrono::Utc>>().ok())
        };
        let filter = &wish["filter"];
        let mut items: Vec<_> = self
            .inner()
            .payments
            .values()
            .filter(|payment| {
                let changed = time(&payment["statusChangedAt"]);
                let named = filter["status"]
                    .as_array()
                    .is_none_or(|names| names.contains(&payment["status"]));
                changed >= time(&filter["from"]) && changed <= time(&filter["until"]) && named
            })
            .cloned()
            .collect();
        items.sort_by_key(|payment| (time(&payment["statusChangedAt"]), payment["id"].to_string()));
        let number = |name: &str| usize::try_from(wish["page"][name].as_u64().expect("a number")).expect("small");
        let items: Vec<_> = items
            .into_iter()
            .skip(number("number") * number("size"))
            .take(number("size"))
            .collect();
        (
            200,
            json!({"items": items, "page": {"number": 0, "size": 0, "totalCount": 0}}),
        )
    }
}

async fn serve(
    State(fake): State<Fake>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let request = Seen {
        method,
        uri,
        headers,
        body,
        peer,
    };
    let fault = {
        let mut inner = fake.inner();
        inner.seen.push(request.clone());
        inner.faults.pop_front()
    };
    let json = |(status, body): (u16, Value)| respond(status, ("content-type", "application/json"), body.to_string());
    let answer = match fault {
        Some(Fault::Answer(status, body)) => respond(status, ("content-type", "application/json"), body),
        Some(Fault::AnswerWith(status, header, value)) => respond(status, (header, &value), String::new()),
        Some(Fault::Hang) => {
            fake.arrivals.add_permits(1);
            std::future::pending().await
        }
        Some(Fault::Hold(gate)) => {
            let answer = json(fake.answer(&request));
            fake.arrivals.add_permits(1);
            gate.acquire().await.expect("never closed").forget();
            return answer;
        }
        None => json(fake.answer(&request)),
    };
    fake.arrivals.add_permits(1);
    answer
}

fn respond(status: u16, header: (&str, &str), body: String) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let mut response = (status, body).into_response();
    let name: axum::http::HeaderName = header.0.parse().expect("a header name");
    response
        .headers_mut()
        .insert(name, header.1.parse().expect("a header value"));
    response
}

fn error(status: u16, kind: &str) -> (u16, Value) {
    (status, json!({"type": kind, "message": "for a person"}))
}

fn decode(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    let mut fields: Vec<(String, String)> = serde_urlencoded::from_str(&pair).expect("a form");
    fields.remove(0).1
}

pub fn client(address: SocketAddr, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::new(format!("http://{address}/"), Secret::new(SECRET), STORE, 42);
    config.backoff_first = Duration::from_millis(2);
    config.backoff_max = Duration::from_millis(10);
    change(&mut config);
    Client::try_new(&config).expect("a configuration")
}

pub fn payment(id: &str, status: &str) -> Value {
    json!({
        "status": status, "id": id, "transactionId": "t1", "storeId": STORE, "currency": "KRW",
        "amount": {"total": 39000, "taxFree": 0, "discount": 0, "paid": 39000, "cancelled": 0, "cancelledTaxFree": 0},
        "channel": {"type": "TEST", "pgProvider": "TOSSPAYMENTS"},
        "requestedAt": "2026-03-02T04:05:06.789Z", "statusChangedAt": "2026-03-02T04:05:41Z",
    })
}

pub fn cancellation(status: &str, amount: i64) -> Value {
    json!({"status": status, "id": format!("c-{amount}"), "totalAmount": amount, "taxFreeAmount": 0, "vatAmount": 0,
           "reason": "r", "requestedAt": "2026-03-03T00:00:00Z"})
}

/// What happens to one connection's reply.
#[derive(Clone, Copy)]
pub enum Fate {
    Whole,
    /// `PortOne` acts, its reply is lost.
    Lost,
    /// The reply breaks off in its body.
    Broken,
}

/// A proxy before `upstream` that spends one connection on each request, and one fate on each connection.
pub async fn lossy(upstream: SocketAddr, fates: Vec<Fate>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut fates = fates.into_iter();
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, upstream, fates.next().unwrap_or(Fate::Whole)));
        }
    });
    address
}

async fn relay(mut client: TcpStream, upstream: SocketAddr, fate: Fate) {
    let request = read_message(&mut client).await;
    let mut server = TcpStream::connect(upstream).await.expect("the fake is up");
    server.write_all(&request).await.expect("the fake reads");
    let reply = read_message(&mut server).await;
    let until = match fate {
        Fate::Whole => reply.len(),
        Fate::Lost => 0,
        Fate::Broken => reply.len() - 10,
    };
    // The client may have given up; then nobody is left to tell.
    let _ = client.write_all(&reply[..until]).await;
}

/// One HTTP/1.1 message with a `content-length`, or without a body.
async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        let head = message
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if message.len() >= head + length.unwrap_or(0) {
                return message;
            }
        }
        if stream.read_buf(&mut message).await.expect("a readable stream") == 0 {
            return message;
        }
    }
}
