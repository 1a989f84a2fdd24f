//! Reads one variable at a time, as the type it should be.

use std::{net::SocketAddr, str::FromStr};

use reqwest::Url;

use super::{ConfigError, Database, JWT_SECRET_BYTES_MIN, MasterKey, Portone, PortoneApi, Secret, WebhookSecret};

/// The variables with their types: each method reads one and says what is wrong with it.
pub(super) struct Vars<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Vars<'a> {
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup }
    }

    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(Secret::new)
    }

    pub fn parse<T: FromStr>(&self, name: &str, default: T, expected: &str) -> Result<T, ConfigError> {
        self.get(name).map_or(Ok(default), |value| {
            value
                .parse()
                .map_err(|_| ConfigError::new(name, format!("must be {expected}, such as in .env.example")))
        })
    }

    pub fn address(&self, name: &str) -> Result<Option<SocketAddr>, ConfigError> {
        let parse = |value: String| {
            value
                .parse()
                .map_err(|_| ConfigError::new(name, "must be an address with a port, such as 127.0.0.1:9100"))
        };
        self.get(name).map(parse).transpose()
    }

    pub fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        match self.get(name).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(ConfigError::new(name, "must be true, false, 1 or 0")),
        }
    }

    pub fn number(&self, name: &str, default: u32, min: u32, max: u32) -> Result<u32, ConfigError> {
        match self.get(name).map(|value| value.parse::<u32>()) {
            None => Ok(default),
            Some(Ok(number)) if (min..=max).contains(&number) => Ok(number),
            Some(_) => Err(ConfigError::new(
                name,
                format!("must be a whole number from {min} to {max}"),
            )),
        }
    }

    pub fn rate(&self, name: &str, default: u32) -> Result<Option<u32>, ConfigError> {
        Ok(Some(self.number(name, default, 0, 1_000_000)?).filter(|limit| *limit > 0))
    }

    pub fn partitions(&self) -> Result<u16, ConfigError> {
        let wrong = || ConfigError::new("JANGBU_PARTITIONS", "must be 1, 2, 4, 8, 16, 32 or 64");
        let partitions = self.number("JANGBU_PARTITIONS", 4, 1, 64).map_err(|_| wrong())?;
        u16::try_from(partitions)
            .ok()
            .filter(|partitions| partitions.is_power_of_two())
            .ok_or_else(wrong)
    }

    pub fn url(&self, name: &str, schemes: &[&str]) -> Result<Option<Url>, ConfigError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // The parser's own errors say what is wrong ("invalid port number") without showing the text.
        let url =
            Url::parse(&text).map_err(|error| ConfigError::new(name, format!("is not a URL that works: {error}")))?;
        if !schemes.contains(&url.scheme()) {
            return Err(ConfigError::new(
                name,
                format!("must begin with {}://", schemes.join(":// or ")),
            ));
        }
        Ok(Some(url))
    }

    pub fn secret_url(&self, name: &str, schemes: &[&str]) -> Result<Option<Secret>, ConfigError> {
        Ok(self.url(name, schemes)?.and_then(|_| self.secret(name)))
    }

    /// An http(s) URL that paths can be appended to.
    pub fn http_url(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(url) = self.url(name, &["http", "https"])? else {
            return Ok(None);
        };
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::new(
                name,
                "must be a plain base URL: no user, no ?query and no #fragment",
            ));
        }
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }

    pub fn jwt_secret(&self, database: &Database) -> Result<Option<Secret>, ConfigError> {
        const NAME: &str = "JANGBU_JWT_SECRET";
        match (self.secret(NAME), database) {
            (Some(secret), _) if secret.expose().len() < JWT_SECRET_BYTES_MIN => Err(ConfigError::new(
                NAME,
                format!("must have at least {JWT_SECRET_BYTES_MIN} bytes"),
            )),
            // Several processes share one database: a key that each makes for itself would not open the others' tokens.
            (None, Database::Url(_)) => Err(ConfigError::new(
                NAME,
                format!("is required when DATABASE_URL is set (at least {JWT_SECRET_BYTES_MIN} bytes)"),
            )),
            (secret, _) => Ok(secret),
        }
    }

    pub fn master_key(&self) -> Result<Option<MasterKey>, ConfigError> {
        const NAME: &str = "JANGBU_MASTER_KEY";
        self.get(NAME)
            .map(|text| {
                MasterKey::parse(&text).ok_or_else(|| ConfigError::new(NAME, "must be 32 bytes in base64 or in hex"))
            })
            .transpose()
    }

    pub fn portone(&self) -> Result<Portone, ConfigError> {
        let base = self
            .http_url("PORTONE_API_BASE")?
            .unwrap_or_else(|| "https://api.portone.io".to_owned());
        let (api_secret, store_id, channel_key) = (
            self.secret("PORTONE_API_SECRET"),
            self.get("PORTONE_STORE_ID"),
            self.get("PORTONE_CHANNEL_KEY"),
        );
        let missing = [
            ("PORTONE_API_SECRET", api_secret.is_none()),
            ("PORTONE_STORE_ID", store_id.is_none()),
            ("PORTONE_CHANNEL_KEY", channel_key.is_none()),
        ];
        let api = match (api_secret.clone(), store_id.clone(), channel_key) {
            (Some(secret), Some(store_id), Some(channel_key)) => Some(PortoneApi {
                base,
                secret,
                store_id,
                channel_key,
            }),
            _ => None,
        };
        Ok(Portone {
            api,
            missing: missing
                .into_iter()
                .filter_map(|(name, absent)| absent.then_some(name))
                .collect(),
            api_secret,
            store_id,
            webhook_secrets: self.webhook_secrets()?,
        })
    }

    fn webhook_secrets(&self) -> Result<Vec<WebhookSecret>, ConfigError> {
        const NAME: &str = "PORTONE_WEBHOOK_SECRETS";
        let Some(list) = self.get(NAME) else {
            return Ok(Vec::new());
        };
        list.split(',')
            .map(|text| {
                WebhookSecret::parse(text.trim()).ok_or_else(|| {
                    ConfigError::new(
                        NAME,
                        "must be whsec_ followed by base64; several are separated by commas",
                    )
                })
            })
            .collect()
    }
}
