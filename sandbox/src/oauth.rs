//! Social login: Kakao, Naver and Google as their authorization code flow looks to a shop, traps included.
//!
//! Each provider lives under a path of its own (`/kakao`, `/naver`, `/google`) with the paths of the real one below it.
//! Instead of a login there is a page where one picks a test person, and the control surface
//! (`/_sim/oauth/{provider}/…`) does the same without a browser.

mod app;
mod authorize;
mod control;
mod google;
mod grants;
mod id_token;
mod kakao;
mod naver;
mod page;
mod person;
mod web;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Router;
use serde::{Deserialize, Serialize};

pub use self::app::{OAuthApp, OAuthApps};
use self::grants::Grants;
use self::person::Person;
use crate::config::ConfigError;
use crate::portone::Sandbox;

/// People known to one provider; more is a test gone wild.
const PEOPLE_MAX: usize = 10_000;

/// What `operation` of a fault may name beside PortOne's operations.
pub(crate) const OPERATIONS: [&str; 9] = [
    "kakao_token",
    "kakao_user",
    "kakao_unlink",
    "naver_token",
    "naver_user",
    "naver_unlink",
    "google_token",
    "google_user",
    "google_unlink",
];

/// Who vouches for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    Kakao,
    Naver,
    Google,
}

impl Provider {
    pub(crate) const ALL: [Self; 3] = [Self::Kakao, Self::Naver, Self::Google];

    /// As in paths and in the names of operations.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kakao => "kakao",
            Self::Naver => "naver",
            Self::Google => "google",
        }
    }
}

/// What a person may tell a shop, or keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Item {
    Email,
    Name,
    Nickname,
    Phone,
}

/// All that the three remember.
pub(crate) struct OAuth(Mutex<Inner>);

pub(crate) struct Inner {
    /// Compared letter by letter.
    redirect_uris: HashMap<Provider, Vec<String>>,
    people: BTreeMap<(Provider, String), Person>,
    grants: Grants,
}

impl OAuth {
    pub(crate) fn new(apps: &OAuthApps) -> Self {
        let redirect_uris = Provider::ALL.map(|provider| (provider, apps.of(provider).redirect_uris.clone()));
        Self(Mutex::new(Inner {
            redirect_uris: redirect_uris.into(),
            people: person::first().into(),
            grants: Grants::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn person(&self, provider: Provider, subject: &str) -> Option<&Person> {
        self.people.get(&(provider, subject.to_owned()))
    }

    fn people_of(&self, provider: Provider) -> impl Iterator<Item = &Person> {
        let of_it = self.people.iter().filter(move |((of, _), _)| *of == provider);
        of_it.map(|(_, person)| person)
    }
}

/// All routes of the three, and their control surface.
pub(crate) fn routes() -> Router<Sandbox> {
    Router::new()
        .merge(authorize::routes())
        .merge(kakao::routes())
        .merge(naver::routes())
        .merge(google::routes())
        .merge(control::routes())
}

impl Sandbox {
    /// What may come back as `redirect_uri` from now on. Fails if one is not an `http(s)` address without a fragment.
    fn set_redirect_uris(&self, provider: Provider, uris: Vec<String>) -> Result<(), ConfigError> {
        app::check_redirect_uris(&uris)?;
        self.oauth.lock().redirect_uris.insert(provider, uris);
        Ok(())
    }

    fn app(&self, provider: Provider) -> &OAuthApp {
        self.config.oauth.of(provider)
    }
}
