//! Whole logins, and their end.

use chrono::TimeDelta;
use jangbu::{
    config::Secret,
    oauth::{Bases, Client, Error, Identity, Outcome, Provider, Tokens, Unlinked},
};
use serde_json::json;

use super::{World, email};

const PEOPLE: [(Provider, &str, &str, bool); 3] = [
    (Provider::Kakao, "1234567890", "hong@example.com", true),
    (
        Provider::Naver,
        "pQ3xT0cWqyZr5nLgV8uJ2kHsE1oAbDfM4iCv7tR6wYz",
        "hong@example.com",
        false,
    ),
    (Provider::Google, "109211450123456789012", "hong@gmail.com", true),
];

#[tokio::test]
async fn a_person_logs_in_with_each_and_is_the_same_every_time() {
    let world = World::start().await;
    for (provider, subject, address, vouched) in PEOPLE {
        let first = world.log_in(provider, subject).await.expect("a login");
        assert_eq!((first.provider, first.subject.as_str()), (provider, subject));
        assert_eq!(email(&first), Some((address, vouched)), "{provider}");
        let name = first.name.as_ref().expect("a name").as_str();
        // Kakao tells the nickname only, unless the shop is a business app.
        assert_eq!(
            name,
            if provider == Provider::Kakao {
                "길동"
            } else {
                "홍길동"
            }
        );
        let phone = first.phone.as_ref().map(jangbu_events::Phone::national);
        assert_eq!(
            phone.as_deref(),
            (provider == Provider::Naver).then_some("010-0000-1234")
        );
        assert!(first.tokens.refresh.is_some(), "{provider}");
        world.fault(json!({"fault": "oauth_email_changed", "times": 1})).await;
        let second = world.log_in(provider, subject).await.expect("a login");
        assert_eq!(second.subject, first.subject);
        assert_eq!(email(&second), Some((format!("changed.{address}").as_str(), vouched)));
    }
}

#[tokio::test]
async fn whoever_refuses_is_not_logged_in_and_whoever_keeps_the_email_is() {
    let world = World::start().await;
    for (provider, subject, ..) in PEOPLE {
        let client = world.client(provider);
        let begun = world.begin(&client, json!({"agree": false})).await;
        assert_eq!(begun.outcome, Outcome::Declined, "{provider}");
        if provider == Provider::Google {
            continue;
        }
        let who = json!({"subject": subject, "declined": ["email", "name", "nickname", "phone"]});
        let bare = world.log_in_with(&client, who).await.expect("a login");
        assert_eq!(bare.subject, subject);
        assert!(bare.email.is_none() && bare.name.is_none() && bare.phone.is_none());
    }
    for (provider, person) in [
        (
            Provider::Kakao,
            json!({"subject": "7", "absent": ["kakao_account", "properties"]}),
        ),
        (
            Provider::Kakao,
            json!({"subject": "8", "absent": ["profile"], "email": "x"}),
        ),
        (Provider::Naver, json!({"subject": "9", "phone": "+1 212 555 0100"})),
        (Provider::Google, json!({"subject": "10"})),
    ] {
        world.person(provider, person.clone()).await;
        let subject = person["subject"].as_str().expect("text");
        let bare = world.log_in(provider, subject).await.expect("a login");
        assert!(bare.email.is_none() && bare.phone.is_none(), "{provider} {person}");
    }
}

#[tokio::test]
async fn a_business_app_at_kakao_gets_name_and_phone_and_may_do_without_openid() {
    let world = World::start().await;
    let person = json!({"subject": "11", "name": "임꺽정", "nickname": "꺽정", "phone": "+82 10-1234-5678"});
    world.person(Provider::Kakao, person).await;
    let mut config = world.config(Provider::Kakao);
    config.scopes = "profile_nickname name phone_number".to_owned();
    let client = Client::try_new(&config).expect("the settings make sense");
    let lim = world
        .log_in_with(&client, json!({"subject": "11"}))
        .await
        .expect("a login");
    assert_eq!(lim.name.expect("a name").as_str(), "임꺽정");
    assert_eq!(lim.phone.expect("a phone").national(), "010-1234-5678");
}

async fn is_linked(world: &World, provider: Provider, subject: &str) -> bool {
    let url = format!("{}/_sim/oauth", world.sandbox.base_url());
    let inside: serde_json::Value = world
        .http
        .get(url)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let linked = inside[provider.name()]["linked"].as_array().expect("a list");
    linked.contains(&json!(subject))
}

#[tokio::test]
async fn a_link_is_ended_weeks_later_and_only_once() {
    let world = World::start().await;
    for (provider, subject, ..) in PEOPLE {
        let client = world.client(provider);
        let Identity { tokens, .. } = world.log_in(provider, subject).await.expect("a login");
        assert!(is_linked(&world, provider, subject).await);
        // The access token is dead by now.
        world.clock.advance(TimeDelta::days(14));
        assert_eq!(client.unlink(subject, &tokens).await, Ok(Unlinked::Now), "{provider}");
        assert!(!is_linked(&world, provider, subject).await);
        match client.unlink(subject, &tokens).await {
            Ok(Unlinked::Before) => assert_eq!(provider, Provider::Google),
            Err(Error::Refused(_)) => assert_ne!(provider, Provider::Google),
            other => panic!("{provider}: {other:?}"),
        }
        // With a fresh access token alone.
        let Identity { mut tokens, .. } = world.log_in(provider, subject).await.expect("a login");
        tokens.refresh = None;
        assert_eq!(client.unlink(subject, &tokens).await, Ok(Unlinked::Now), "{provider}");
    }
}

#[tokio::test]
async fn kakaos_admin_key_ends_a_link_without_any_token() {
    let world = World::start().await;
    let mut config = world.config(Provider::Kakao);
    config.admin_key = Some(Secret::new("kakao-admin-key"));
    let client = Client::try_new(&config).expect("the settings make sense");
    world.log_in(Provider::Kakao, "1234567890").await.expect("a login");
    let dead = Tokens {
        access: Secret::new("dead"),
        refresh: None,
    };
    assert_eq!(client.unlink("1234567890", &dead).await, Ok(Unlinked::Now));
    assert_eq!(client.unlink("1234567890", &dead).await, Ok(Unlinked::Before));
    config.admin_key = Some(Secret::new("wrong"));
    let client = Client::try_new(&config).expect("the settings make sense");
    assert!(matches!(
        client.unlink("1234567890", &dead).await,
        Err(Error::Refused(_))
    ));
}

#[tokio::test]
async fn the_browser_is_sent_to_the_provider_itself_by_default() {
    let world = World::start().await;
    for (provider, begin) in [
        (
            Provider::Kakao,
            "https://kauth.kakao.com/oauth/authorize?response_type=code&",
        ),
        (
            Provider::Naver,
            "https://nid.naver.com/oauth2.0/authorize?response_type=code&",
        ),
        (
            Provider::Google,
            "https://accounts.google.com/o/oauth2/v2/auth?response_type=code&",
        ),
    ] {
        let mut config = world.config(provider);
        config.bases = Bases::real(provider);
        let client = Client::try_new(&config).expect("the settings make sense");
        let attempt = jangbu::oauth::Attempt::new(&jangbu::clock::Surroundings::system());
        let url = client.authorize_url(&attempt);
        assert!(url.starts_with(begin), "{url}");
        assert!(
            !url.contains(attempt.verifier.expose()) && !url.contains("secret"),
            "{url}"
        );
        let has_challenge = url.contains(&attempt.challenge());
        assert_eq!(has_challenge, provider != Provider::Naver);
    }
}
