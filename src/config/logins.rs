//! The providers that people may log in with.

use super::{ConfigError, vars::Vars};
use crate::oauth::{Bases, ClientConfig, Provider};

/// The variables of a provider.
struct Names {
    provider: Provider,
    client_id: &'static str,
    client_secret: &'static str,
    base: &'static str,
}

const NAMES: [Names; 3] = [
    Names {
        provider: Provider::Kakao,
        client_id: "JANGBU_KAKAO_CLIENT_ID",
        client_secret: "JANGBU_KAKAO_CLIENT_SECRET",
        base: "JANGBU_KAKAO_BASE",
    },
    Names {
        provider: Provider::Naver,
        client_id: "JANGBU_NAVER_CLIENT_ID",
        client_secret: "JANGBU_NAVER_CLIENT_SECRET",
        base: "JANGBU_NAVER_BASE",
    },
    Names {
        provider: Provider::Google,
        client_id: "JANGBU_GOOGLE_CLIENT_ID",
        client_secret: "JANGBU_GOOGLE_CLIENT_SECRET",
        base: "JANGBU_GOOGLE_BASE",
    },
];

impl Vars<'_> {
    /// Those with a client id; the others are switched off, and what is set of them must make sense all the same.
    pub fn logins(&self, public_url: &str, live: bool) -> Result<Vec<ClientConfig>, ConfigError> {
        let all = NAMES.iter().map(|names| self.login(names, public_url, live));
        Ok(all.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn login(&self, names: &Names, public_url: &str, live: bool) -> Result<Option<ClientConfig>, ConfigError> {
        let provider = names.provider;
        let (client_id, secret) = (self.get(names.client_id), self.secret(names.client_secret));
        let bases = self.http_url(names.base)?.map(|base| Bases::under(&base));
        // Nobody checks the signature of an id_token: TLS stands for where it comes from (decision 0024).
        if live
            && bases
                .as_ref()
                .is_some_and(|bases| !bases.tokens.starts_with("https://"))
        {
            let problem = "must begin with https:// when JANGBU_LIVE is true";
            return Err(ConfigError::new(names.base, problem));
        }
        let Some(client_id) = client_id else {
            return match secret {
                Some(_) => {
                    let problem = format!("is required when {} is set", names.client_secret);
                    Err(ConfigError::new(names.client_id, problem))
                }
                None => Ok(None),
            };
        };
        if secret.is_none() && provider != Provider::Kakao {
            let problem = format!("is required when {} is set", names.client_id);
            return Err(ConfigError::new(names.client_secret, problem));
        }
        let mut config = ClientConfig::new(provider, client_id, format!("{public_url}{}", provider.callback_path()));
        config.client_secret = secret;
        if let Some(bases) = bases {
            config.bases = bases;
        }
        if provider == Provider::Kakao {
            config.admin_key = self.admin_key()?;
            if let Some(scopes) = self.kakao_scopes()? {
                config.scopes = scopes;
            }
        }
        Ok(Some(config))
    }

    /// It goes out in a header.
    fn admin_key(&self) -> Result<Option<super::Secret>, ConfigError> {
        const NAME: &str = "JANGBU_KAKAO_ADMIN_KEY";
        match self.secret(NAME) {
            Some(key) if !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(ConfigError::new(NAME, "must be plain ASCII text without spaces"))
            }
            key => Ok(key),
        }
    }

    fn kakao_scopes(&self) -> Result<Option<String>, ConfigError> {
        const NAME: &str = "JANGBU_KAKAO_SCOPES";
        let Some(text) = self.get(NAME) else { return Ok(None) };
        let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let names: Vec<&str> = text.split([',', ' ']).filter(|name| !name.is_empty()).collect();
        if names.iter().all(is_name) {
            Ok(Some(names.join(" ")))
        } else {
            Err(ConfigError::new(
                NAME,
                "must be Kakao's names of consent items, with spaces between them",
            ))
        }
    }
}
