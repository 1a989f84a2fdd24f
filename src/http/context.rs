//! The outermost layer: gives every request an id, counts it, keeps panics in, writes problems down,
//! logs one line, and adds the headers that every answer has.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use jangbu_events::Metadata;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    App,
    auth::Caller,
    limits::{Address, Allowance},
    problem::{self, Code, Language, Problem},
};
use crate::config::Secret;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// An access token to use from now on.
const NEW_TOKEN: HeaderName = HeaderName::from_static("x-new-token");
/// The key under which a command was carried out.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What is known of a request before anybody looks at it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestContext(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    id: String,
    language: Language,
    address: IpAddr,
    traceparent: Option<String>,
    /// Set once a command has its key: the client must learn one that it did not choose, whatever
    /// the answer is.
    key: OnceLock<String>,
    /// Another access token, since the one that came will end soon.
    new_token: OnceLock<Secret>,
}

impl RequestContext {
    fn of(app: &App, request: &Request) -> Self {
        let headers = request.headers();
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        Self(Arc::new(Facts {
            id: text(headers, REQUEST_ID.as_str())
                .filter(|id| is_request_id(id))
                .map_or_else(|| app.surroundings.ids.uuid().simple().to_string(), str::to_owned),
            language: Language::of(headers),
            address: address(peer.map(|peer| peer.0.ip()), headers),
            traceparent: text(headers, "traceparent")
                .filter(|trace| is_traceparent(trace))
                .map(str::to_owned),
            key: OnceLock::new(),
            new_token: OnceLock::new(),
        }))
    }

    /// `x-request-id`, or one of our own.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The reader's language.
    pub fn language(&self) -> Language {
        self.0.language
    }

    /// The client, as far as limits go.
    pub fn address(&self) -> Address {
        self.0.address.into()
    }

    /// Makes the key known to the answer. A request has one.
    pub fn set_key(&self, key: &str) {
        self.0.key.get_or_init(|| key.to_owned());
    }

    /// Sends another access token along with the answer.
    pub fn set_new_token(&self, token: Secret) {
        self.0.new_token.get_or_init(|| token);
    }

    /// The client.
    pub fn ip(&self) -> IpAddr {
        self.0.address
    }

    /// What is kept of the client's address.
    pub async fn ip_hash(&self, app: &App) -> sqlx::Result<String> {
        app.addresses
            .hash(app.log.pool(), &app.surroundings, self.0.address)
            .await
    }

    /// What the log keeps of whoever sends this request.
    pub async fn metadata(&self, app: &App, caller: &Caller, channel: &str) -> sqlx::Result<Metadata> {
        let (actor_kind, actor_id) = caller.actor();
        let ip_hash = self.ip_hash(app).await?;
        Ok(Metadata {
            actor_kind: actor_kind.to_owned(),
            actor_id,
            channel: channel.to_owned(),
            request_id: Some(self.0.id.clone()),
            traceparent: self.0.traceparent.clone(),
            ip_hash: Some(ip_hash),
        })
    }
}

impl FromRequestParts<App> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| Problem::internal("a request came in without the outermost layer"))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_request_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&id.len()) && id.bytes().all(allowed)
}

/// W3C Trace Context, version 00.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2]
        && parts
            .concat()
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The peer; one on this machine is taken for a reverse proxy, whose word for the client is the last
/// entry of `X-Forwarded-For`. Whatever the client wrote there itself stands before that.
fn address(peer: Option<IpAddr>, headers: &HeaderMap) -> IpAddr {
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.to_canonical());
    if !peer.is_loopback() {
        return peer;
    }
    headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.rsplit(',').next())
        .and_then(|address| address.trim().parse().ok())
        .unwrap_or(peer)
}

/// The layer itself.
pub async fn layer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = RequestContext::of(&app, &request);
    request.extensions_mut().insert(context.clone());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |path| path.as_str().to_owned());
    let is_page = request.uri().path().starts_with("/docs");
    let allowance = allowance(&app, &context, &route, request.headers());
    let mut response = match allowance {
        Err(problem) => problem.into_response(),
        Ok(allowance) => {
            let mut response = kept_in(next.run(request)).await;
            if let Some(allowance) = allowance {
                allowance.write(response.headers_mut());
            }
            response
        }
    };
    response = written(response, &context);
    add_headers(response.headers_mut(), &app, &context, is_page);
    log(&context, &method, &route, response.status(), started.elapsed());
    response
}

/// A defect in one handler is that request's problem alone.
async fn kept_in(answer: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(answer)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Problem::internal("a handler panicked").into_response())
}

/// `None` is without limit: health checks, scrapes and signed webhooks must always get through.
fn allowance(
    app: &App,
    context: &RequestContext,
    route: &str,
    headers: &HeaderMap,
) -> Result<Option<Allowance>, Problem> {
    if matches!(route, "/livez" | "/readyz" | "/metrics" | "/webhooks/portone") {
        return Ok(None);
    }
    let token = headers.get(header::AUTHORIZATION).map(|value| {
        let hash = Sha256::digest(value.as_bytes());
        <[u8; 8]>::try_from(&hash[..8]).expect("a hash is longer")
    });
    Ok(app.limits.request(context.address(), token, app.surroundings.now())?)
}

/// Every failure in the one format, also those that a library answered with.
fn written(response: Response, context: &RequestContext) -> Response {
    let status = response.status();
    if !problem::is_failure(status) {
        return response;
    }
    let problem = problem::of(&response).unwrap_or_else(|| {
        Arc::new(match status {
            StatusCode::NOT_FOUND => Code::NotFound.into(),
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed.into(),
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge.into(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType.into(),
            other => Problem::internal(format!("a library answered {other}")),
        })
    });
    let cause = problem.cause().unwrap_or("-");
    let (code, request_id) = (problem.code().as_str(), context.id());
    if problem.code() == Code::Internal {
        tracing::error!(request.id = request_id, cause, "a request failed by our fault");
    } else if problem.code().status().is_server_error() {
        tracing::warn!(request.id = request_id, code, cause, "a request could not be served");
    }
    let mut written = problem.write(context.language(), request_id);
    for (name, value) in response.headers() {
        if name == header::ALLOW || name.as_str().starts_with("ratelimit-") {
            written.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    written
}

fn add_headers(headers: &mut HeaderMap, app: &App, context: &RequestContext, is_page: bool) {
    if let Ok(id) = HeaderValue::from_str(context.id()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(key) = context.0.key.get().and_then(|key| HeaderValue::from_str(key).ok()) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    if let Some(token) = context.0.new_token.get()
        && let Ok(token) = HeaderValue::from_str(token.expose())
    {
        headers.insert(NEW_TOKEN, token);
    }
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::CACHE_CONTROL, "no-store");
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::X_FRAME_OPTIONS, "DENY");
    default(header::REFERRER_POLICY, "no-referrer");
    default(
        header::CONTENT_SECURITY_POLICY,
        if is_page {
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
        } else {
            "default-src 'none'; frame-ancestors 'none'"
        },
    );
    if app.config.public_url.starts_with("https://") {
        default(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

/// One line and one sample a request. The route as declared, never the address as asked for: ids and
/// search words stay out.
fn log(context: &RequestContext, method: &Method, route: &str, status: StatusCode, took: Duration) {
    let method = match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PATCH | Method::PUT | Method::DELETE | Method::OPTIONS => {
            method.as_str().to_owned()
        }
        // A client may invent methods; each would be a series of its own.
        _ => "other".to_owned(),
    };
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        target: "jangbu::access",
        { request.id = context.id(), method = method.as_str(), route, status = status.as_u16(), duration_us },
        "answered"
    );
    metrics::histogram!(
        "jangbu_http_request_seconds",
        "method" => method, "route" => route.to_owned(), "status" => status.as_str().to_owned()
    )
    .record(took);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(peer: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.parse().expect("a value"));
        }
        address(Some(peer.parse().expect("an address")), &headers).to_string()
    }

    #[test]
    fn only_a_proxy_on_this_machine_is_believed() {
        assert_eq!(forwarded("203.0.113.7", &["198.51.100.1"]), "203.0.113.7");
        assert_eq!(forwarded("127.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(forwarded("::1", &["198.51.100.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(forwarded("127.0.0.1", &["junk"]), "127.0.0.1");
        assert_eq!(forwarded("127.0.0.1", &[]), "127.0.0.1");
    }

    #[tokio::test]
    async fn a_panic_is_one_request_s_problem() {
        let response = kept_in(async { panic!("as a defect would") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            problem::of(&response).map(|problem| problem.code()),
            Some(Code::Internal)
        );
    }

    #[test]
    fn ids_from_outside_are_taken_only_if_they_are_plain() {
        assert!(is_request_id("0190f1e2-abc.D_1"));
        for bad in ["", "a b", "a\"b", &"x".repeat(65), "한글"] {
            assert!(!is_request_id(bad), "{bad}");
        }
        assert!(is_traceparent(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ));
        for bad in [
            "",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af-b7-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
