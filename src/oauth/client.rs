//! What is the same with all three: configuration, the way to the provider, and the exchange of a code.

use std::time::Duration;

use jangbu_events::Timestamp;
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};

use super::error::{Error, IdTokenFault};
use super::id_token::Expected;
use super::identity::{Identity, Tokens, Told};
use super::transport::{self, Transport};
use super::{Attempt, Provider, google, kakao, naver};
use crate::config::Secret;

/// Where a provider is, in three groups of endpoints, each without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bases {
    /// Where the browser goes.
    pub login: String,
    /// Tokens: exchange, refresh; unlinking at Naver and Google.
    pub tokens: String,
    /// People; unlinking at Kakao.
    pub people: String,
}

impl Bases {
    /// The provider itself.
    pub fn real(provider: Provider) -> Self {
        let (login, tokens, people) = match provider {
            Provider::Kakao => (
                "https://kauth.kakao.com",
                "https://kauth.kakao.com",
                "https://kapi.kakao.com",
            ),
            Provider::Naver => (
                "https://nid.naver.com",
                "https://nid.naver.com",
                "https://openapi.naver.com",
            ),
            Provider::Google => (
                "https://accounts.google.com",
                "https://oauth2.googleapis.com",
                "https://openidconnect.googleapis.com",
            ),
        };
        Self {
            login: login.to_owned(),
            tokens: tokens.to_owned(),
            people: people.to_owned(),
        }
    }

    /// Everything under one address, as the sandbox has it: `http://127.0.0.1:9090/kakao`.
    pub fn under(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        Self {
            login: base.to_owned(),
            tokens: base.to_owned(),
            people: base.to_owned(),
        }
    }
}

/// How the shop is registered with a provider, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Which one.
    pub provider: Provider,
    /// Kakao: the REST API key.
    pub client_id: String,
    /// Kakao has one only if it is switched on.
    pub client_secret: Option<Secret>,
    /// Kakao alone: unlinks without a token of the person.
    pub admin_key: Option<Secret>,
    /// What is asked for, with spaces; nothing at Naver, whose console decides. With `openid` an `id_token` must come.
    pub scopes: String,
    /// Where it is.
    pub bases: Bases,
    /// Where the browser comes back to, as it is registered.
    pub redirect_uri: String,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one request may take; a login needs two or three, and a person is waiting.
    pub timeout: Duration,
}

impl ClientConfig {
    /// With the scopes that every shop may ask for, and time-outs that fit a waiting person.
    pub fn new(provider: Provider, client_id: impl Into<String>, redirect_uri: impl Into<String>) -> Self {
        let scopes = match provider {
            Provider::Kakao => "openid profile_nickname account_email",
            Provider::Naver => "",
            Provider::Google => "openid email profile",
        };
        Self {
            provider,
            client_id: client_id.into(),
            client_secret: None,
            admin_key: None,
            scopes: scopes.to_owned(),
            bases: Bases::real(provider),
            redirect_uri: redirect_uri.into(),
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Empty.
    #[error("the client id must not be empty")]
    ClientId,
    /// Naver and Google accept nobody without.
    #[error("the client secret is missing")]
    ClientSecret,
    /// Not an absolute `http` or `https` address without query and fragment.
    #[error("the provider's addresses and the redirect address must be http or https URLs without a query")]
    Address,
    /// The TLS set-up failed.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// Speaks to one provider. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) config: ClientConfig,
    pub(super) transport: Transport,
}

/// What unlinking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// The provider forgot the link, and all tokens with it.
    Now,
    /// There was none any more: the person ended it at the provider, or the token did.
    Before,
}

/// What all three answer a code or a refresh token with. `expires_in`, a number here and a text there, is not needed.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    #[serde(rename = "access_token")]
    pub access: String,
    #[serde(rename = "refresh_token")]
    pub refresh: Option<String>,
    #[serde(rename = "id_token")]
    pub id: Option<String>,
}

impl Client {
    /// Checks `config` and prepares connections; connects to nothing yet.
    pub fn try_new(config: &ClientConfig) -> Result<Self, ConfigError> {
        if config.client_id.is_empty() {
            return Err(ConfigError::ClientId);
        }
        if config.provider != Provider::Kakao && config.client_secret.is_none() {
            return Err(ConfigError::ClientSecret);
        }
        let Bases { login, tokens, people } = &config.bases;
        for text in [login, tokens, people, &config.redirect_uri] {
            let url = Url::parse(text).map_err(|_| ConfigError::Address)?;
            if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
                return Err(ConfigError::Address);
            }
        }
        let host = Url::parse(tokens).ok();
        let host = host.as_ref().and_then(Url::host_str);
        let local = matches!(host, Some("localhost" | "127.0.0.1" | "[::1]"));
        let transport = Transport::try_new(config.connect_timeout, config.timeout, local).map_err(ConfigError::Http)?;
        Ok(Self {
            config: config.clone(),
            transport,
        })
    }

    /// Which provider it speaks to.
    pub fn provider(&self) -> Provider {
        self.config.provider
    }

    /// Where the browser is sent to begin `attempt`.
    pub fn authorize_url(&self, attempt: &Attempt) -> String {
        let config = &self.config;
        let path = match config.provider {
            Provider::Kakao => "/oauth/authorize",
            Provider::Naver => "/oauth2.0/authorize",
            Provider::Google => "/o/oauth2/v2/auth",
        };
        let challenge = attempt.challenge();
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &config.client_id),
            ("redirect_uri", &config.redirect_uri),
            ("state", attempt.state.expose()),
        ];
        if !config.scopes.is_empty() {
            query.push(("scope", &config.scopes));
        }
        if config.provider != Provider::Naver {
            query.extend([
                ("code_challenge", challenge.as_str()),
                ("code_challenge_method", "S256"),
            ]);
        }
        if self.is_oidc() {
            query.push(("nonce", attempt.nonce.expose()));
        }
        if config.provider == Provider::Google {
            // Without it there is no refresh token, and after an hour nothing to unlink with.
            query.push(("access_type", "offline"));
        }
        let query = serde_urlencoded::to_string(query).expect("pairs of texts are a query");
        format!("{}{path}?{query}", config.bases.login)
    }

    /// Turns the code of a callback into who it is. `attempt` is the one whose `state` came back; it is over now,
    /// whatever comes of this. Takes three requests at most.
    pub async fn exchange(&self, code: &str, attempt: &Attempt, now: Timestamp) -> Result<Identity, Error> {
        let mut form = vec![("grant_type", "authorization_code"), ("code", code)];
        if self.provider() == Provider::Naver {
            form.push(("state", attempt.state.expose()));
        } else {
            form.push(("redirect_uri", &self.config.redirect_uri));
            form.push(("code_verifier", attempt.verifier.expose()));
        }
        let answer = self.tokens(form).await?;
        let claimed = if self.is_oidc() {
            let expected = Expected {
                issuers: self.issuers(),
                client_id: &self.config.client_id,
                nonce: attempt.nonce.expose(),
                now,
            };
            let subject = expected.check(answer.id.as_deref());
            Some(subject.map_err(Error::IdToken)?)
        } else {
            None
        };
        let told = self.person(&answer.access).await?;
        // OpenID Connect Core 5.3.2: else one person's token could be passed off with another's data.
        if claimed.is_some_and(|subject| subject != told.subject) {
            return Err(Error::IdToken(IdTokenFault::Subject));
        }
        let tokens = Tokens {
            access: Secret::new(answer.access),
            refresh: answer.refresh.map(Secret::new),
        };
        Ok(told.into_identity(self.provider(), tokens))
    }

    /// Ends the link at the provider, as a member who leaves may ask. `subject` and `tokens` are those of her last
    /// logins. [`Error::Refused`] means that the tokens are dead, so that only the person herself can end it there.
    pub async fn unlink(&self, subject: &str, tokens: &Tokens) -> Result<Unlinked, Error> {
        match self.provider() {
            Provider::Kakao => kakao::unlink(self, subject, tokens).await,
            Provider::Naver => naver::unlink(self, tokens).await,
            Provider::Google => google::unlink(self, tokens).await,
        }
    }

    async fn person(&self, access: &str) -> Result<Told, Error> {
        let path = match self.provider() {
            Provider::Kakao => "/v2/user/me",
            Provider::Naver => "/v1/nid/me",
            Provider::Google => "/v1/userinfo",
        };
        let url = format!("{}{path}", self.config.bases.people);
        let body = transport::send_twice(|| self.transport.get(&url).bearer_auth(access)).await?;
        let told = match self.provider() {
            Provider::Kakao => decode::<kakao::User>("person", &body)?.into(),
            Provider::Naver => decode::<naver::User>("person", &body)?.into(),
            Provider::Google => decode::<google::User>("person", &body)?.into(),
        };
        let Told { subject, .. } = &told;
        if (1..=255).contains(&subject.len()) && subject.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(told)
        } else {
            Err(Error::Unreadable("person"))
        }
    }

    /// A new access token.
    pub(super) async fn refresh(&self, token: &Secret) -> Result<TokenAnswer, Error> {
        self.tokens(vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())])
            .await
    }

    async fn tokens(&self, form: Vec<(&str, &str)>) -> Result<TokenAnswer, Error> {
        let path = match self.provider() {
            Provider::Kakao => "/oauth/token",
            Provider::Naver => "/oauth2.0/token",
            Provider::Google => "/token",
        };
        let url = format!("{}{path}", self.config.bases.tokens);
        let body = transport::send(self.transport.post(&url).form(&self.signed(form))).await?;
        decode("token answer", &body)
    }

    /// With the shop's credentials, which go in the form and never in an address.
    pub(super) fn signed<'a>(&'a self, mut form: Vec<(&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
        form.push(("client_id", &self.config.client_id));
        if let Some(secret) = &self.config.client_secret {
            form.push(("client_secret", secret.expose()));
        }
        form
    }

    fn is_oidc(&self) -> bool {
        self.config.scopes.split([' ', ',']).any(|scope| scope == "openid")
    }

    fn issuers(&self) -> &'static [&'static str] {
        match self.provider() {
            Provider::Kakao => &["https://kauth.kakao.com"],
            Provider::Naver => &["https://nid.naver.com"],
            // Older tokens have it without the scheme.
            Provider::Google => &["https://accounts.google.com", "accounts.google.com"],
        }
    }
}

/// Says what could not be read, and nothing of it: `serde_json`'s own text quotes the value.
pub(super) fn decode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Unreadable(what))
}
