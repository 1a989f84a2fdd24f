//! Refusals, silence, and what must not be told.

use std::time::Duration;

use chrono::TimeDelta;
use jangbu::{
    clock::Surroundings,
    config::Secret,
    oauth::{Attempt, Client, Error, Provider, Refusal, Unreachable},
};
use serde_json::json;

use super::World;

const PEOPLE: [(Provider, &str); 3] = [
    (Provider::Kakao, "1234567890"),
    (Provider::Naver, "40123456"),
    (Provider::Google, "109211450123456789012"),
];

/// The refusal of a dead code.
fn dead_code(provider: Provider) -> Error {
    let (status, code, detail) = match provider {
        Provider::Kakao => (400, "invalid_grant", Some(320)),
        Provider::Naver => (200, "invalid_request", None),
        Provider::Google => (400, "invalid_grant", None),
    };
    Error::Refused(Refusal { status, code, detail })
}

#[tokio::test]
async fn a_code_serves_once_soon_and_for_its_own_attempt() {
    let world = World::start().await;
    for (provider, subject) in PEOPLE {
        let client = world.client(provider);
        let who = json!({"subject": subject});
        let begun = world.begin(&client, who.clone()).await;
        let exchange = async |code: &str, attempt: &Attempt| client.exchange(code, attempt, world.now()).await;
        exchange(begun.code(), &begun.attempt).await.expect("a login");
        let again = exchange(begun.code(), &begun.attempt).await;
        assert_eq!(again, Err(dead_code(provider)));

        let begun = world.begin(&client, who.clone()).await;
        world.clock.advance(TimeDelta::minutes(10));
        let late = exchange(begun.code(), &begun.attempt).await;
        assert_eq!(late, Err(dead_code(provider)));

        // A stolen code, or one slipped into another browser.
        let stolen = world.begin(&client, who).await;
        let other = Attempt::new(&Surroundings::system());
        assert!(!other.is_answered_by(stolen.attempt.state.expose()));
        assert!(exchange(stolen.code(), &other).await.is_err(), "{provider}");
    }
}

#[tokio::test]
async fn wrong_credentials_of_the_shop_are_told_apart() {
    let world = World::start().await;
    for ((provider, subject), expected) in PEOPLE.into_iter().zip([(401, Some(10)), (200, None), (401, None)]) {
        let mut config = world.config(provider);
        config.client_secret = Some(Secret::new("hunter2"));
        let client = Client::try_new(&config).expect("the settings make sense");
        let refused = world.log_in_with(&client, json!({"subject": subject})).await;
        let (status, detail) = expected;
        let code = "invalid_client";
        assert_eq!(refused, Err(Error::Refused(Refusal { status, code, detail })));
    }
}

#[tokio::test]
async fn a_provider_that_is_slow_or_down_is_not_waited_for() {
    let world = World::start().await;
    for (provider, subject) in PEOPLE {
        let who = json!({"subject": subject});
        let operation = format!("{provider}_token");
        world
            .fault(json!({"fault": "api_error", "status": 500, "operation": operation, "times": 1}))
            .await;
        let down = world.log_in(provider, subject).await;
        assert_eq!(down, Err(Error::Failed { status: 500 }), "{provider}");

        world
            .fault(json!({"fault": "api_drop_after", "operation": operation, "times": 1}))
            .await;
        let lost = world.log_in(provider, subject).await;
        assert_eq!(lost, Err(Error::Unreachable(Unreachable::Dropped)), "{provider}");

        world
            .fault(json!({"fault": "api_delay", "ms": 60_000, "operation": operation, "times": 1}))
            .await;
        let mut config = world.config(provider);
        config.timeout = Duration::from_millis(500);
        let client = Client::try_new(&config).expect("the settings make sense");
        let slow = world.log_in_with(&client, who).await;
        assert_eq!(slow, Err(Error::Unreachable(Unreachable::Timeout)), "{provider}");

        // Who it is, is asked twice.
        let operation = format!("{provider}_user");
        world
            .fault(json!({"fault": "api_error", "operation": operation, "times": 1}))
            .await;
        assert!(world.log_in(provider, subject).await.is_ok(), "{provider}");
        world
            .fault(json!({"fault": "api_error", "operation": operation, "times": 2}))
            .await;
        let down = world.log_in(provider, subject).await;
        assert_eq!(down, Err(Error::Failed { status: 503 }), "{provider}");
    }
}

#[tokio::test]
async fn nothing_that_is_printed_names_anybody() {
    let world = World::start().await;
    let mut all = Vec::new();
    for (provider, subject) in PEOPLE {
        let client = world.client(provider);
        let begun = world.begin(&client, json!({"subject": subject})).await;
        let identity = client
            .exchange(begun.code(), &begun.attempt, world.now())
            .await
            .expect("a login");
        let shown = format!("{identity:?} {:?} {:?} {client:?}", identity.email, begun.attempt);
        let error = client
            .exchange(begun.code(), &begun.attempt, world.now())
            .await
            .expect_err("the code is spent");
        let printed = format!("{shown} {error} {error:?}");
        // Kakao's description quotes the code.
        for secret in [
            begun.code(),
            begun.attempt.state.expose(),
            begun.attempt.verifier.expose(),
        ] {
            assert!(!printed.contains(secret), "{printed}");
        }
        all.push(printed);
    }
    let printed = all.join("\n");
    for known in [
        "길동",
        "hong",
        "1234567890",
        "40123456",
        "109211450",
        "0000-1234",
        "-secret",
    ] {
        assert!(!printed.contains(known), "{known} in {printed}");
    }
}
