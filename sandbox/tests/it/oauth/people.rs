//! What each provider tells of a person, and how it goes wrong.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::{claims, kakao_hong, request, sim, token_path, user_path};
use crate::support::{Sim, reply};

async fn told(sim: &Sim, provider: &str, who: Value) -> Value {
    let tokens = sim.whole_login(provider, who).await;
    let (status, user) = sim.user(provider, &tokens).await;
    assert_eq!(status, 200, "{user}");
    user
}

#[tokio::test]
async fn kakao_tells_what_was_agreed_to_and_marks_the_rest() {
    let sim = sim().await;
    let hong = told(&sim, "kakao", kakao_hong()).await;
    assert!(hong["id"].is_u64(), "a number");
    assert_eq!(
        hong["kakao_account"],
        json!({"profile_nickname_needs_agreement": false, "profile": {"nickname": "길동", "is_default_image": true},
               "has_email": true, "email_needs_agreement": false, "is_email_valid": true, "is_email_verified": true,
               "email": "hong@example.com"})
    );
    assert_eq!(hong["properties"]["nickname"], "길동");
    let shy = json!({"subject": "1234567890", "declined": ["email", "nickname"]});
    let shy = told(&sim, "kakao", shy).await;
    assert_eq!(
        shy["kakao_account"],
        json!({"profile_nickname_needs_agreement": true, "has_email": true, "email_needs_agreement": true})
    );
    let none = told(&sim, "kakao", json!({"subject": "9007199254740993"})).await;
    assert_eq!(none["id"], 9_007_199_254_740_993_u64);
    assert_eq!(none["kakao_account"]["has_email"], false);
    sim.person(
        "kakao",
        json!({"subject": "7", "absent": ["kakao_account", "properties"]}),
    )
    .await;
    let bare = told(&sim, "kakao", json!({"subject": "7"})).await;
    assert_eq!(bare.as_object().unwrap().len(), 2, "id and connected_at: {bare}");
    let business = request(&sim, "kakao", &[("scope", "name phone_number")]);
    sim.person(
        "kakao",
        json!({"subject": "8", "name": "임꺽정", "phone": "+82 10-1234-5678"}),
    )
    .await;
    let (_, sent) = sim.log_in("kakao", &business, json!({"subject": "8"})).await;
    let (_, tokens) = sim
        .tokens("kakao", &[("code", sent["query"]["code"].as_str().unwrap())])
        .await;
    assert_eq!(tokens["id_token"], Value::Null, "openid was not asked for");
    let (_, user) = sim.user("kakao", &tokens).await;
    assert_eq!(
        (&user["kakao_account"]["name"], &user["kakao_account"]["phone_number"]),
        (&json!("임꺽정"), &json!("+82 10-1234-5678"))
    );
}

#[tokio::test]
async fn naver_tells_no_more_than_text() {
    let sim = sim().await;
    let who = json!({"subject": "pQ3xT0cWqyZr5nLgV8uJ2kHsE1oAbDfM4iCv7tR6wYz"});
    let hong = told(&sim, "naver", who.clone()).await;
    assert_eq!(
        hong,
        json!({"resultcode": "00", "message": "success", "response": {
            "id": who["subject"], "nickname": "길동", "name": "홍길동", "email": "hong@example.com", "mobile": "010-0000-1234"}})
    );
    let shy = json!({"subject": "40123456", "declined": ["name", "nickname", "phone"]});
    assert_eq!(told(&sim, "naver", shy).await["response"], json!({"id": "40123456"}));
    let (status, answer) = sim.user("naver", &json!({"access_token": "dead"})).await;
    assert_eq!((status, &answer["resultcode"]), (401, &json!("024")));
}

#[tokio::test]
async fn google_says_verified_in_two_ways() {
    let sim = sim().await;
    let hong = told(&sim, "google", json!({"subject": "109211450123456789012"})).await;
    assert_eq!(
        hong,
        json!({"sub": "109211450123456789012", "name": "홍길동", "family_name": "홍", "given_name": "길동",
               "email": "hong@gmail.com", "email_verified": true})
    );
    let person =
        json!({"subject": "1", "email": "a@example.com", "emailVerifiedAsText": true, "hostedDomain": "example.com"});
    sim.person("google", person).await;
    let other = told(&sim, "google", json!({"subject": "1"})).await;
    assert_eq!(
        (&other["email_verified"], &other["hd"]),
        (&json!("true"), &json!("example.com"))
    );
}

#[tokio::test]
async fn people_that_make_no_sense_are_refused() {
    let sim = sim().await;
    for (provider, person) in [
        ("kakao", json!({"subject": "abc"})),
        ("kakao", json!({"subject": "007"})),
        ("kakao", json!({"subject": ""})),
        ("naver", json!({"subject": "x".repeat(65)})),
        ("google", json!({"subject": "홍길동"})),
        ("google", json!({"subject": "1", "emial": "x"})),
    ] {
        assert_eq!(sim.person(provider, person.clone()).await.0, 400, "{provider} {person}");
    }
    let url = request(&sim, "kakao", &[]);
    let (status, answer) = sim.log_in("kakao", &url, json!({"subject": "404"})).await;
    assert_eq!((status, &answer["code"]), (409, &json!("person_not_found")));
}

#[tokio::test]
async fn whatever_an_id_token_says_can_be_wrong() {
    let sim = sim().await;
    for provider in ["kakao", "google"] {
        let who = match provider {
            "kakao" => kakao_hong(),
            _ => json!({"subject": "109211450123456789012"}),
        };
        let right = claims(&sim.whole_login(provider, who.clone()).await);
        for (fault, claim) in [
            ("oauth_wrong_nonce", "nonce"),
            ("oauth_wrong_audience", "aud"),
            ("oauth_wrong_issuer", "iss"),
            ("oauth_expired", "exp"),
        ] {
            sim.fault(json!({"fault": fault, "times": 1, "operation": format!("{provider}_token")}))
                .await;
            let wrong = claims(&sim.whole_login(provider, who.clone()).await);
            assert_ne!(wrong[claim], right[claim], "{provider} {fault}");
        }
        sim.fault(json!({"fault": "oauth_no_id_token", "times": 1})).await;
        assert_eq!(sim.whole_login(provider, who.clone()).await["id_token"], Value::Null);
        sim.fault(json!({"fault": "oauth_other_subject", "times": 1})).await;
        let other = told(&sim, provider, who.clone()).await;
        assert_ne!((&other["id"], &other["sub"]), (&right["sub"], &right["sub"]));
    }
}

#[tokio::test]
async fn people_can_change_and_grow_under_the_shops_hands() {
    let sim = sim().await;
    sim.fault(json!({"fault": "oauth_email_changed", "times": 1})).await;
    let changed = told(&sim, "kakao", kakao_hong()).await;
    assert_eq!(
        (&changed["id"], &changed["kakao_account"]["email"]),
        (&json!(1_234_567_890), &json!("changed.hong@example.com"))
    );
    sim.fault(json!({"fault": "oauth_huge_id", "times": 1})).await;
    let tokens = sim.whole_login("kakao", kakao_hong()).await;
    let token = tokens["access_token"].as_str().unwrap();
    let answer = sim.request(Method::GET, user_path("kakao")).bearer_auth(token);
    let text = answer.send().await.unwrap().text().await.unwrap();
    assert!(text.starts_with(r#"{"id":123456789000000000000000000000,"#), "{text}");
}

#[tokio::test]
async fn the_endpoints_can_be_slow_or_down() {
    let sim = sim().await;
    sim.fault(
        json!([{"fault": "api_error", "status": 500, "operation": "naver_token", "times": 1},
                     {"fault": "api_delay", "ms": 300, "operation": "kakao_token", "times": 1},
                     {"fault": "api_drop_after", "operation": "google_token", "times": 1}]),
    )
    .await;
    let (status, answer) = sim.tokens("naver", &[]).await;
    assert_eq!(status, 500);
    assert!(answer.as_str().unwrap().starts_with("<html>"));
    let begun = Instant::now();
    sim.whole_login("kakao", kakao_hong()).await;
    assert!(begun.elapsed().as_millis() >= 300);
    let code = sim.code("google", json!({"subject": "109211450123456789012"})).await;
    let form = [("grant_type", "authorization_code"), ("code", code.as_str())];
    let lost = sim.request(Method::POST, token_path("google")).form(&form).send().await;
    assert!(lost.is_err(), "the answer is lost");
    let (status, _) = reply(sim.request(Method::GET, user_path("google"))).await;
    assert_eq!(status, 401, "no token at all");
}
