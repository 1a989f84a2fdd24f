//! Logins with Kakao, Naver and Google, as a shop, a person and bad luck see them.

mod flow;
mod people;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Reply, Sim, reply};

pub const BACK: &str = "https://shop.example/auth/callback";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// Token endpoint of a provider.
pub fn token_path(provider: &str) -> &'static str {
    match provider {
        "kakao" => "/kakao/oauth/token",
        "naver" => "/naver/oauth2.0/token",
        _ => "/google/token",
    }
}

fn user_path(provider: &str) -> &'static str {
    match provider {
        "kakao" => "/kakao/v2/user/me",
        "naver" => "/naver/v1/nid/me",
        _ => "/google/v1/userinfo",
    }
}

pub fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

/// What a shop sends the browser with; `change` may spoil it.
pub fn request(sim: &Sim, provider: &str, change: &[(&str, &str)]) -> Url {
    let (path, scope) = match provider {
        "kakao" => ("/kakao/oauth/authorize", "openid,account_email,profile_nickname"),
        "naver" => ("/naver/oauth2.0/authorize", ""),
        _ => ("/google/o/oauth2/v2/auth", "openid email profile"),
    };
    let (client, challenge) = (format!("{provider}-client"), challenge());
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", &client),
        ("redirect_uri", BACK),
        ("state", "state-1"),
        ("scope", scope),
        ("nonce", "nonce-1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("access_type", "offline"),
    ];
    fields.retain(|(name, _)| change.iter().all(|(other, _)| name != other));
    fields.extend(change.iter().filter(|(_, value)| !value.is_empty()));
    let mut url = Url::parse(&format!("{}{path}", sim.running.base_url())).unwrap();
    url.query_pairs_mut().extend_pairs(fields);
    url
}

/// A simulator at which the shop is registered everywhere.
pub async fn sim() -> Sim {
    Sim::with(|config| {
        for app in [
            &mut config.oauth.kakao,
            &mut config.oauth.naver,
            &mut config.oauth.google,
        ] {
            app.redirect_uris = vec![BACK.to_owned()];
        }
    })
    .await
}

impl Sim {
    /// Browser and person at once.
    pub async fn log_in(&self, provider: &str, url: &Url, who: Value) -> Reply {
        let mut body = who;
        body["url"] = url.as_str().into();
        let request = self.request(Method::POST, &format!("/_sim/oauth/{provider}/authorize"));
        reply(request.body(body.to_string())).await
    }

    /// The code that a person's consent gives.
    pub async fn code(&self, provider: &str, who: Value) -> String {
        let url = request(self, provider, &[]);
        let (status, answer) = self.log_in(provider, &url, who).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["query"]["state"], "state-1");
        answer["query"]["code"].as_str().expect("a code").to_owned()
    }

    pub async fn person(&self, provider: &str, person: Value) -> Reply {
        let request = self.request(Method::POST, &format!("/_sim/oauth/{provider}/people"));
        reply(request.body(person.to_string())).await
    }

    /// A call of the token endpoint with the shop's credentials; an empty value takes a field away.
    pub async fn tokens(&self, provider: &str, change: &[(&str, &str)]) -> Reply {
        let (client, secret) = (format!("{provider}-client"), format!("{provider}-secret"));
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("client_id", &client),
            ("client_secret", &secret),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
            ("state", "state-1"),
        ];
        form.retain(|(name, _)| change.iter().all(|(other, _)| name != other));
        form.extend(change.iter().filter(|(_, value)| !value.is_empty()));
        reply(self.request(Method::POST, token_path(provider)).form(&form)).await
    }

    /// The tokens of a whole login.
    pub async fn whole_login(&self, provider: &str, who: Value) -> Value {
        let code = self.code(provider, who).await;
        let (status, tokens) = self.tokens(provider, &[("code", &code)]).await;
        assert_eq!((status, &tokens["error"]), (200, &Value::Null), "{tokens}");
        tokens
    }

    pub async fn user(&self, provider: &str, tokens: &Value) -> Reply {
        let token = tokens["access_token"].as_str().expect("a token");
        reply(self.request(Method::GET, user_path(provider)).bearer_auth(token)).await
    }
}

/// The claims of an `id_token`, its signature aside.
pub fn claims(tokens: &Value) -> Value {
    let token = tokens["id_token"].as_str().expect("an id_token");
    let payload = token.split('.').nth(1).expect("a JWT has a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON")
}

pub fn kakao_hong() -> Value {
    json!({"subject": "1234567890"})
}
