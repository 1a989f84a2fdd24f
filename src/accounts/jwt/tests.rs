use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use hmac::{Hmac, Mac};
use jangbu_events::AggregateId;
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::clock::{ManualClock, SeededIds};

const OLD: &str = "2025:hs256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "2026-a:eddsa:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
const ISSUER: &str = "https://shop.example";
const LIFETIME: Duration = Duration::from_secs(900);

fn surroundings() -> Surroundings {
    Surroundings {
        clock: Arc::new(ManualClock::new(Timestamp::from_timestamp(1_700_000_000, 0).unwrap())),
        ids: Arc::new(SeededIds::new(1)),
    }
}

fn tokens(keys: &[&str]) -> AccessTokens {
    let keys: Vec<_> = keys.iter().map(|key| TokenKey::parse(key).unwrap()).collect();
    AccessTokens::try_new(ISSUER, LIFETIME, &keys).unwrap()
}

fn sign(tokens: &AccessTokens) -> String {
    let grants = vec![
        Grant {
            role: "manager".to_owned(),
            store: Scope::One(StoreId::DEFAULT),
        },
        Grant {
            role: "auditor".to_owned(),
            store: Scope::Every,
        },
    ];
    let customer = CustomerId::from_uuid(Uuid::from_u128(1));
    tokens
        .sign(&surroundings(), customer, SessionId::from(Uuid::from_u128(2)), grants)
        .token
}

fn part(token: &str, n: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// A token with any header and claims, under an HMAC by any bytes.
fn forged(header: &Value, claims: &Value, key: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn key_bytes(key: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(key.rsplit_once(':').unwrap().1)
        .unwrap()
}

#[test]
fn a_token_says_who_in_which_session_and_what_where() {
    for key in [OLD, NEW] {
        let tokens = tokens(&[key]);
        let token = sign(&tokens);
        let bearer = tokens.verify(&token, surroundings().now()).unwrap();
        assert_eq!(bearer.customer, CustomerId::from_uuid(Uuid::from_u128(1)));
        assert_eq!(bearer.session, SessionId::from(Uuid::from_u128(2)));
        assert_eq!(bearer.grants.len(), 2);
        assert_eq!(bearer.expires_at, surroundings().now() + TimeDelta::minutes(15));
        let claims = part(&token, 1);
        assert_eq!(
            claims["roles"],
            json!([
                { "role": "manager", "store": StoreId::DEFAULT.to_string() },
                { "role": "auditor", "store": "*" },
            ])
        );
        for claim in ["iss", "aud", "sub", "sid", "iat", "nbf", "exp", "jti"] {
            assert!(!claims[claim].is_null(), "{claim}");
        }
        assert!(AccessTokens::is_of_this_kind(&token));
    }
}

#[test]
fn the_first_key_signs_and_all_verify_until_they_are_removed() {
    let (before, between, after) = (tokens(&[OLD]), tokens(&[NEW, OLD]), tokens(&[NEW]));
    let now = surroundings().now();
    let (old, new) = (sign(&before), sign(&between));
    assert_eq!(part(&old, 0)["kid"], "2025");
    assert_eq!(
        part(&new, 0),
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "2026-a" })
    );
    assert!(between.verify(&old, now).is_ok() && between.verify(&new, now).is_ok());
    assert_eq!(after.verify(&old, now), Err(Refused::Invalid));
    assert_eq!(before.verify(&new, now), Err(Refused::Invalid));
    // Every process first learns to verify with the new key, then one after the other signs with it.
    assert!(tokens(&[OLD, NEW]).verify(&new, now).is_ok());
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let tokens = tokens(&[NEW, OLD]);
    let now = surroundings().now();
    let claims = part(&sign(&tokens), 1);
    let header = |alg: &str, kid: &str| json!({ "typ": "at+jwt", "alg": alg, "kid": kid });
    let hmac = key_bytes(OLD);
    let right = forged(&header("HS256", "2025"), &claims, &hmac);
    assert!(
        tokens.verify(&right, now).is_ok(),
        "the forger makes what ours would be"
    );

    // The public half of an Ed25519 key is no secret: it must not do as the secret of an HMAC.
    let seed: [u8; 32] = key_bytes(NEW).try_into().unwrap();
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let none = format!("{}.", right.rsplit_once('.').unwrap().0);
    let (_, signature) = right.rsplit_once('.').unwrap();
    let unsigned = |alg: &str| {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", encode(&header(alg, "2025")), encode(&claims))
    };
    for (what, token) in [
        (
            "public key as a secret",
            forged(&header("HS256", "2026-a"), &claims, public.as_bytes()),
        ),
        (
            "other algorithm of that key",
            forged(&header("EdDSA", "2025"), &claims, &hmac),
        ),
        ("longer hash", forged(&header("HS512", "2025"), &claims, &hmac)),
        (
            "name of another key",
            forged(&header("HS256", "2026-a"), &claims, &hmac),
        ),
        ("unknown name", forged(&header("HS256", "2024"), &claims, &hmac)),
        (
            "no name",
            forged(&json!({ "typ": "at+jwt", "alg": "HS256" }), &claims, &hmac),
        ),
        (
            "other type",
            forged(&json!({ "typ": "JWT", "alg": "HS256", "kid": "2025" }), &claims, &hmac),
        ),
        ("other secret", forged(&header("HS256", "2025"), &claims, &[1; 32])),
        ("no signature", none),
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no dots", "nothing".to_owned()),
        ("signature alone", format!("..{signature}")),
        ("a book", "x".repeat(1_000_000)),
    ] {
        assert_eq!(tokens.verify(&token, now), Err(Refused::Invalid), "{what}");
    }
}

#[test]
fn what_it_says_must_be_for_us_and_for_now() {
    let tokens = tokens(&[OLD]);
    let now = surroundings().now();
    let header = json!({ "typ": "at+jwt", "alg": "HS256", "kid": "2025" });
    let with = |claim: &str, value: Value| {
        let mut claims = part(&sign(&tokens), 1);
        claims[claim] = value;
        tokens.verify(&forged(&header, &claims, &key_bytes(OLD)), now)
    };
    let seconds = now.timestamp();
    assert_eq!(with("exp", json!(seconds)), Err(Refused::Expired));
    assert_eq!(with("nbf", json!(seconds + 31)), Err(Refused::NotYet));
    assert_eq!(with("iat", json!(seconds + 31)), Err(Refused::NotYet));
    assert!(with("nbf", json!(seconds + 30)).is_ok());
    for (claim, value) in [
        ("aud", json!("another")),
        ("aud", json!(["another", "jangbu"])),
        ("iss", json!("https://another.example")),
        ("iss", Value::Null),
        ("sub", json!("admin")),
        ("sid", json!("cus_00000000000000000000000000000001")),
        ("exp", json!("tomorrow")),
        ("exp", Value::Null),
        ("jti", Value::Null),
        ("roles", json!([{ "role": "manager" }])),
        ("roles", Value::Null),
    ] {
        assert_eq!(with(claim, value.clone()), Err(Refused::Invalid), "{claim} {value}");
    }
}

#[test]
fn the_two_kinds_of_tokens_are_not_taken_for_each_other() {
    use crate::http::auth::{Role, mint_token};
    let secret = "0123456789abcdef0123456789abcdef";
    let keys = [TokenKey::derived(secret)];
    let tokens = AccessTokens::try_new(ISSUER, LIFETIME, &keys).unwrap();
    let now = surroundings().now();
    let admin = mint_token(secret, Role::Admin, "kim", TimeDelta::hours(1), now).unwrap();
    assert!(!AccessTokens::is_of_this_kind(&admin));
    assert_eq!(tokens.verify(&admin, now), Err(Refused::Invalid));
    let headers = axum::http::HeaderMap::from_iter([(
        axum::http::header::AUTHORIZATION,
        format!("Bearer {}", sign(&tokens)).parse().unwrap(),
    )]);
    assert!(crate::http::auth::Tokens::new(secret).caller(&headers, now).is_err());
}

#[test]
fn keys_are_read_strictly_and_never_shown() {
    for (text, error) in [
        ("", KeyError::Form),
        ("2025", KeyError::Form),
        ("2025:hs256", KeyError::Form),
        (
            "2025:rs256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            KeyError::Form,
        ),
        ("a b:hs256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", KeyError::Form),
        (":hs256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", KeyError::Form),
        ("2025:hs256:not base64", KeyError::Form),
        ("2025:hs256:AAEC", KeyError::Length),
        ("2025:eddsa:AAEC", KeyError::Length),
    ] {
        assert_eq!(TokenKey::parse(text).err(), Some(error), "{text}");
    }
    let old = TokenKey::parse(OLD).unwrap();
    let same_bytes = TokenKey::parse(&OLD.replace("2025:hs256", "x:eddsa")).unwrap();
    for (keys, error) in [
        (vec![], KeyError::None),
        (vec![old.clone(), old.clone()], KeyError::Twins),
        (vec![old.clone(), same_bytes], KeyError::Twins),
    ] {
        assert_eq!(AccessTokens::try_new(ISSUER, LIFETIME, &keys).err(), Some(error));
    }
    assert_eq!(format!("{old:?}"), "TokenKey(2025, [redacted])");
}
