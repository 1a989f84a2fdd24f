//! Kakao: `kauth` (tokens) and `kapi` (people) under one path.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, routing::MethodRouter};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::grants::Consent;
use super::person::Person;
use super::web::{Fields, answer, credential, origin, serve};
use super::{Item, Provider, id_token};
use crate::control::ok;
use crate::faults::FaultKind;
use crate::portone::Sandbox;
use crate::portone::errors::Answer;

const ACCESS_LIFETIME: TimeDelta = TimeDelta::seconds(21_599);
const REFRESH_LIFETIME: TimeDelta = TimeDelta::seconds(5_183_999);
/// A refresh token with less than this left is replaced when it is used.
const REFRESH_RENEWED_BELOW: TimeDelta = TimeDelta::days(30);

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/kakao/oauth/token", post(token))
        .route("/kakao/v2/user/me", user())
        .route("/kakao/v1/user/unlink", post(unlink))
        .route("/kakao/.well-known/openid-configuration", get(discovery))
        .route("/kakao/.well-known/jwks.json", get(async || ok(&id_token::key_set())))
}

/// An error of kauth.
fn refused(status: u16, error: &str, code: &str, why: &str) -> Answer {
    answer(
        status,
        &json!({"error": error, "error_description": why, "error_code": code}),
    )
}

async fn token(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    serve(sandbox, "kakao_token", move |sandbox| {
        let form = Fields::parse(&body);
        let app = sandbox.app(Provider::Kakao);
        if form.text("client_id") != app.client_id {
            return refused(401, "invalid_client", "KOE101", "Not exist client_id");
        }
        if !app.has_secret(form.text("client_secret")) {
            return refused(401, "invalid_client", "KOE010", "Bad client credentials");
        }
        match form.text("grant_type") {
            "authorization_code" => by_code(sandbox, &form),
            "refresh_token" => by_refresh(sandbox, &form),
            _ => refused(400, "unsupported_grant_type", "KOE202", "unsupported grant type"),
        }
    })
    .await
}

fn by_code(sandbox: &Sandbox, form: &Fields) -> Answer {
    let now = sandbox.config.clock.now();
    let spent = sandbox
        .oauth
        .lock()
        .grants
        .spend(Provider::Kakao, form.text("code"), now);
    let Some(code) = spent else {
        let why = format!("authorization code not found for code={}", form.text("code"));
        return refused(400, "invalid_grant", "KOE320", &why);
    };
    if form.text("redirect_uri") != code.redirect_uri {
        return refused(400, "invalid_grant", "KOE303", "Redirect URI mismatch.");
    }
    if !code.is_proven_by(form.get("code_verifier")) {
        return refused(400, "invalid_grant", "KOE320", "code verifier does not match");
    }
    let refresh = sandbox.random.token();
    sandbox
        .oauth
        .lock()
        .grants
        .give_refresh(refresh.clone(), &code.consent, now, REFRESH_LIFETIME);
    tokens(sandbox, &code.consent, Some((refresh, REFRESH_LIFETIME)), now)
}

fn by_refresh(sandbox: &Sandbox, form: &Fields) -> Answer {
    let now = sandbox.config.clock.now();
    let mut inner = sandbox.oauth.lock();
    let Some((consent, ends)) = inner
        .grants
        .by_refresh(Provider::Kakao, form.text("refresh_token"), now)
    else {
        return refused(400, "invalid_grant", "KOE322", "expired_or_invalid_refresh_token");
    };
    let renewed = (ends - now < REFRESH_RENEWED_BELOW).then(|| {
        let text = sandbox.random.token();
        inner.grants.give_refresh(text.clone(), &consent, now, REFRESH_LIFETIME);
        (text, REFRESH_LIFETIME)
    });
    drop(inner);
    tokens(sandbox, &consent, renewed, now)
}

fn tokens(
    sandbox: &Sandbox,
    consent: &Arc<Consent>,
    refresh: Option<(String, TimeDelta)>,
    now: DateTime<Utc>,
) -> Answer {
    let access = sandbox.random.token();
    let mut inner = sandbox.oauth.lock();
    inner.grants.give_access(access.clone(), consent, now, ACCESS_LIFETIME);
    let person = inner.person(Provider::Kakao, &consent.subject).cloned();
    drop(inner);
    let mut body = json!({
        "token_type": "bearer", "access_token": access, "expires_in": ACCESS_LIFETIME.num_seconds(),
        "scope": consent.scopes.join(" "),
    });
    if let Some((text, lifetime)) = refresh {
        body["refresh_token"] = text.into();
        body["refresh_token_expires_in"] = lifetime.num_seconds().into();
    }
    if let Some(person) = person.filter(|_| consent.has_scope("openid")) {
        let mut claims = json!({"auth_time": consent.at.timestamp()});
        if consent.shares(Item::Nickname)
            && let Some(nickname) = person.nickname
        {
            claims["nickname"] = nickname.into();
        }
        // Without `email_verified`: only user/me says how much the address is worth.
        if consent.shares(Item::Email)
            && let Some(email) = person.email
        {
            claims["email"] = email.into();
        }
        if let Some(token) = id_token::make(sandbox, consent, ACCESS_LIFETIME, "kakao_token", claims) {
            body["id_token"] = token.into();
        }
    }
    answer(200, &body)
}

/// An error of kapi.
fn no_token() -> Answer {
    answer(401, &json!({"msg": "this access token does not exist", "code": -401}))
}

/// `id` goes out as the digits that it is, which a JSON library might round.
#[derive(Serialize)]
struct User<'a> {
    id: &'a RawValue,
    connected_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kakao_account: Option<Value>,
}

fn user() -> MethodRouter<Sandbox> {
    let handler = async |State(sandbox): State<Sandbox>, headers: HeaderMap| {
        serve(sandbox, "kakao_user", move |sandbox| {
            let now = sandbox.config.clock.now();
            let token = credential(&headers, "Bearer").unwrap_or_default();
            let inner = sandbox.oauth.lock();
            let found = inner.grants.by_access(Provider::Kakao, token, now).and_then(|consent| {
                let person = inner.person(Provider::Kakao, &consent.subject)?.clone();
                Some((consent, person))
            });
            drop(inner);
            found.map_or_else(no_token, |(consent, person)| me(sandbox, &consent, person))
        })
        .await
    };
    get(handler).post(handler)
}

fn me(sandbox: &Sandbox, consent: &Consent, mut person: Person) -> Answer {
    let strikes = |kind| sandbox.faults.strike(kind, None, Some("kakao_user")).is_some();
    if strikes(FaultKind::OauthEmailChanged) {
        person.email = person.email.map(|email| format!("changed.{email}"));
    }
    if strikes(FaultKind::OauthOtherSubject) {
        person.subject = format!("77{}", sandbox.random.digits(10));
    }
    if strikes(FaultKind::OauthHugeId) {
        person.subject.push_str("00000000000000000000");
    }
    let mut body = json!({"kakao_account": account(consent, &person)});
    if let Some(nickname) = person.nickname.as_ref().filter(|_| consent.shares(Item::Nickname)) {
        body["properties"] = json!({"nickname": nickname});
    }
    person.prune(&mut body);
    let id = RawValue::from_string(person.subject).expect("subjects at Kakao are numbers");
    let user = User {
        id: &id,
        connected_at: consent.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        properties: body.get_mut("properties").map(Value::take),
        kakao_account: body.get_mut("kakao_account").map(Value::take),
    };
    Answer {
        status: axum::http::StatusCode::OK,
        body: serde_json::to_vec(&user).expect("users are plain JSON").into(),
    }
}

/// What was asked for and is there, and for each whether the person still has to agree.
fn account(consent: &Consent, person: &Person) -> Value {
    let mut account = json!({});
    if consent.has_scope("profile_nickname") {
        account["profile_nickname_needs_agreement"] = (!consent.shares(Item::Nickname)).into();
        if consent.shares(Item::Nickname) {
            account["profile"] = json!({"nickname": person.nickname, "is_default_image": true});
        }
    }
    if consent.has_scope("account_email") {
        account["has_email"] = person.email.is_some().into();
        if let Some(email) = &person.email {
            account["email_needs_agreement"] = (!consent.shares(Item::Email)).into();
            if consent.shares(Item::Email) {
                account["is_email_valid"] = person.email_valid.into();
                account["is_email_verified"] = person.email_verified.into();
                account["email"] = email.as_str().into();
            }
        }
    }
    if consent.has_scope("name") {
        account["name_needs_agreement"] = (!consent.shares(Item::Name)).into();
        if let Some(name) = person.name.as_ref().filter(|_| consent.shares(Item::Name)) {
            account["name"] = name.as_str().into();
        }
    }
    if consent.has_scope("phone_number") {
        account["has_phone_number"] = person.phone.is_some().into();
        if let Some(phone) = &person.phone {
            account["phone_number_needs_agreement"] = (!consent.shares(Item::Phone)).into();
            if consent.shares(Item::Phone) {
                account["phone_number"] = phone.as_str().into();
            }
        }
    }
    account
}

/// By the person's own token, or by the shop's admin key and the person's id.
async fn unlink(State(sandbox): State<Sandbox>, headers: HeaderMap, RawQuery(_): RawQuery, body: Bytes) -> Response {
    serve(sandbox, "kakao_unlink", move |sandbox| {
        let form = Fields::parse(&body);
        let now = sandbox.config.clock.now();
        let mut inner = sandbox.oauth.lock();
        let subject = match (credential(&headers, "KakaoAK"), credential(&headers, "Bearer")) {
            (Some(key), _) if !sandbox.app(Provider::Kakao).has_admin_key(key) => {
                return answer(
                    401,
                    &json!({"msg": "appKey(AppKeyHeader) does not exist", "code": -401}),
                );
            }
            (Some(_), _) if form.text("target_id_type") != "user_id" || form.get("target_id").is_none() => {
                return answer(400, &json!({"msg": "target_id and its type are missing", "code": -2}));
            }
            (Some(_), _) => form.text("target_id").to_owned(),
            (None, Some(token)) => match inner.grants.by_access(Provider::Kakao, token, now) {
                Some(consent) => consent.subject.clone(),
                None => return no_token(),
            },
            (None, None) => return no_token(),
        };
        if !inner.grants.unlink(Provider::Kakao, &subject) {
            return answer(400, &json!({"msg": "NotRegisteredUserException", "code": -101}));
        }
        Answer {
            status: axum::http::StatusCode::OK,
            body: format!(r#"{{"id":{subject}}}"#).into(),
        }
    })
    .await
}

async fn discovery(headers: HeaderMap) -> Response {
    let base = format!("{}/kakao", origin(&headers));
    ok(&json!({
        "issuer": id_token::issuer(Provider::Kakao),
        "authorization_endpoint": format!("{base}/oauth/authorize"),
        "token_endpoint": format!("{base}/oauth/token"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
    }))
}
