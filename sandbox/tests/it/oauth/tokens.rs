//! Codes, tokens, and what ends them.

use chrono::TimeDelta;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Method;
use serde_json::{Value, json};

use super::{claims, kakao_hong, sim, token_path};
use crate::support::{Reply, Sim, reply};

fn person(provider: &str) -> Value {
    match provider {
        "kakao" => kakao_hong(),
        "naver" => json!({"subject": "40123456"}),
        _ => json!({"subject": "109211450123456789012"}),
    }
}

fn error(reply: &Reply) -> (u16, &str) {
    (reply.0, reply.1["error"].as_str().unwrap_or("none"))
}

#[tokio::test]
async fn a_code_is_for_one_use_within_minutes() {
    let sim = sim().await;
    for (provider, refusal) in [
        ("kakao", (400, "invalid_grant")),
        ("naver", (200, "invalid_request")),
        ("google", (400, "invalid_grant")),
    ] {
        let code = sim.code(provider, person(provider)).await;
        let first = sim.tokens(provider, &[("code", &code)]).await;
        assert_eq!(error(&first), (200, "none"), "{provider}");
        assert_eq!(error(&sim.tokens(provider, &[("code", &code)]).await), refusal);
        let late = sim.code(provider, person(provider)).await;
        sim.clock.advance(TimeDelta::minutes(6));
        assert_eq!(error(&sim.tokens(provider, &[("code", &late)]).await), refusal);
        let other = sim.code(provider, person(provider)).await;
        let elsewhere = if provider == "kakao" { "google" } else { "kakao" };
        let tried = sim.tokens(elsewhere, &[("code", &other)]).await;
        assert_eq!(error(&tried), (400, "invalid_grant"), "a code of {provider}");
        assert_eq!(error(&sim.tokens(provider, &[("code", "")]).await), refusal);
    }
}

#[tokio::test]
async fn the_token_endpoint_checks_the_shop_the_address_and_the_proof() {
    let sim = sim().await;
    let tried = async |provider: &str, change: (&str, &str)| {
        let code = sim.code(provider, person(provider)).await;
        let (status, answer) = sim.tokens(provider, &[("code", &code), change]).await;
        let text = |name: &str| answer[name].as_str().unwrap_or("none").to_owned();
        (status, text("error"), text("error_code"))
    };
    let got = |status: u16, error: &str, code: &str| (status, error.to_owned(), code.to_owned());
    for (change, status, refusal, code) in [
        (("client_id", "other"), 401, "invalid_client", "KOE101"),
        (("client_secret", "wrong"), 401, "invalid_client", "KOE010"),
        (("client_secret", ""), 401, "invalid_client", "KOE010"),
        (
            ("redirect_uri", "https://shop.example/"),
            400,
            "invalid_grant",
            "KOE303",
        ),
        (("code_verifier", ""), 400, "invalid_grant", "KOE320"),
        (("code_verifier", "wrong"), 400, "invalid_grant", "KOE320"),
        (("grant_type", "password"), 400, "unsupported_grant_type", "KOE202"),
    ] {
        assert_eq!(tried("kakao", change).await, got(status, refusal, code), "{change:?}");
    }
    for (change, status, refusal) in [
        (("client_secret", "wrong"), 401, "invalid_client"),
        (("redirect_uri", ""), 400, "redirect_uri_mismatch"),
        (("code_verifier", "wrong"), 400, "invalid_grant"),
        (("grant_type", ""), 400, "unsupported_grant_type"),
    ] {
        assert_eq!(
            tried("google", change).await,
            got(status, refusal, "none"),
            "{change:?}"
        );
    }
    // HTTP 200, all of them.
    for (change, refusal) in [
        (("client_secret", "wrong"), "invalid_client"),
        (("state", "other"), "invalid_request"),
        (("state", ""), "invalid_request"),
        (("grant_type", ""), "unsupported_grant_type"),
    ] {
        assert_eq!(tried("naver", change).await, got(200, refusal, "none"), "{change:?}");
    }
    // Naver has no PKCE, and takes the query as well.
    let code = sim.code("naver", person("naver")).await;
    let query = [
        ("grant_type", "authorization_code"),
        ("client_id", "naver-client"),
        ("client_secret", "naver-secret"),
        ("code", &code),
        ("state", "state-1"),
    ];
    let (_, tokens) = reply(sim.request(Method::GET, token_path("naver")).query(&query)).await;
    assert_eq!(tokens["expires_in"], "3600", "a text");
}

#[tokio::test]
async fn an_id_token_is_signed_and_says_whose_it_is() {
    let sim = sim().await;
    for (provider, keys, issuer, seconds) in [
        (
            "kakao",
            "/kakao/.well-known/jwks.json",
            "https://kauth.kakao.com",
            21_599,
        ),
        (
            "google",
            "/google/oauth2/v3/certs",
            "https://accounts.google.com",
            3_599,
        ),
    ] {
        let tokens = sim.whole_login(provider, person(provider)).await;
        assert_eq!(tokens["expires_in"], seconds);
        let found = claims(&tokens);
        let subject = person(provider)["subject"].clone();
        assert_eq!(
            (&found["iss"], &found["aud"], &found["sub"], &found["nonce"]),
            (
                &json!(issuer),
                &json!(format!("{provider}-client")),
                &subject,
                &json!("nonce-1")
            )
        );
        assert_eq!(found["exp"].as_i64().unwrap() - found["iat"].as_i64().unwrap(), seconds);
        if provider == "kakao" {
            assert_eq!(
                (&found["email"], found.get("email_verified")),
                (&json!("hong@example.com"), None)
            );
        }
        let (_, keys) = sim.get(keys).await;
        let keys: JwkSet = serde_json::from_value(keys).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[format!("{provider}-client")]);
        // The sandbox stands at another time.
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&keys.keys[0]).unwrap();
        let token = tokens["id_token"].as_str().unwrap();
        assert!(jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok());
        let (_, discovery) = sim.get(&format!("/{provider}/.well-known/openid-configuration")).await;
        assert_eq!(discovery["issuer"], issuer);
        assert!(
            discovery["token_endpoint"]
                .as_str()
                .unwrap()
                .ends_with(token_path(provider))
        );
    }
}

#[tokio::test]
async fn tokens_end_and_are_renewed() {
    let sim = sim().await;
    for (provider, hours) in [("kakao", 6), ("naver", 1), ("google", 1)] {
        let tokens = sim.whole_login(provider, person(provider)).await;
        assert_eq!(sim.user(provider, &tokens).await.0, 200);
        sim.clock.advance(TimeDelta::hours(hours) + TimeDelta::seconds(1));
        assert_eq!(sim.user(provider, &tokens).await.0, 401, "{provider}");
        let refresh = tokens["refresh_token"].as_str().unwrap().to_owned();
        let renew = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        let (_, renewed) = sim.tokens(provider, &renew).await;
        assert_eq!(sim.user(provider, &renewed).await.0, 200, "{provider}");
        assert_eq!(renewed["refresh_token"], Value::Null, "the old one still holds");
        let wrong = sim
            .tokens(provider, &[("grant_type", "refresh_token"), ("refresh_token", "x")])
            .await;
        assert_ne!(error(&wrong).1, "none");
        if provider == "kakao" {
            sim.clock.advance(TimeDelta::days(31));
            let (_, renewed) = sim.tokens(provider, &renew).await;
            assert!(renewed["refresh_token"].is_string(), "near its end it is replaced");
        }
    }
    let again = sim.whole_login("google", person("google")).await;
    assert_eq!(again["refresh_token"], Value::Null, "Google gives it once");
}

#[tokio::test]
async fn unlinking_ends_all_tokens() {
    let sim = sim().await;
    let unlink = async |provider: &str, tokens: &Value| {
        let token = tokens["access_token"].as_str().unwrap();
        match provider {
            "kakao" => {
                let request = sim.request(Method::POST, "/kakao/v1/user/unlink").bearer_auth(token);
                reply(request).await
            }
            "naver" => {
                let form = [
                    ("grant_type", "delete"),
                    ("access_token", token),
                    ("service_provider", "NAVER"),
                ];
                sim.tokens("naver", &form).await
            }
            _ => {
                let request = sim.request(Method::POST, "/google/revoke").form(&[("token", token)]);
                reply(request).await
            }
        }
    };
    for provider in ["kakao", "naver", "google"] {
        let (one, two) = (
            sim.whole_login(provider, person(provider)).await,
            sim.whole_login(provider, person(provider)).await,
        );
        let done = unlink(provider, &one).await;
        assert_eq!(error(&done), (200, "none"), "{provider}: {}", done.1);
        assert_eq!(sim.user(provider, &two).await.0, 401);
        let again = unlink(provider, &two).await;
        assert!(again.0 != 200 || error(&again).1 != "none", "{provider}: {}", again.1);
    }
    let by_admin = async |key: &str, target: &str| {
        let request = sim
            .request(Method::POST, "/kakao/v1/user/unlink")
            .header("authorization", format!("KakaoAK {key}"))
            .form(&[("target_id_type", "user_id"), ("target_id", target)]);
        let (status, answer) = reply(request).await;
        (status, answer["code"].as_i64(), answer["id"].as_u64())
    };
    assert_eq!(by_admin("kakao-admin-key", "1234567890").await, (400, Some(-101), None));
    sim.whole_login("kakao", kakao_hong()).await;
    assert_eq!(by_admin("wrong", "1234567890").await, (401, Some(-401), None));
    assert_eq!(by_admin("kakao-admin-key", "").await, (400, Some(-2), None));
    assert_eq!(
        by_admin("kakao-admin-key", "1234567890").await,
        (200, None, Some(1_234_567_890))
    );
}

#[tokio::test]
async fn a_person_may_end_it_at_the_provider() {
    let sim: Sim = sim().await;
    let tokens = sim.whole_login("kakao", kakao_hong()).await;
    let (_, inside) = sim.get("/_sim/oauth").await;
    assert_eq!(inside["kakao"]["linked"], json!(["1234567890"]));
    let path = "/_sim/oauth/kakao/people/1234567890/unlink";
    assert_eq!(
        reply(sim.request(Method::POST, path)).await,
        (200, json!({"wasLinked": true}))
    );
    assert_eq!(sim.user("kakao", &tokens).await.1["code"], -401);
    assert!(!inside.to_string().contains("kakao-secret"));
}
