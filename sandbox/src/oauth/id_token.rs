//! The `id_token`: signed with RS256 by one key, which every sandbox has.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::Provider;
use super::grants::Consent;
use crate::faults::FaultKind;
use crate::portone::Sandbox;

/// PKCS#1, 2048 bits. It is public and guards nothing: making one at each start would cost seconds.
static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_rsa_der(include_bytes!("signing.der")));
const KEY_ID: &str = "sandbox-1";

/// The issuers are those of the real providers: clients compare them with a constant.
pub(super) fn issuer(provider: Provider) -> &'static str {
    match provider {
        Provider::Kakao => "https://kauth.kakao.com",
        Provider::Naver => "https://nid.naver.com",
        Provider::Google => "https://accounts.google.com",
    }
}

/// The public half, as the providers serve theirs.
pub(super) fn key_set() -> Value {
    let mut key = Jwk::from_encoding_key(&KEY, Algorithm::RS256).expect("the key is an RSA key");
    key.common.key_id = Some(KEY_ID.to_owned());
    json!({"keys": [key]})
}

/// The claims that all have; `more` is the provider's own. `None` if a fault keeps the token back.
pub(super) fn make(
    sandbox: &Sandbox,
    consent: &Consent,
    lifetime: TimeDelta,
    operation: &str,
    more: Value,
) -> Option<String> {
    let strikes = |kind| sandbox.faults.strike(kind, None, Some(operation)).is_some();
    if strikes(FaultKind::OauthNoIdToken) {
        return None;
    }
    let now = sandbox.config.clock.now();
    let seconds = |at: DateTime<Utc>| at.timestamp();
    let mut claims = more;
    claims["iss"] = issuer(consent.provider).into();
    claims["aud"] = sandbox.app(consent.provider).client_id.clone().into();
    claims["sub"] = consent.subject.clone().into();
    claims["iat"] = seconds(now).into();
    claims["exp"] = seconds(now + lifetime).into();
    if let Some(nonce) = &consent.nonce {
        claims["nonce"] = nonce.clone().into();
    }
    if strikes(FaultKind::OauthWrongNonce) {
        claims["nonce"] = sandbox.random.token().into();
    }
    if strikes(FaultKind::OauthWrongAudience) {
        claims["aud"] = "somebody-elses-client".into();
    }
    if strikes(FaultKind::OauthWrongIssuer) {
        claims["iss"] = "https://issuer.example".into();
    }
    if strikes(FaultKind::OauthExpired) {
        claims["iat"] = seconds(now - lifetime - TimeDelta::hours(1)).into();
        claims["exp"] = seconds(now - TimeDelta::hours(1)).into();
    }
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(KEY_ID.to_owned());
    Some(jsonwebtoken::encode(&header, &claims, &KEY).expect("plain claims can be signed"))
}
