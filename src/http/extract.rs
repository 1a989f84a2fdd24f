//! Reading requests: paths, queries and JSON bodies, each refused as a [`Problem`] that names the
//! place which is wrong.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, IntoDeserializer,
        value::{MapDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_path_to_error::Segment;

use super::{
    App,
    problem::{Code, FieldError, Problem, Text},
};

/// The most bytes of a body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a client may take to send one.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The one parameter of a path. What cannot be read names nothing: 404.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: std::str::FromStr> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let given = path(parts, app).await?;
        Ok(Self(read(given.first())?))
    }
}

/// The two parameters of a path.
#[derive(Debug, Clone, Copy)]
pub struct Path2<A, B>(pub A, pub B);

impl<A: std::str::FromStr, B: std::str::FromStr> FromRequestParts<App> for Path2<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let given = path(parts, app).await?;
        Ok(Self(read(given.first())?, read(given.get(1))?))
    }
}

/// Percent-decoded, in order.
async fn path(parts: &mut Parts, app: &App) -> Result<Vec<String>, Problem> {
    let given = RawPathParams::from_request_parts(parts, app).await;
    let given = given.map_err(|_| Problem::new(Code::NotFound))?;
    Ok(given.iter().map(|(_, text)| text.to_owned()).collect())
}

fn read<T: std::str::FromStr>(text: Option<&String>) -> Result<T, Problem> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Code::NotFound.into())
}

/// The parameters of a query. Empty ones count as absent; unknown and repeated ones are refused, so
/// that a misspelt filter does not go unnoticed.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let given: Vec<(String, String)> = serde_urlencoded::from_str(query).map_err(|_| {
        Problem::new(Code::ValidationFailed).detail("The query cannot be read.", "쿼리를 읽을 수 없습니다.")
    })?;
    let given = given
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, Parameter(value)));
    let deserializer = MapDeserializer::<_, serde::de::value::Error>::new(given);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let wrong = Wrong::of(&error.inner().to_string());
        let name = wrong.field.unwrap_or_else(|| error.path().to_string());
        Problem::field(FieldError::parameter(name, wrong.code, wrong.detail))
    })
}

/// The text of a parameter, read as whatever type is wanted.
struct Parameter(String);

impl IntoDeserializer<'_> for Parameter {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident($visit:ident, $expected:literal)),*) => {$(
        fn $method<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let wrong = || de::Error::custom(concat!("invalid type: expected ", $expected));
            visitor.$visit(self.0.parse().map_err(|_| wrong())?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Parameter {
    type Error = serde::de::value::Error;

    parsed!(
        deserialize_bool(visit_bool, "true or false"),
        deserialize_i64(visit_i64, "a whole number"),
        deserialize_u32(visit_u32, "a whole number of zero or more")
    );

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let text: StringDeserializer<Self::Error> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The bytes of a body, as they came.
pub async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(Code::BodyTooLarge.into());
    }
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Code::BodyTooLarge.into()),
        // The client went away in the middle of it; nobody will read this.
        Ok(Err(error)) => Err(Problem::new(Code::RequestTimeout).because(error)),
        Err(_) => Err(Code::RequestTimeout.into()),
    }
}

/// Refuses a body that does not call itself JSON.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    match media_type.as_deref() {
        Some("application/json") => Ok(()),
        Some(other) if other.starts_with("application/") && other.ends_with("+json") => Ok(()),
        Some(_) | None => Err(Code::UnsupportedMediaType.into()),
    }
}

/// Reads JSON, and says by pointer which field is wrong.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        if error.inner().is_data() {
            let wrong = Wrong::of(&error.inner().to_string());
            let pointer = pointer(error.path(), wrong.field.as_deref());
            Problem::field(FieldError::at(pointer, wrong.code, wrong.detail))
        } else {
            Code::MalformedJson.into()
        }
    })?;
    deserializer.end().map_err(|_| Problem::new(Code::MalformedJson))?;
    Ok(read)
}

/// RFC 6901. `field` is what the message names: the path ends above a field that is missing.
fn pointer(path: &serde_path_to_error::Path, field: Option<&str>) -> String {
    let mut segments: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    if let Some(field) = field.filter(|field| segments.last().is_none_or(|last| last != field)) {
        segments.push(field.to_owned());
    }
    segments
        .iter()
        .fold(String::new(), |pointer, segment| pointer + "/" + &escaped(segment))
}

/// A name as a part of a JSON pointer.
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a message of serde means.
struct Wrong {
    code: &'static str,
    /// The field that it names.
    field: Option<String>,
    detail: Text,
}

impl Wrong {
    fn of(message: &str) -> Self {
        let message = message.split(" at line ").next().unwrap_or(message);
        let named = || message.split('`').nth(1).map(str::to_owned);
        let english: String = message.chars().take(200).collect();
        let (code, field, korean) = if message.starts_with("missing field") {
            ("required", named(), "필수 항목입니다.")
        } else if message.starts_with("unknown field") {
            ("unknown_field", named(), "알 수 없는 항목입니다.")
        } else if message.starts_with("duplicate field") {
            ("duplicate_field", named(), "같은 항목이 두 번 있습니다.")
        } else if message.starts_with("unknown variant") {
            ("not_allowed", None, "허용되지 않는 값입니다.")
        } else if message.starts_with("invalid type") {
            ("wrong_type", None, "값의 형식이 올바르지 않습니다.")
        } else {
            ("invalid", None, "값이 올바르지 않습니다.")
        };
        Self {
            code,
            field,
            detail: Text::new(english, korean),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::problem::Language;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        lines: Vec<Line>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        sku: jangbu_events::Sku,
        quantity: u32,
    }

    async fn told(problem: Problem) -> Value {
        let body = problem.write(Language::English, "-").into_body();
        let bytes = axum::body::to_bytes(body, 10_000).await.expect("a body");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    async fn refusal(body: &str) -> Value {
        let told = told(json::<Order>(body.as_bytes()).expect_err("refused")).await;
        json!([told["code"], told["errors"][0]["code"], told["errors"][0]["pointer"]])
    }

    #[tokio::test]
    async fn the_wrong_field_of_a_body_is_named() {
        for (body, code, pointer) in [
            ("{}", "required", "/lines"),
            (
                r#"{"lines":[{"sku":"a","quantity":1},{"sku":"a"}]}"#,
                "required",
                "/lines/1/quantity",
            ),
            (
                r#"{"lines":[{"sku":"a","quantity":"1"}]}"#,
                "wrong_type",
                "/lines/0/quantity",
            ),
            (
                r#"{"lines":[{"sku":"a","quantity":1.5}]}"#,
                "wrong_type",
                "/lines/0/quantity",
            ),
            (r#"{"lines":[{"sku":"a b","quantity":1}]}"#, "invalid", "/lines/0/sku"),
            (
                r#"{"lines":[{"sku":"a","quantity":1,"price":0}]}"#,
                "unknown_field",
                "/lines/0/price",
            ),
            (r#"{"lines":[],"a/b~":1}"#, "unknown_field", "/a~1b~0"),
            (r#"{"lines":[],"lines":[]}"#, "duplicate_field", "/lines"),
        ] {
            let expected = json!(["validation_failed", code, pointer]);
            assert_eq!(refusal(body).await, expected, "{body}");
        }
        assert_eq!(refusal("[]").await[0], "validation_failed");
        for body in ["", "{", r#"{"lines":[]} {}"#, "nul", "\u{feff}{}"] {
            assert_eq!(refusal(body).await[0], "malformed_json", "{body}");
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        q: Option<String>,
        limit: Option<u32>,
        by: Option<By>,
        day: Option<chrono::NaiveDate>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum By {
        Day,
    }

    #[tokio::test]
    async fn empty_parameters_count_as_absent_and_wrong_ones_are_named() {
        let wanted = query::<Wanted>("q=%ED%95%9C+&limit=7&by=day&day=2026-03-02").expect("a query");
        assert_eq!(
            wanted,
            Wanted {
                q: Some("한 ".into()),
                limit: Some(7),
                by: Some(By::Day),
                day: "2026-03-02".parse().ok()
            }
        );
        assert!(query::<Wanted>("q=&limit=&by=&day=").is_ok_and(|wanted| wanted.q.is_none() && wanted.limit.is_none()));
        for (text, code, parameter) in [
            ("limit=x", "wrong_type", "limit"),
            ("limit=-1", "wrong_type", "limit"),
            ("by=year", "not_allowed", "by"),
            ("day=2026-02-30", "invalid", "day"),
            ("Limit=1", "unknown_field", "Limit"),
            ("limit=1&limit=2", "duplicate_field", "limit"),
        ] {
            let told = told(query::<Wanted>(text).expect_err("refused")).await;
            assert_eq!(
                json!([told["errors"][0]["code"], told["errors"][0]["parameter"]]),
                json!([code, parameter]),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_has_a_limit_however_it_is_announced() {
        let fits = read_body(&HeaderMap::new(), Body::from(vec![b' '; BODY_BYTES_MAX])).await;
        assert_eq!(fits.map(|bytes| bytes.len()).ok(), Some(BODY_BYTES_MAX));
        let over = read_body(&HeaderMap::new(), Body::from(vec![b' '; BODY_BYTES_MAX + 1])).await;
        assert_eq!(over.map_err(|p| p.code()).err(), Some(Code::BodyTooLarge));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, (BODY_BYTES_MAX + 1).into());
        let announced = read_body(&headers, Body::empty()).await;
        assert_eq!(announced.map_err(|p| p.code()).err(), Some(Code::BodyTooLarge));
    }

    #[test]
    fn only_json_is_json() {
        let content_type = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().expect("a value"));
            require_json(&headers).is_ok()
        };
        assert!(content_type("application/json"));
        assert!(content_type("Application/JSON; charset=utf-8"));
        assert!(content_type("application/merge-patch+json"));
        assert!(!content_type("text/plain"));
        assert!(require_json(&HeaderMap::new()).is_err());
    }
}
