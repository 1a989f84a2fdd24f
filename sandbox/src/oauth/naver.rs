//! Naver: errors with HTTP 200, numbers as text, an address that nobody verified, and no PKCE.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use super::grants::Consent;
use super::person::Person;
use super::web::{Fields, answer, credential, serve};
use super::{Item, Provider};
use crate::faults::FaultKind;
use crate::portone::Sandbox;
use crate::portone::errors::Answer;

const ACCESS_LIFETIME: TimeDelta = TimeDelta::seconds(3_600);
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(365);

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/naver/oauth2.0/token", get(token).post(token))
        .route("/naver/v1/nid/me", get(user).post(user))
}

/// With HTTP 200, like every error of this endpoint.
fn refused(error: &str, why: &str) -> Answer {
    answer(200, &json!({"error": error, "error_description": why}))
}

/// Takes its fields from the query and from the body.
async fn token(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let query = query.unwrap_or_default();
    let form = Fields::parse(&[query.as_bytes(), &body].join(&b'&'));
    let operation = match form.text("grant_type") {
        "delete" => "naver_unlink",
        _ => "naver_token",
    };
    serve(sandbox, operation, move |sandbox| {
        let app = sandbox.app(Provider::Naver);
        if form.text("client_id") != app.client_id || !app.has_secret(form.text("client_secret")) {
            return refused("invalid_client", "wrong client id / client secret pair");
        }
        match form.text("grant_type") {
            "authorization_code" => by_code(sandbox, &form),
            "refresh_token" => by_refresh(sandbox, &form),
            "delete" => unlink(sandbox, &form),
            _ => refused("unsupported_grant_type", "unsupported grant type"),
        }
    })
    .await
}

/// Naver's tokens have characters that a form must encode.
fn make_token(sandbox: &Sandbox) -> String {
    let random = sandbox.random.token();
    format!("AAAA+{}/{}=", &random[..24], &random[24..])
}

fn by_code(sandbox: &Sandbox, form: &Fields) -> Answer {
    let now = sandbox.config.clock.now();
    let (access, refresh) = (make_token(sandbox), make_token(sandbox));
    let mut inner = sandbox.oauth.lock();
    let code = inner
        .grants
        .spend(Provider::Naver, form.text("code"), now)
        .filter(|code| code.state.as_deref() == form.get("state"));
    let Some(code) = code else {
        return refused("invalid_request", "no valid data in session");
    };
    inner
        .grants
        .give_refresh(refresh.clone(), &code.consent, now, REFRESH_LIFETIME);
    inner
        .grants
        .give_access(access.clone(), &code.consent, now, ACCESS_LIFETIME);
    answer(
        200,
        &json!({"access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": "3600"}),
    )
}

fn by_refresh(sandbox: &Sandbox, form: &Fields) -> Answer {
    let now = sandbox.config.clock.now();
    let access = make_token(sandbox);
    let mut inner = sandbox.oauth.lock();
    let Some((consent, _)) = inner
        .grants
        .by_refresh(Provider::Naver, form.text("refresh_token"), now)
    else {
        return refused("invalid_request", "invalid refresh_token");
    };
    inner.grants.give_access(access.clone(), &consent, now, ACCESS_LIFETIME);
    answer(
        200,
        &json!({"access_token": access, "token_type": "bearer", "expires_in": "3600"}),
    )
}

fn unlink(sandbox: &Sandbox, form: &Fields) -> Answer {
    let now = sandbox.config.clock.now();
    let token = form.text("access_token");
    if form.text("service_provider") != "NAVER" {
        return refused("invalid_request", "service_provider is missing");
    }
    let mut inner = sandbox.oauth.lock();
    let Some(consent) = inner.grants.by_access(Provider::Naver, token, now) else {
        return refused("invalid_request", "invalid access_token");
    };
    inner.grants.unlink(Provider::Naver, &consent.subject);
    answer(200, &json!({"access_token": token, "result": "success"}))
}

async fn user(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    serve(sandbox, "naver_user", move |sandbox| {
        let now = sandbox.config.clock.now();
        let token = credential(&headers, "Bearer").unwrap_or_default();
        let inner = sandbox.oauth.lock();
        let found: Option<(Arc<Consent>, Person)> =
            inner.grants.by_access(Provider::Naver, token, now).and_then(|consent| {
                let person = inner.person(Provider::Naver, &consent.subject)?.clone();
                Some((consent, person))
            });
        drop(inner);
        let Some((consent, person)) = found else {
            let message = "Authentication failed (인증 실패하였습니다.)";
            return answer(401, &json!({"resultcode": "024", "message": message}));
        };
        me(sandbox, &consent, person)
    })
    .await
}

fn me(sandbox: &Sandbox, consent: &Consent, mut person: Person) -> Answer {
    let strikes = |kind| sandbox.faults.strike(kind, None, Some("naver_user")).is_some();
    if strikes(FaultKind::OauthEmailChanged) {
        person.email = person.email.map(|email| format!("changed.{email}"));
    }
    if strikes(FaultKind::OauthOtherSubject) {
        person.subject = sandbox.random.token();
    }
    let items = [
        (Item::Nickname, "nickname", &person.nickname),
        (Item::Name, "name", &person.name),
        (Item::Email, "email", &person.email),
        (Item::Phone, "mobile", &person.phone),
    ];
    let mut response: Map<String, Value> = items
        .into_iter()
        .filter(|(item, _, _)| consent.shares(*item))
        .filter_map(|(_, name, value)| Some((name.to_owned(), value.clone()?.into())))
        .collect();
    response.insert("id".to_owned(), person.subject.clone().into());
    let mut body = json!({"resultcode": "00", "message": "success", "response": response});
    person.prune(&mut body);
    answer(200, &body)
}
