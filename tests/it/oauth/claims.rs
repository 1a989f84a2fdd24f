//! How much a provider's word is worth.

use jangbu::oauth::{Error, IdTokenFault, Provider};
use serde_json::{Value, json};

use super::{World, email};

/// Whether the e-mail of a person with these marks is vouched for.
async fn vouched(world: &World, provider: Provider, mut person: Value) -> bool {
    person["subject"] = "20".into();
    world.person(provider, person.clone()).await;
    let identity = world.log_in(provider, "20").await.expect("a login");
    let (address, vouched) = email(&identity).expect("an e-mail");
    let given = person["email"].as_str().expect("text").to_lowercase();
    assert_eq!(address, given, "kept all the same");
    vouched
}

#[tokio::test]
async fn kakao_vouches_for_what_is_valid_and_verified() {
    let world = World::start().await;
    let person = |valid: bool, verified: bool, absent: Value| json!({"email": "Hong@Example.com", "emailValid": valid, "emailVerified": verified, "absent": absent});
    for (valid, verified, absent, expected) in [
        (true, true, json!([]), true),
        (false, true, json!([]), false),
        (true, false, json!([]), false),
        (true, true, json!(["is_email_valid"]), false),
        (true, true, json!(["is_email_verified"]), false),
    ] {
        let person = person(valid, verified, absent);
        assert_eq!(
            vouched(&world, Provider::Kakao, person.clone()).await,
            expected,
            "{person}"
        );
    }
}

#[tokio::test]
async fn naver_never_vouches() {
    let world = World::start().await;
    for address in ["hong@naver.com", "hong@gmail.com"] {
        assert!(!vouched(&world, Provider::Naver, json!({"email": address})).await);
    }
}

#[tokio::test]
async fn google_vouches_for_what_it_has_in_hand() {
    let world = World::start().await;
    for (person, expected) in [
        (json!({"email": "hong@gmail.com"}), true),
        (json!({"email": "Hong@GMAIL.com"}), true),
        (json!({"email": "hong@gmail.com", "emailVerifiedAsText": true}), true),
        (json!({"email": "hong@gmail.com", "emailVerified": false}), false),
        (
            json!({"email": "hong@gmail.com", "emailVerified": false, "emailVerifiedAsText": true}),
            false,
        ),
        (json!({"email": "hong@gmail.com", "absent": ["email_verified"]}), false),
        (json!({"email": "hong@example.com"}), false),
        (json!({"email": "hong@notgmail.com"}), false),
        (json!({"email": "hong@gmail.com.example.com"}), false),
        (
            json!({"email": "hong@example.com", "hostedDomain": "example.com"}),
            true,
        ),
        (json!({"email": "hong@example.com", "hostedDomain": ""}), false),
        (
            json!({"email": "hong@example.com", "hostedDomain": "example.com", "emailVerified": false}),
            false,
        ),
    ] {
        assert_eq!(
            vouched(&world, Provider::Google, person.clone()).await,
            expected,
            "{person}"
        );
    }
}

#[tokio::test]
async fn an_id_token_for_anything_else_is_refused() {
    let world = World::start().await;
    for (fault, expected) in [
        ("oauth_no_id_token", IdTokenFault::Missing),
        ("oauth_wrong_issuer", IdTokenFault::Issuer),
        ("oauth_wrong_audience", IdTokenFault::Audience),
        ("oauth_expired", IdTokenFault::Expired),
        ("oauth_wrong_nonce", IdTokenFault::Nonce),
        ("oauth_other_subject", IdTokenFault::Subject),
    ] {
        for (provider, subject) in [
            (Provider::Kakao, "1234567890"),
            (Provider::Google, "109211450123456789012"),
        ] {
            world.fault(json!({"fault": fault, "times": 1})).await;
            let refused = world.log_in(provider, subject).await;
            assert_eq!(refused, Err(Error::IdToken(expected)), "{provider} {fault}");
        }
    }
}

#[tokio::test]
async fn kakaos_number_is_never_rounded() {
    let world = World::start().await;
    for subject in ["1", "9007199254740993", "9223372036854775807", "18446744073709551615"] {
        world.person(Provider::Kakao, json!({"subject": subject})).await;
        assert_eq!(
            world.log_in(Provider::Kakao, subject).await.expect("a login").subject,
            subject
        );
    }
    world.fault(json!({"fault": "oauth_huge_id", "times": 1})).await;
    let refused = world.log_in(Provider::Kakao, "1234567890").await;
    assert_eq!(refused, Err(Error::Unreadable("person")));
}
