//! Commands over HTTP: who sends it, under which key, with which body. A repeat is recognised by the
//! command id made of principal, method, path and `Idempotency-Key`.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, Method, header},
};
use jangbu_events::Metadata;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    App,
    auth::Caller,
    context::{IDEMPOTENCY_KEY, RequestContext},
    extract::{self, read_body},
    problem::{Code, FieldError, Problem, Text},
};
use crate::executor::CommandEnvelope;

/// Command ids of this edge.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a61_6e67_6275_7000_8000_0000_0000_0002);
/// Whoever repeats an anonymous request under its key is taken for the same client, so that key must
/// be nothing that two clients would think of.
const ANONYMOUS_KEY_LENGTH_MIN: usize = 16;

/// What a body is, and how careful its sender must be.
pub trait Body: Sized + Send {
    /// Whether the client must choose the key itself: where money moves.
    const KEY_REQUIRED: bool = false;

    /// Reads the body; `headers` tell its type.
    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem>;
}

/// Implements [`Body`] for a JSON object.
macro_rules! json_body {
    ($($name:ty),+) => {$(
        impl $crate::http::keys::Body for $name {
            fn read(headers: &axum::http::HeaderMap, bytes: &[u8]) -> Result<Self, $crate::http::problem::Problem> {
                $crate::http::keys::read_json(headers, bytes)
            }
        }
    )+};
    (key required: $($name:ty),+) => {$(
        impl $crate::http::keys::Body for $name {
            const KEY_REQUIRED: bool = true;
            fn read(headers: &axum::http::HeaderMap, bytes: &[u8]) -> Result<Self, $crate::http::problem::Problem> {
                $crate::http::keys::read_json(headers, bytes)
            }
        }
    )+};
}
pub(super) use json_body;

/// For [`json_body`].
pub(super) fn read_json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    extract::require_json(headers)?;
    extract::json(bytes)
}

/// A request without a body, or with an empty object.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Body for Nothing {
    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self {});
        }
        read_json(headers, bytes)
    }
}

/// A request that changes something.
#[derive(Debug)]
pub struct Command<B> {
    /// What it says.
    pub body: B,
    /// Made of principal, method, path and key.
    pub id: Uuid,
    /// Keyed hash of the body as it came: it may hold personal data.
    pub body_hash: [u8; 32],
    /// `If-Match`: the sequence that it was decided on.
    pub if_match: Option<i64>,
    /// Who, from where.
    pub metadata: Metadata,
}

impl<B> Command<B> {
    /// The envelope for the executor, at the present time.
    pub fn envelope(&self, app: &App) -> CommandEnvelope {
        CommandEnvelope {
            body_hash: Some(self.body_hash),
            expected_sequence: self.if_match,
            ..CommandEnvelope::new(self.id, self.metadata.clone(), app.surroundings.now())
        }
    }

    /// An envelope for a further command of the same request.
    pub fn envelope_of_step(&self, app: &App, step: &str) -> CommandEnvelope {
        CommandEnvelope {
            body_hash: Some(self.body_hash),
            ..CommandEnvelope::new(
                Uuid::new_v5(&self.id, step.as_bytes()),
                self.metadata.clone(),
                app.surroundings.now(),
            )
        }
    }

    /// What the log has of this command, if it was carried out before: which aggregate type it went
    /// to. Asked before a refusal that does not come from the executor, because a repeat is answered
    /// as the first was, whatever happened since.
    pub async fn done_before(&self, app: &App) -> Result<Option<String>, Problem> {
        let mut rows = app.log.commands(&[self.id]).await?;
        Ok(rows.remove(&self.id).map(|row| row.aggregate_type))
    }
}

impl<B: Body> FromRequest<App> for Command<B> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let context =
            <RequestContext as axum::extract::FromRequestParts<App>>::from_request_parts(&mut parts, app).await?;
        let caller = <Caller as axum::extract::FromRequestParts<App>>::from_request_parts(&mut parts, app).await?;
        let key = match given_key(&parts.headers)? {
            Some(key) if caller == Caller::Nobody && key.len() < ANONYMOUS_KEY_LENGTH_MIN => {
                return Err(Problem::new(Code::IdempotencyKeyInvalid).detail(
                    "Without a token the key must be random and have at least 16 characters: whoever repeats it gets \
                     the same answer.",
                    "토큰 없이 보내는 요청의 Idempotency-Key는 16자 이상의 무작위 값이어야 합니다.",
                ));
            }
            Some(key) => key.to_owned(),
            None if B::KEY_REQUIRED => return Err(Code::IdempotencyKeyRequired.into()),
            None => app.surroundings.ids.uuid().to_string(),
        };
        context.set_key(&key);
        let if_match = if_match(&parts.headers)?;
        let bytes = read_body(&parts.headers, body).await?;
        Ok(Self {
            id: command_id(&caller.principal(), &parts.method, parts.uri.path(), &key),
            body: B::read(&parts.headers, &bytes)?,
            body_hash: app.sealer.request_hash(&bytes),
            if_match,
            metadata: context.metadata(app, &caller, "http").await?,
        })
    }
}

/// Each part with its length, so that no two different requests spell the same.
fn command_id(principal: &str, method: &Method, path: &str, key: &str) -> Uuid {
    let parts = [principal, method.as_str(), path, key];
    let name = parts.map(|part| format!("{}:{part}", part.len())).concat();
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

fn given_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    value
        .to_str()
        .ok()
        .filter(|key| (1..=255).contains(&key.len()) && key.bytes().all(|b| (b' '..=b'~').contains(&b)))
        .filter(|_| values.next().is_none())
        .map(Some)
        .ok_or_else(|| {
            Problem::new(Code::IdempotencyKeyInvalid).detail(
                "A request has one key of 1 to 255 printable ASCII characters.",
                "Idempotency-Key는 하나만, 출력 가능한 ASCII 문자 1~255자로 보내야 합니다.",
            )
        })
}

/// `"v<sequence>"`, as `ETag` gave it.
fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|tag| tag.strip_prefix("\"v")?.strip_suffix('"'))
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .map(Some)
        .ok_or_else(|| Code::IfMatchInvalid.into())
}

/// The version that an admin's edit was made on: `If-Match`, or `version` in the body. One must be
/// given, and two must agree.
pub fn required_version(if_match: Option<i64>, body: Option<i64>) -> Result<i64, Problem> {
    match (if_match, body) {
        (Some(tag), Some(body)) if tag != body => Err(Problem::field(FieldError::at(
            "/version",
            "differs_from_if_match",
            Text::new("If-Match names another version.", "If-Match와 버전이 다릅니다."),
        ))),
        (Some(version), _) | (None, Some(version)) => Ok(version),
        (None, None) => Err(Code::VersionRequired.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                axum::http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                axum::http::HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            );
        }
        headers
    }

    #[test]
    fn a_command_id_depends_on_every_part_and_on_where_it_ends() {
        let id = |principal, path, key| command_id(principal, &Method::POST, path, key);
        let one = id("guest:a", "/api/v1/carts", "k");
        assert_eq!(one, id("guest:a", "/api/v1/carts", "k"));
        for other in [
            id("guest:b", "/api/v1/carts", "k"),
            id("guest:a", "/api/v1/cart", "sk"),
            id("guest:a", "/api/v1/carts", "l"),
            command_id("guest:a", &Method::PATCH, "/api/v1/carts", "k"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_key_is_printable_and_alone() {
        let key = |values: &[&str]| {
            given_key(&headers("idempotency-key", values))
                .map(|key| key.map(str::to_owned))
                .map_err(|p| p.code())
        };
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["a b~"]), Ok(Some("a b~".into())));
        let long = "x".repeat(256);
        for bad in [&[""][..], &["열쇠"], &["a\tb"], &[&long], &["a", "b"]] {
            assert_eq!(key(bad), Err(Code::IdempotencyKeyInvalid), "{bad:?}");
        }
    }

    #[test]
    fn a_version_is_quoted_and_numbered() {
        let tag = |tag: &str| if_match(&headers("if-match", &[tag])).map_err(|p| p.code());
        assert_eq!(tag("\"v12\""), Ok(Some(12)));
        for bad in [
            "v12",
            "\"12\"",
            "W/\"v12\"",
            "*",
            "\"v\"",
            "\"v-1\"",
            "\"v99999999999999999999\"",
        ] {
            assert_eq!(tag(bad), Err(Code::IfMatchInvalid), "{bad}");
        }
        let version = |a, b| required_version(a, b).map_err(|p| p.code());
        assert_eq!(version(Some(3), None), Ok(3));
        assert_eq!(version(None, Some(3)), Ok(3));
        assert_eq!(version(Some(3), Some(3)), Ok(3));
        assert_eq!(version(Some(3), Some(4)), Err(Code::ValidationFailed));
        assert_eq!(version(None, None), Err(Code::VersionRequired));
    }
}
