//! Every refusal, in one format: RFC 9457 `application/problem+json` with a stable `code`, what can be
//! done about it (`retry`), which fields are wrong (`errors`) and the facts a person needs.
//!
//! Handlers return a [`Problem`]; the outermost middleware writes it down, because only that knows the
//! reader's language and the request's id.

mod codes;
mod customers;
mod domain;
mod services;

use std::sync::Arc;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::codes::Code;

/// What a program may do about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request will be refused again.
    Never,
    /// Send the same request again, with the same `Idempotency-Key`.
    SameKey,
    /// Read the resource anew, decide anew, and send a new request.
    AfterReload,
}

/// In which language a reader wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// The default.
    #[default]
    English,
    /// When `Accept-Language` prefers `ko`.
    Korean,
}

/// One text in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    english: String,
    korean: String,
}

/// One wrong field of a body, or one wrong parameter of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    place: Place,
    code: &'static str,
    detail: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// JSON pointer (RFC 6901) into the body; empty is the whole of it.
    Pointer(String),
    /// Name of a query parameter or a header.
    Parameter(String),
}

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem(Box<Content>);

#[derive(Debug, Clone)]
struct Content {
    code: Code,
    detail: Option<Text>,
    errors: Vec<FieldError>,
    facts: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log alone.
    cause: Option<String>,
}

impl Text {
    /// The same said twice.
    pub fn new(english: impl Into<String>, korean: impl Into<String>) -> Self {
        Self {
            english: english.into(),
            korean: korean.into(),
        }
    }

    /// In one of the languages.
    pub fn speak(&self, language: Language) -> &str {
        match language {
            Language::English => &self.english,
            Language::Korean => &self.korean,
        }
    }
}

impl FieldError {
    /// Of a field of the body; `pointer` as in RFC 6901.
    pub fn at(pointer: impl Into<String>, code: &'static str, detail: Text) -> Self {
        Self {
            place: Place::Pointer(pointer.into()),
            code,
            detail,
        }
    }

    /// Of a parameter of the query, or a header.
    pub fn parameter(name: impl Into<String>, code: &'static str, detail: Text) -> Self {
        Self {
            place: Place::Parameter(name.into()),
            code,
            detail,
        }
    }
}

impl Problem {
    /// A problem that its code explains.
    pub fn new(code: Code) -> Self {
        Self(Box::new(Content {
            code,
            detail: None,
            errors: Vec::new(),
            facts: Map::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// A defect or a failure of ours. The client learns nothing; `cause` goes to the log.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(Code::Internal).because(cause)
    }

    /// Fields that are wrong; at least one.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(Code::ValidationFailed);
        problem.0.errors = errors;
        problem
    }

    /// One wrong field.
    pub fn field(error: FieldError) -> Self {
        Self::invalid(vec![error])
    }

    /// Says more than the title, in both languages.
    #[must_use]
    pub fn detail(mut self, english: impl Into<String>, korean: impl Into<String>) -> Self {
        self.0.detail = Some(Text::new(english, korean));
        self
    }

    /// Adds a fact, a member of the object beside `code`.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).expect("facts are plain data");
        self.0.facts.insert(name.to_owned(), value);
        self
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        let code = self.0.code;
        let detail = self.0.detail.clone().unwrap_or_else(|| code.title());
        self.0.errors.push(FieldError::at(pointer, code.as_str(), detail));
        self
    }

    /// Names the parameter of the query that is wrong.
    #[must_use]
    pub fn at_parameter(mut self, name: impl Into<String>) -> Self {
        let code = self.0.code;
        let detail = self.0.detail.clone().unwrap_or_else(|| code.title());
        self.0.errors.push(FieldError::parameter(name, code.as_str(), detail));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Says when it is worth to come back.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Tells the log, and nobody else, what lies behind it.
    #[must_use]
    pub fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// Which problem.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// For the log: what lies behind it.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// Writes it down. `instance` is the request's id.
    pub fn write(&self, language: Language, instance: &str) -> Response {
        let content = &*self.0;
        let mut body = Map::new();
        body.insert("type".into(), format!("/problems/{}", content.code.as_str()).into());
        body.insert("title".into(), content.code.title().speak(language).into());
        body.insert("status".into(), content.code.status().as_u16().into());
        body.insert("code".into(), content.code.as_str().into());
        if let Some(detail) = &content.detail {
            body.insert("detail".into(), detail.speak(language).into());
        }
        body.insert("instance".into(), instance.into());
        let retry = serde_json::to_value(content.code.retry()).expect("a word");
        body.insert("retry".into(), retry);
        if !content.errors.is_empty() {
            let errors = content.errors.iter().map(|error| error.write(language)).collect();
            body.insert("errors".into(), Value::Array(errors));
        }
        for (name, value) in &content.facts {
            body.insert(name.clone(), value.clone());
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in &content.headers {
            headers.insert(name.clone(), value.clone());
        }
        (content.code.status(), headers, Value::Object(body).to_string()).into_response()
    }
}

impl FieldError {
    fn write(&self, language: Language) -> Value {
        let mut error = Map::new();
        match &self.place {
            Place::Pointer(pointer) => error.insert("pointer".into(), pointer.as_str().into()),
            Place::Parameter(name) => error.insert("parameter".into(), name.as_str().into()),
        };
        error.insert("code".into(), self.code.into());
        error.insert("detail".into(), self.detail.speak(language).into());
        Value::Object(error)
    }
}

impl Language {
    /// The language of an `Accept-Language` header (RFC 9110, 12.5.4): the one of the two with the
    /// higher weight, the earlier where they are equal, English where neither is named.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut best = (0, Self::English);
        let values = headers.get_all(header::ACCEPT_LANGUAGE).iter();
        for range in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1_000, per_mille);
            let language = match tag.split('-').next() {
                Some("ko") => Self::Korean,
                Some("en") => Self::English,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }
}

/// A weight `0` to `1` with up to three digits behind the point; what is none of that weighs nothing.
fn per_mille(weight: &str) -> u16 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().unwrap_or(0);
    match whole {
        "1" => 1_000,
        "0" => fraction,
        _ => 0,
    }
}

impl IntoResponse for Problem {
    /// Leaves the writing to the outermost middleware, which finds the problem in the extensions.
    fn into_response(self) -> Response {
        let mut response = self.0.code.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

/// The problem that a response stands for, if it does.
pub fn of(response: &Response) -> Option<Arc<Problem>> {
    response.extensions().get::<Arc<Problem>>().cloned()
}

/// Whether a status is one that only a [`Problem`] may have.
pub fn is_failure(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(header: &str) -> Language {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, header.parse().expect("a header value"));
        Language::of(&headers)
    }

    async fn body(problem: &Problem, language: Language) -> Value {
        let response = problem.write(language, "req-1");
        let bytes = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .expect("a body");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn korean_is_spoken_to_whoever_prefers_it() {
        assert_eq!(language("ko-KR,ko;q=0.9,en-US;q=0.8"), Language::Korean);
        assert_eq!(language("en-US,en;q=0.9,ko;q=0.8"), Language::English);
        assert_eq!(language("en;q=0.5, ko;q=0.55"), Language::Korean);
        assert_eq!(language("fr, ko;q=0"), Language::English);
        assert_eq!(language("fr, ko;q=0.001"), Language::Korean);
        assert_eq!(language("*;q=junk, ko;q=2"), Language::English);
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }

    #[tokio::test]
    async fn a_problem_says_what_is_wrong_in_the_reader_s_language() {
        let problem = Problem::new(Code::SoldOut)
            .detail("Only 3 are left.", "3개만 남았습니다.")
            .fact("available", 3)
            .at("/lines/0/quantity");
        let english = body(&problem, Language::English).await;
        assert_eq!(
            english,
            serde_json::json!({
                "type": "/problems/sold_out", "title": "Sold out", "status": 409, "code": "sold_out",
                "detail": "Only 3 are left.", "instance": "req-1", "retry": "after_reload", "available": 3,
                "errors": [{"pointer": "/lines/0/quantity", "code": "sold_out", "detail": "Only 3 are left."}],
            })
        );
        let korean = body(&problem, Language::Korean).await;
        assert_eq!(korean["title"], "품절");
        assert_eq!(korean["errors"][0]["detail"], "3개만 남았습니다.");
    }

    #[tokio::test]
    async fn a_defect_tells_the_client_nothing() {
        let problem = Problem::internal("password=hunter2 refused");
        assert_eq!(problem.cause(), Some("password=hunter2 refused"));
        assert!(!body(&problem, Language::English).await.to_string().contains("hunter2"));
    }
}
