//! The first half of the flow: what the browser is sent with, what the person decides, and the way back to the shop.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::grants::{Code, Consent};
use super::person::Person;
use super::web::Fields;
use super::{Item, OAuth, Provider, page};
use crate::portone::Sandbox;
use crate::window::{html, way_back};

/// What Kakao's console has switched on for the shop.
const KAKAO_SCOPES: [&str; 5] = ["openid", "account_email", "profile_nickname", "name", "phone_number"];
/// What Kakao asks the person for when the shop names no scope.
const KAKAO_SCOPES_DEFAULT: [&str; 2] = ["account_email", "profile_nickname"];
const GOOGLE_SCOPES: [&str; 3] = ["openid", "email", "profile"];
/// A SHA-256 hash in base64url.
const CHALLENGE_CHARS: usize = 43;

pub(super) fn routes() -> Router<Sandbox> {
    Provider::ALL.into_iter().fold(Router::new(), |router, provider| {
        let show = async move |State(sandbox): State<Sandbox>, RawQuery(query): RawQuery| {
            open(&sandbox, provider, &query.unwrap_or_default())
        };
        let press = async move |State(sandbox): State<Sandbox>, body: Bytes| decide(&sandbox, provider, &body);
        router.route(provider.authorize_path(), get(show).post(press))
    })
}

impl Provider {
    /// The real path, below the provider's own.
    pub(super) fn authorize_path(self) -> &'static str {
        match self {
            Self::Kakao => "/kakao/oauth/authorize",
            Self::Naver => "/naver/oauth2.0/authorize",
            Self::Google => "/google/o/oauth2/v2/auth",
        }
    }
}

/// What the shop asks for, checked.
#[derive(Debug)]
pub(super) struct Request {
    redirect_uri: String,
    state: Option<String>,
    scopes: Vec<String>,
    nonce: Option<String>,
    challenge: Option<String>,
    offline: bool,
    asks_anew: bool,
}

/// Why the flow does not begin.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nobody may be sent to that address, or for that client: a page says so.
    Page { code: &'static str, why: String },
    /// The shop is told.
    Back(String),
}

fn on_page<T>(code: &'static str, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Page { code, why: why.into() })
}

/// What the person decided.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) subject: String,
    pub(super) agrees: bool,
    /// What she keeps to herself.
    pub(super) declined: Vec<Item>,
}

impl Request {
    pub(super) fn parse(sandbox: &Sandbox, provider: Provider, query: &str) -> Result<Self, Refused> {
        let fields = Fields::parse(query.as_bytes());
        if let Some(name) = fields.repeated() {
            return on_page("invalid_request", format!("{name} comes more than once"));
        }
        let (no_client, no_address) = match provider {
            Provider::Kakao => ("KOE101", "KOE006"),
            Provider::Naver => ("invalid_client", "invalid_redirect_uri"),
            Provider::Google => ("invalid_client", "redirect_uri_mismatch"),
        };
        if fields.text("client_id") != sandbox.app(provider).client_id {
            return on_page(no_client, "there is no client of that client_id");
        }
        let redirect_uri = fields.text("redirect_uri").to_owned();
        let is_registered = sandbox.oauth.lock().redirect_uris[&provider].contains(&redirect_uri);
        if !is_registered {
            return on_page(
                no_address,
                "redirect_uri is not registered; it is compared letter by letter",
            );
        }
        let state = fields.get("state").map(str::to_owned);
        let back = |error: &str, why: &str| {
            Err(Refused::Back(error_address(
                &redirect_uri,
                state.as_deref(),
                error,
                Some(why),
            )))
        };
        if provider == Provider::Naver && state.is_none() {
            return on_page("invalid_request", "state is missing");
        }
        if fields.text("response_type") != "code" {
            return back("unsupported_response_type", "response_type is code");
        }
        let Some(scopes) = scopes(provider, fields.text("scope")) else {
            return back(
                "invalid_scope",
                "a scope is missing, or not switched on for this client",
            );
        };
        let challenge = fields.get("code_challenge").filter(|_| provider != Provider::Naver);
        let is_s256 = fields.text("code_challenge_method") == "S256"
            && challenge.is_some_and(|text| text.len() == CHALLENGE_CHARS && text.bytes().all(is_base64url));
        if challenge.is_some() && !is_s256 {
            return back(
                "invalid_request",
                "code_challenge is a SHA-256 hash, and its method S256",
            );
        }
        Ok(Self {
            nonce: fields
                .get("nonce")
                .filter(|_| provider != Provider::Naver)
                .map(str::to_owned),
            challenge: challenge.map(str::to_owned),
            offline: provider == Provider::Google && fields.text("access_type") == "offline",
            asks_anew: fields.text("prompt").split(' ').any(|prompt| prompt == "consent"),
            redirect_uri,
            state,
            scopes,
        })
    }

    /// What is asked of the person, and whether she can agree to one and decline another.
    pub(super) fn items(&self, provider: Provider) -> (BTreeSet<Item>, bool) {
        let asked_by = |names: &[(&str, Item)]| {
            let asked = names
                .iter()
                .filter(|(name, _)| self.scopes.iter().any(|scope| scope == name));
            asked.map(|(_, item)| *item).collect()
        };
        match provider {
            Provider::Kakao => {
                let names = [
                    ("account_email", Item::Email),
                    ("profile_nickname", Item::Nickname),
                    ("name", Item::Name),
                    ("phone_number", Item::Phone),
                ];
                (asked_by(&names), true)
            }
            Provider::Naver => ([Item::Email, Item::Name, Item::Nickname, Item::Phone].into(), true),
            Provider::Google => (asked_by(&[("email", Item::Email), ("profile", Item::Name)]), false),
        }
    }

    /// Where the browser goes with the person's decision.
    pub(super) fn finish(&self, sandbox: &Sandbox, provider: Provider, decision: &Decision) -> Result<String, Refused> {
        if !decision.agrees {
            let why = match provider {
                Provider::Kakao => Some("User denied access"),
                Provider::Naver => Some("Canceled By User"),
                Provider::Google => None,
            };
            let state = self.state.as_deref();
            return Ok(error_address(&self.redirect_uri, state, "access_denied", why));
        }
        let (mut shared, declinable) = self.items(provider);
        if declinable {
            shared.retain(|item| !decision.declined.contains(item));
        }
        let now = sandbox.config.clock.now();
        let text = sandbox.random.token();
        let mut inner = sandbox.oauth.lock();
        if inner.person(provider, &decision.subject).is_none() {
            return on_page("person_not_found", "there is no person of that subject");
        }
        let is_first = !inner.grants.is_linked(provider, &decision.subject);
        let consent = Consent {
            provider,
            subject: decision.subject.clone(),
            shared: shared.into_iter().collect(),
            scopes: self.scopes.clone(),
            nonce: self.nonce.clone(),
            offline: self.offline && (is_first || self.asks_anew),
            at: now,
        };
        let code = Code {
            consent: Arc::new(consent),
            redirect_uri: self.redirect_uri.clone(),
            state: self.state.clone(),
            challenge: self.challenge.clone(),
        };
        inner.grants.give_code(text.clone(), code, now);
        drop(inner);
        let mut outcome = vec![("code", text.as_str())];
        outcome.extend(self.state.as_deref().map(|state| ("state", state)));
        Ok(way_back(&self.redirect_uri, &outcome))
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// `None` for one that the provider does not know.
fn scopes(provider: Provider, text: &str) -> Option<Vec<String>> {
    let parts = || text.split([',', ' ']).filter(|name| !name.is_empty());
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match provider {
        // Naver's console decides, and `scope` means nothing.
        Provider::Naver => Some(Vec::new()),
        Provider::Kakao if parts().next().is_none() => Some(owned(&KAKAO_SCOPES_DEFAULT)),
        Provider::Kakao => parts()
            .all(|name| KAKAO_SCOPES.contains(&name))
            .then(|| parts().map(str::to_owned).collect()),
        Provider::Google => {
            let names: Vec<String> = text.split(' ').map(str::to_owned).collect();
            names
                .iter()
                .all(|name| GOOGLE_SCOPES.contains(&name.as_str()))
                .then_some(names)
        }
    }
}

fn error_address(redirect_uri: &str, state: Option<&str>, error: &str, why: Option<&str>) -> String {
    let mut outcome = vec![("error", error)];
    outcome.extend(why.map(|why| ("error_description", why)));
    outcome.extend(state.map(|state| ("state", state)));
    way_back(redirect_uri, &outcome)
}

fn refuse(provider: Provider, refused: Refused) -> Response {
    match refused {
        Refused::Page { code, why } => html(StatusCode::BAD_REQUEST, page::refusal(provider, code, &why)),
        Refused::Back(address) => Redirect::to(&address).into_response(),
    }
}

impl OAuth {
    /// The test persons of a provider, in the order of their subjects.
    fn people(&self, provider: Provider) -> Vec<Person> {
        self.lock().people_of(provider).cloned().collect()
    }
}

fn open(sandbox: &Sandbox, provider: Provider, query: &str) -> Response {
    match Request::parse(sandbox, provider, query) {
        Ok(request) => {
            let people = sandbox.oauth.people(provider);
            html(StatusCode::OK, page::login(provider, query, &request, &people))
        }
        Err(refused) => refuse(provider, refused),
    }
}

/// A button of the page. The request comes along as it was, and is checked again.
fn decide(sandbox: &Sandbox, provider: Provider, body: &[u8]) -> Response {
    let form = Fields::parse(body);
    let done = Request::parse(sandbox, provider, form.text("request")).and_then(|request| {
        let given: Vec<Item> = form.all("share").filter_map(page::item).collect();
        let (asked, _) = request.items(provider);
        let decision = Decision {
            subject: form.text("subject").to_owned(),
            agrees: form.text("decision") == "agree",
            declined: asked.into_iter().filter(|item| !given.contains(item)).collect(),
        };
        request.finish(sandbox, provider, &decision)
    });
    match done {
        Ok(address) => Redirect::to(&address).into_response(),
        Err(refused) => refuse(provider, refused),
    }
}
