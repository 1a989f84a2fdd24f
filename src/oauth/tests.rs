//! The parts that need no provider.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::error::{Error, IdTokenFault, Refusal};
use super::id_token::Expected;
use super::{Attempt, BadCallback, Callback, Client, ClientConfig, ConfigError, Outcome, Provider};
use crate::clock::{SeededIds, Surroundings, SystemClock};
use crate::config::Secret;

fn seeded(seed: u64) -> Surroundings {
    Surroundings {
        clock: Arc::new(SystemClock),
        ids: Arc::new(SeededIds::new(seed)),
    }
}

#[test]
fn an_attempt_is_of_three_secrets_that_nobody_guesses() {
    let attempt = Attempt::new(&seeded(1));
    let secrets = [&attempt.state, &attempt.nonce, &attempt.verifier].map(|secret| secret.expose().to_owned());
    assert!(secrets.iter().all(|text| text.len() == 43), "{secrets:?}");
    assert!(secrets[0] != secrets[1] && secrets[1] != secrets[2] && secrets[0] != secrets[2]);
    assert_ne!(attempt, Attempt::new(&seeded(2)));
    assert!(attempt.is_answered_by(&secrets[0]) && !attempt.is_answered_by(&secrets[1]));
    assert!(!attempt.is_answered_by("") && !attempt.is_answered_by(&secrets[0][1..]));
}

#[test]
fn the_challenge_is_that_of_rfc_7636() {
    let attempt = Attempt {
        verifier: Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ..Attempt::new(&seeded(1))
    };
    assert_eq!(attempt.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

#[test]
fn a_callback_is_read_strictly() {
    let read = |query: &str| Callback::parse(query).map(|callback| callback.outcome);
    assert_eq!(read("code=a%2Bb&state=s"), Ok(Outcome::Code(Secret::new("a+b"))));
    assert_eq!(
        read("error=access_denied&state=s&error_description=x"),
        Ok(Outcome::Declined)
    );
    assert_eq!(read("error=server_error&state=s"), Ok(Outcome::Failed("server_error")));
    assert_eq!(read("error=%ED%99%8D&state=s"), Ok(Outcome::Failed("other")));
    assert_eq!(read("error=access_denied&code=c&state=s"), Ok(Outcome::Declined));
    let long = format!("code={}&state=s", "c".repeat(3_000));
    for query in [
        "",
        "code=c",
        "state=s",
        "code=&state=s",
        "code=c&code=d&state=s",
        "code=c&state=s&state=t",
        &long,
    ] {
        assert_eq!(read(query), Err(BadCallback), "{query}");
    }
}

#[test]
fn a_provider_that_cannot_work_is_refused() {
    let config = |provider| {
        let mut config = ClientConfig::new(provider, "client", "https://shop.example/back");
        config.client_secret = Some(Secret::new("secret"));
        config
    };
    let refused = |change: fn(&mut ClientConfig)| {
        let mut config = config(Provider::Naver);
        change(&mut config);
        Client::try_new(&config).expect_err("it cannot work")
    };
    assert!(matches!(refused(|c| c.client_id.clear()), ConfigError::ClientId));
    assert!(matches!(refused(|c| c.client_secret = None), ConfigError::ClientSecret));
    assert!(matches!(
        refused(|c| c.redirect_uri = "/back".into()),
        ConfigError::Address
    ));
    assert!(matches!(
        refused(|c| c.bases.tokens = "ftp://x".into()),
        ConfigError::Address
    ));
    assert!(matches!(
        refused(|c| c.bases.login = "https://x/?y".into()),
        ConfigError::Address
    ));
    let mut kakao = config(Provider::Kakao);
    kakao.client_secret = None;
    assert!(Client::try_new(&kakao).is_ok(), "Kakao's may be switched off");
}

#[test]
fn the_body_decides_what_is_a_refusal() {
    let sort = |status, body: Value| Error::sort(status, body.to_string().into_bytes());
    let refused = |status, code, detail| Err(Error::Refused(Refusal { status, code, detail }));
    assert!(sort(200, json!({"access_token": "a"})).is_ok());
    assert!(sort(200, json!({"resultcode": "00"})).is_ok());
    assert_eq!(
        sort(200, json!({"error": "invalid_request"})),
        refused(200, "invalid_request", None)
    );
    assert_eq!(sort(200, json!({"resultcode": "024"})), refused(200, "other", Some(24)));
    assert_eq!(sort(200, json!({"resultcode": 0})), refused(200, "other", None));
    assert_eq!(
        sort(401, json!({"error": "invalid_client", "error_code": "KOE010"})),
        refused(401, "invalid_client", Some(10))
    );
    assert_eq!(
        sort(400, json!({"msg": "홍길동", "code": -101})),
        refused(400, "other", Some(-101))
    );
    assert_eq!(
        sort(400, json!({"error": {"message": "홍길동"}})),
        refused(400, "other", None)
    );
    for status in [204, 302, 404, 429, 500, 503] {
        assert_eq!(sort(status, json!([])), Err(Error::Failed { status }));
    }
    assert_eq!(
        sort(503, json!({"error": "server_error"})),
        Err(Error::Failed { status: 503 })
    );
}

#[test]
fn an_id_token_is_held_against_this_attempt() {
    let now = chrono::DateTime::from_timestamp(1_000_000, 0).expect("a time");
    let check = |change: Value| {
        let mut claims =
            json!({"iss": "https://accounts.google.com", "aud": "us", "sub": "1", "exp": 1_000_100, "nonce": "n"});
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let expected = Expected {
            issuers: &["https://accounts.google.com", "accounts.google.com"],
            client_id: "us",
            nonce: "n",
            now,
        };
        expected.check(Some(&token))
    };
    for fine in [
        json!({}),
        json!({"iss": "accounts.google.com"}),
        json!({"aud": ["us"]}),
        json!({"aud": ["them", "us"], "azp": "us"}),
        json!({"exp": 999_941}),
    ] {
        assert_eq!(check(fine), Ok("1".to_owned()));
    }
    for (change, fault) in [
        (
            json!({"iss": "https://accounts.google.com.evil.example"}),
            IdTokenFault::Issuer,
        ),
        (json!({"aud": "them"}), IdTokenFault::Audience),
        (json!({"aud": ["them", "us"]}), IdTokenFault::Audience),
        (json!({"aud": ["them", "us"], "azp": "them"}), IdTokenFault::Audience),
        (json!({"azp": "them"}), IdTokenFault::Audience),
        (json!({"exp": 999_940}), IdTokenFault::Expired),
        (json!({"exp": "later"}), IdTokenFault::Malformed),
        (json!({"nonce": "m"}), IdTokenFault::Nonce),
        (json!({"nonce": null}), IdTokenFault::Nonce),
        (json!({"sub": 1}), IdTokenFault::Malformed),
    ] {
        assert_eq!(check(change.clone()), Err(fault), "{change}");
    }
    let expected = Expected {
        issuers: &[],
        client_id: "",
        nonce: "",
        now,
    };
    for (token, fault) in [
        (None, IdTokenFault::Missing),
        (Some(""), IdTokenFault::Malformed),
        (Some("e30.e30"), IdTokenFault::Malformed),
        (Some("e30.e30.x.y"), IdTokenFault::Malformed),
        (Some("e30.!.x"), IdTokenFault::Malformed),
    ] {
        assert_eq!(expected.check(token), Err(fault));
    }
}
