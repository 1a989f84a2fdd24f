//! How a shop is registered with a provider.

use std::fmt;

use reqwest::Url;
use subtle::ConstantTimeEq as _;

use super::Provider;
use crate::config::{ConfigError, is_http_url};

/// One provider's registration of the shop.
#[derive(Clone, PartialEq, Eq)]
pub struct OAuthApp {
    /// Public name of the shop (Kakao: the REST API key).
    pub client_id: String,
    /// What the token endpoint asks for.
    pub client_secret: String,
    /// Where people may be sent back to; compared letter by letter. May be set later.
    pub redirect_uris: Vec<String>,
    /// Kakao alone: lets the shop unlink a person without a token of hers.
    pub admin_key: Option<String>,
}

/// The registrations. By default the client ids are `kakao-client`, `naver-client` and `google-client`, the secrets
/// `kakao-secret` and so on, Kakao's admin key is `kakao-admin-key`, and there is no address to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthApps {
    /// With Kakao.
    pub kakao: OAuthApp,
    /// With Naver.
    pub naver: OAuthApp,
    /// With Google.
    pub google: OAuthApp,
}

impl Default for OAuthApps {
    fn default() -> Self {
        let app = |name: &str, admin_key: Option<&str>| OAuthApp {
            client_id: format!("{name}-client"),
            client_secret: format!("{name}-secret"),
            redirect_uris: Vec::new(),
            admin_key: admin_key.map(str::to_owned),
        };
        Self {
            kakao: app("kakao", Some("kakao-admin-key")),
            naver: app("naver", None),
            google: app("google", None),
        }
    }
}

impl OAuthApps {
    pub(crate) fn of(&self, provider: Provider) -> &OAuthApp {
        match provider {
            Provider::Kakao => &self.kakao,
            Provider::Naver => &self.naver,
            Provider::Google => &self.google,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        Provider::ALL.into_iter().try_for_each(|provider| {
            let app = self.of(provider);
            if app.client_id.is_empty() || app.client_secret.is_empty() {
                let name = provider.name();
                return Err(ConfigError(format!("{name}'s client id or secret is empty")));
            }
            check_redirect_uris(&app.redirect_uris)
        })
    }
}

impl OAuthApp {
    pub(super) fn has_secret(&self, given: &str) -> bool {
        given.as_bytes().ct_eq(self.client_secret.as_bytes()).into()
    }

    pub(super) fn has_admin_key(&self, given: &str) -> bool {
        let is_it = |key: &String| given.as_bytes().ct_eq(key.as_bytes()).into();
        self.admin_key.as_ref().is_some_and(is_it)
    }
}

impl fmt::Debug for OAuthApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthApp")
            .field("client_id", &self.client_id)
            .field("redirect_uris", &self.redirect_uris)
            .finish_non_exhaustive()
    }
}

/// RFC 6749, 3.1.2: absolute, without a fragment.
pub(super) fn check_redirect_uris(uris: &[String]) -> Result<(), ConfigError> {
    let is_sound = |uri: &&String| is_http_url(uri) && Url::parse(uri).is_ok_and(|url| url.fragment().is_none());
    match uris.iter().find(|uri| !is_sound(uri)) {
        Some(uri) => Err(ConfigError(format!(
            "the redirect address {uri:?} is not an http(s) address without a fragment"
        ))),
        None => Ok(()),
    }
}
