//! One request to `PortOne`, repeated until it is answered or its time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use tokio::time::Instant;

use super::cancel::IdempotencyKey;
use super::client::ClientConfig;
use super::error::{Error, Unreachable};

/// Far above any answer of the API; stops a gateway that never stops sending.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longer than the three hours for which an idempotency key is remembered; keeps deadlines within the clock's range.
const WITHIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A request as it goes out, the same at every attempt.
pub(super) struct Call<'a> {
    pub method: Method,
    /// Percent-encoded, with a leading slash and the query.
    pub path: String,
    pub body: Option<Vec<u8>>,
    pub idempotency_key: Option<&'a IdempotencyKey>,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
}

/// A call that ended without a 200.
pub(super) struct Fault {
    pub error: Error,
    /// Whether an attempt before the last one may have been carried out.
    pub uncertain: bool,
}

/// Connections, the secret and the back-off, shared by all clones of a client.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: String,
    authorization: HeaderValue,
    backoff: Arc<Backoff>,
}

impl Transport {
    pub(super) fn new(http: reqwest::Client, authorization: HeaderValue, config: &ClientConfig) -> Self {
        let backoff = Backoff {
            first: config.backoff_first,
            max: config.backoff_max,
            state: AtomicU64::new(config.jitter_seed),
        };
        let base = config.base_url.trim_end_matches('/').to_owned();
        Self {
            http,
            base,
            authorization,
            backoff: Arc::new(backoff),
        }
    }

    /// Sends `call` again and again while its failures are transient, and gives up when the next attempt would begin
    /// after `within`.
    pub(super) async fn send(&self, call: &Call<'_>, within: Duration) -> Result<Vec<u8>, Fault> {
        let url = Url::parse(&format!("{}{}", self.base, call.path)).map_err(|_| Fault {
            error: Error::BadPaymentId,
            uncertain: false,
        })?;
        let deadline = Instant::now() + within.min(WITHIN_MAX);
        let mut uncertain = false;
        let mut attempt = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (error, retry_after) = match self.attempt(call, url.clone(), left.min(call.attempt_timeout)).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            if !error.is_transient() {
                return Err(Fault { error, uncertain });
            }
            // A refused connection or a 429 means that nobody looked at the request.
            uncertain |= !matches!(
                error,
                Error::Unreachable(Unreachable::Connect) | Error::Failed { status: 429, .. }
            );
            let pause = self.backoff.pause(attempt).max(retry_after);
            if Instant::now() + pause >= deadline {
                return Err(Fault { error, uncertain });
            }
            attempt += 1;
            tracing::debug!(attempt, %error, pause_ms = pause.as_millis(), "PortOne did not answer, trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call<'_>, url: Url, timeout: Duration) -> Result<Vec<u8>, (Error, Duration)> {
        let mut request = self.http.request(call.method.clone(), url).timeout(timeout);
        request = request.header(AUTHORIZATION, self.authorization.clone());
        if let Some(key) = call.idempotency_key {
            request = request.header("Idempotency-Key", key.header_value());
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let unanswered = |error: &reqwest::Error| (unreachable(error), Duration::ZERO);
        let response = request.send().await.map_err(|error| unanswered(&error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let body = read(response).await?;
        if status == 200 {
            Ok(body)
        } else {
            Err((Error::from_answer(status, &body), retry_after))
        }
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, (Error, Duration)> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| (unreachable(&error), Duration::ZERO))?
    {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err((Error::Unreadable("longer than 16 MiB".to_owned()), Duration::ZERO));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The pause that an overloaded server asks for. Its other form, a date, is not worth a clock.
fn retry_after(response: &Response) -> Duration {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    Duration::from_secs(u64::from(seconds.unwrap_or(0)))
}

fn unreachable(error: &reqwest::Error) -> Error {
    Error::Unreachable(if error.is_connect() {
        Unreachable::Connect
    } else if error.is_timeout() {
        Unreachable::Timeout
    } else {
        Unreachable::Dropped
    })
}

/// Exponential pauses, each somewhere between half and the whole of its step, so that many clients do not come back
/// at the same instant.
#[derive(Debug)]
struct Backoff {
    first: Duration,
    max: Duration,
    state: AtomicU64,
}

impl Backoff {
    fn pause(&self, attempt: u32) -> Duration {
        let step = self
            .first
            .saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX))
            .min(self.max);
        let half = step / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.next() % spread)
    }

    /// `SplitMix64`: seeded from outside, and plenty for spreading pauses.
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Percent-encodes one path segment or query value as `encodeURIComponent` does, and a few harmless characters more.
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_plainest_characters_is_encoded() {
        assert_eq!(encode("order-1_2.3~"), "order-1_2.3~");
        assert_eq!(encode("a/b?c&d#e f%2F+결"), "a%2Fb%3Fc%26d%23e%20f%252F%2B%EA%B2%B0");
    }

    #[test]
    fn pauses_grow_within_their_steps_and_differ() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_millis(500),
            state: AtomicU64::new(7),
        };
        let mut seen = std::collections::HashSet::new();
        for attempt in 0..200 {
            let step = Duration::from_millis(*[100, 200, 400].get(attempt as usize).unwrap_or(&500));
            let pause = backoff.pause(attempt);
            assert!(pause >= step / 2 && pause <= step, "attempt {attempt}: {pause:?}");
            seen.insert(pause);
        }
        assert!(seen.len() > 190, "pauses repeat: {}", seen.len());
    }
}
