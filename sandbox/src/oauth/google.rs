//! Google: `OpenID` Connect as it is written, with `email_verified` as a boolean or as text.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::grants::Consent;
use super::person::Person;
use super::web::{Fields, answer, credential, origin, serve};
use super::{Item, Provider, id_token};
use crate::control::ok;
use crate::faults::FaultKind;
use crate::portone::Sandbox;
use crate::portone::errors::Answer;

const ACCESS_LIFETIME: TimeDelta = TimeDelta::seconds(3_599);
/// Refresh tokens end when they are revoked or were not used for half a year.
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(180);

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/google/token", post(token))
        .route("/google/v1/userinfo", get(user).post(user))
        .route("/google/revoke", post(revoke))
        .route("/google/.well-known/openid-configuration", get(discovery))
        .route("/google/oauth2/v3/certs", get(async || ok(&id_token::key_set())))
}

fn refused(status: u16, error: &str, why: &str) -> Answer {
    answer(status, &json!({"error": error, "error_description": why}))
}

async fn token(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    serve(sandbox, "google_token", move |sandbox| {
        let form = Fields::parse(&body);
        let app = sandbox.app(Provider::Google);
        if form.text("client_id") != app.client_id || !app.has_secret(form.text("client_secret")) {
            return refused(401, "invalid_client", "Unauthorized");
        }
        match form.text("grant_type") {
            "authorization_code" => by_code(sandbox, &form),
            "refresh_token" => by_refresh(sandbox, &form),
            _ => refused(400, "unsupported_grant_type", "Invalid grant_type"),
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
        .spend(Provider::Google, form.text("code"), now);
    let Some(code) = spent else {
        return refused(400, "invalid_grant", "Bad Request");
    };
    if form.text("redirect_uri") != code.redirect_uri {
        return refused(400, "redirect_uri_mismatch", "Bad Request");
    }
    if !code.is_proven_by(form.get("code_verifier")) {
        return refused(400, "invalid_grant", "Invalid code verifier.");
    }
    let mut body = tokens(sandbox, &code.consent);
    if code.consent.offline {
        let refresh = sandbox.random.token();
        let mut inner = sandbox.oauth.lock();
        inner
            .grants
            .give_refresh(refresh.clone(), &code.consent, now, REFRESH_LIFETIME);
        body["refresh_token"] = refresh.into();
    }
    answer(200, &body)
}

fn by_refresh(sandbox: &Sandbox, form: &Fields) -> Answer {
    let now = sandbox.config.clock.now();
    let token = form.text("refresh_token");
    let found = sandbox.oauth.lock().grants.by_refresh(Provider::Google, token, now);
    match found {
        Some((consent, _)) => answer(200, &tokens(sandbox, &consent)),
        None => refused(400, "invalid_grant", "Token has been expired or revoked."),
    }
}

fn tokens(sandbox: &Sandbox, consent: &Arc<Consent>) -> Value {
    let now = sandbox.config.clock.now();
    let access = sandbox.random.token();
    let mut inner = sandbox.oauth.lock();
    inner.grants.give_access(access.clone(), consent, now, ACCESS_LIFETIME);
    let person = inner.person(Provider::Google, &consent.subject).cloned();
    drop(inner);
    let mut body = json!({
        "access_token": access, "expires_in": ACCESS_LIFETIME.num_seconds(), "scope": consent.scopes.join(" "),
        "token_type": "Bearer",
    });
    if let Some(person) = person.filter(|_| consent.has_scope("openid")) {
        let mut claims = claims(consent, &person);
        claims["azp"] = sandbox.app(Provider::Google).client_id.clone().into();
        if let Some(token) = id_token::make(sandbox, consent, ACCESS_LIFETIME, "google_token", claims) {
            body["id_token"] = token.into();
        }
    }
    body
}

/// What `id_token` and `userinfo` both say of a person.
fn claims(consent: &Consent, person: &Person) -> Value {
    let mut claims = json!({"sub": person.subject});
    if let Some(domain) = &person.hosted_domain {
        claims["hd"] = domain.as_str().into();
    }
    if consent.shares(Item::Email)
        && let Some(email) = &person.email
    {
        claims["email"] = email.as_str().into();
        claims["email_verified"] = if person.email_verified_as_text {
            person.email_verified.to_string().into()
        } else {
            person.email_verified.into()
        };
    }
    if consent.shares(Item::Name)
        && let Some(name) = &person.name
    {
        claims["name"] = name.as_str().into();
        claims["given_name"] = name.chars().skip(1).collect::<String>().into();
        claims["family_name"] = name.chars().take(1).collect::<String>().into();
    }
    claims
}

async fn user(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    serve(sandbox, "google_user", move |sandbox| {
        let now = sandbox.config.clock.now();
        let token = credential(&headers, "Bearer").unwrap_or_default();
        let inner = sandbox.oauth.lock();
        let found = inner
            .grants
            .by_access(Provider::Google, token, now)
            .and_then(|consent| {
                let person = inner.person(Provider::Google, &consent.subject)?.clone();
                Some((consent, person))
            });
        drop(inner);
        let Some((consent, mut person)) = found else {
            return refused(401, "invalid_request", "Invalid Credentials");
        };
        let strikes = |kind| sandbox.faults.strike(kind, None, Some("google_user")).is_some();
        if strikes(FaultKind::OauthEmailChanged) {
            person.email = person.email.map(|email| format!("changed.{email}"));
        }
        if strikes(FaultKind::OauthOtherSubject) {
            person.subject = sandbox.random.digits(21);
        }
        let mut body = claims(&consent, &person);
        person.prune(&mut body);
        answer(200, &body)
    })
    .await
}

/// Takes an access or a refresh token, and ends all of that person.
async fn revoke(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    serve(sandbox, "google_unlink", move |sandbox| {
        let form = Fields::parse(&[query.unwrap_or_default().as_bytes(), &body].join(&b'&'));
        let (token, now) = (form.text("token"), sandbox.config.clock.now());
        let mut inner = sandbox.oauth.lock();
        let by_refresh = inner.grants.by_refresh(Provider::Google, token, now);
        let found = by_refresh
            .map(|(consent, _)| consent)
            .or_else(|| inner.grants.by_access(Provider::Google, token, now));
        match found {
            Some(consent) => {
                inner.grants.unlink(Provider::Google, &consent.subject);
                answer(200, &json!({}))
            }
            None => refused(400, "invalid_token", "Token expired or revoked"),
        }
    })
    .await
}

async fn discovery(headers: HeaderMap) -> Response {
    let base = format!("{}/google", origin(&headers));
    ok(&json!({
        "issuer": id_token::issuer(Provider::Google),
        "authorization_endpoint": format!("{base}/o/oauth2/v2/auth"),
        "token_endpoint": format!("{base}/token"),
        "userinfo_endpoint": format!("{base}/v1/userinfo"),
        "revocation_endpoint": format!("{base}/revoke"),
        "jwks_uri": format!("{base}/oauth2/v3/certs"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "email", "profile"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "code_challenge_methods_supported": ["plain", "S256"],
    }))
}
