//! Logins with Kakao, Naver and Google against the sandbox. Needs no database.

mod claims;
mod flows;
mod trouble;

use std::time::Duration;

use jangbu::{
    clock::Surroundings,
    config::Secret,
    oauth::{Attempt, Bases, Callback, Client, ClientConfig, Error, Identity, Outcome, Provider},
};
use jangbu_events::Timestamp;
use jangbu_sandbox::{Clock, ManualClock, Running, SandboxConfig};
use serde_json::{Value, json};

const BACK: &str = "https://shop.example/api/v1/auth/callback";

/// The three as a shop meets them.
struct World {
    sandbox: Running,
    clock: ManualClock,
    http: reqwest::Client,
}

/// A login under way: what the session keeps, and what came back.
struct Begun {
    attempt: Attempt,
    outcome: Outcome,
}

impl World {
    async fn start() -> Self {
        let clock = ManualClock::starting_at("2026-03-02T03:00:00Z".parse().expect("a time"));
        let mut config = SandboxConfig::new("unused", "unused");
        config.clock = Clock::Manual(clock.clone());
        for app in [
            &mut config.oauth.kakao,
            &mut config.oauth.naver,
            &mut config.oauth.google,
        ] {
            app.redirect_uris = vec![BACK.to_owned()];
        }
        let any = "127.0.0.1:0".parse().expect("an address");
        Self {
            sandbox: jangbu_sandbox::start(config, any).await.expect("the sandbox starts"),
            clock,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn config(&self, provider: Provider) -> ClientConfig {
        let mut config = ClientConfig::new(provider, format!("{provider}-client"), BACK);
        config.client_secret = Some(Secret::new(format!("{provider}-secret")));
        config.bases = Bases::under(&format!("{}/{provider}", self.sandbox.base_url()));
        config.timeout = Duration::from_secs(20);
        config
    }

    fn client(&self, provider: Provider) -> Client {
        Client::try_new(&self.config(provider)).expect("the settings make sense")
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.sandbox.base_url());
        let answer = self.http.post(url).json(&body).send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert!(status.is_success(), "{path}: {body}");
        body
    }

    async fn fault(&self, fault: Value) {
        self.control("faults", fault).await;
    }

    async fn person(&self, provider: Provider, person: Value) {
        self.control(&format!("oauth/{provider}/people"), person).await;
    }

    /// The browser goes to the provider, the person decides as `who` says, and the browser comes back.
    async fn begin(&self, client: &Client, who: Value) -> Begun {
        let attempt = Attempt::new(&Surroundings::system());
        let mut body = who;
        body["url"] = client.authorize_url(&attempt).into();
        let path = format!("oauth/{}/authorize", client.provider());
        let sent = self.control(&path, body).await;
        let location = sent["location"].as_str().expect("an address");
        let query = location
            .strip_prefix(&format!("{BACK}?"))
            .expect("the registered address");
        let callback = Callback::parse(query).expect("what a provider sends");
        assert!(attempt.is_answered_by(callback.state.expose()));
        Begun {
            attempt,
            outcome: callback.outcome,
        }
    }

    /// A whole login.
    async fn log_in_with(&self, client: &Client, who: Value) -> Result<Identity, Error> {
        let begun = self.begin(client, who).await;
        client.exchange(begun.code(), &begun.attempt, self.now()).await
    }

    async fn log_in(&self, provider: Provider, subject: &str) -> Result<Identity, Error> {
        self.log_in_with(&self.client(provider), json!({"subject": subject}))
            .await
    }
}

impl Begun {
    fn code(&self) -> &str {
        match &self.outcome {
            Outcome::Code(code) => code.expose(),
            other => panic!("{other:?}"),
        }
    }
}

/// Address and whether it is vouched for.
fn email(identity: &Identity) -> Option<(&str, bool)> {
    let email = identity.email.as_ref()?;
    Some((email.address.as_str(), email.vouched))
}
