//! `/_sim/oauth/…`: who there is, and whole logins without a browser.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::authorize::{Decision, Refused, Request};
use super::person::Person;
use super::{Item, PEOPLE_MAX, Provider};
use crate::control::{ok, parse, refused};
use crate::portone::Sandbox;
use crate::portone::attempt::Refusal;

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/_sim/oauth", get(inspect))
        .route("/_sim/oauth/{provider}/people", post(put_person))
        .route("/_sim/oauth/{provider}/people/{subject}/unlink", post(unlink))
        .route("/_sim/oauth/{provider}/redirect-uris", put(set_redirect_uris))
        .route("/_sim/oauth/{provider}/authorize", post(authorize))
}

fn wrong(why: impl Into<String>) -> Refusal {
    Refusal::new("RequestParseFailed", why)
}

fn provider(name: &str) -> Result<Provider, Refusal> {
    let found = Provider::ALL.into_iter().find(|provider| provider.name() == name);
    found.ok_or_else(|| Refusal::new("ActionNotFound", "the providers are kakao, naver and google"))
}

fn answer(done: Result<Value, Refusal>) -> Response {
    done.map_or_else(|refusal| refused(&refusal), |body| ok(&body))
}

/// All that is known, but for secrets.
async fn inspect(State(sandbox): State<Sandbox>) -> Response {
    let inner = sandbox.oauth.lock();
    let of = |provider: Provider| {
        let people: Vec<&Person> = inner.people_of(provider).collect();
        let linked: Vec<&str> = people
            .iter()
            .map(|person| person.subject.as_str())
            .filter(|subject| inner.grants.is_linked(provider, subject))
            .collect();
        let about = json!({
            "clientId": sandbox.app(provider).client_id, "redirectUris": inner.redirect_uris[&provider],
            "people": people, "linked": linked,
        });
        (provider.name().to_owned(), about)
    };
    let all: Map<String, Value> = Provider::ALL.map(of).into_iter().collect();
    drop(inner);
    ok(&Value::Object(all))
}

/// Defines a person, or puts another in the place of one with that subject.
async fn put_person(State(sandbox): State<Sandbox>, Path(name): Path<String>, body: Bytes) -> Response {
    answer(provider(&name).and_then(|provider| {
        let person: Person = parse(&body)?;
        person.validate(provider)?;
        let mut inner = sandbox.oauth.lock();
        if inner.people_of(provider).count() >= PEOPLE_MAX {
            return Err(wrong(format!("at most {PEOPLE_MAX} people can be known")));
        }
        let subject = person.subject.clone();
        inner.people.insert((provider, subject.clone()), person);
        Ok(json!({"subject": subject}))
    }))
}

/// The person ends it at the provider. The shop is not told.
async fn unlink(State(sandbox): State<Sandbox>, Path((name, subject)): Path<(String, String)>) -> Response {
    answer(provider(&name).map(|provider| {
        let was_linked = sandbox.oauth.lock().grants.unlink(provider, &subject);
        json!({"wasLinked": was_linked})
    }))
}

async fn set_redirect_uris(State(sandbox): State<Sandbox>, Path(name): Path<String>, body: Bytes) -> Response {
    answer(provider(&name).and_then(|provider| {
        let uris: Vec<String> = parse(&body)?;
        sandbox
            .set_redirect_uris(provider, uris)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(json!({}))
    }))
}

/// What browser and person do together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    /// Where the shop sends the browser.
    url: String,
    /// May be missing where the person refuses.
    #[serde(default)]
    subject: String,
    #[serde(default = "yes")]
    agree: bool,
    /// Kakao and Naver: what she keeps to herself.
    #[serde(default)]
    declined: Vec<Item>,
}

fn yes() -> bool {
    true
}

/// Answers with where the browser is sent, and with what the query of that address says.
async fn authorize(State(sandbox): State<Sandbox>, Path(name): Path<String>, body: Bytes) -> Response {
    answer(provider(&name).and_then(|provider| {
        let login: Login = parse(&body)?;
        let url = Url::parse(&login.url).map_err(|_| wrong("url is not an address"))?;
        if url.path() != provider.authorize_path() {
            return Err(wrong(format!("the path of url is {}", provider.authorize_path())));
        }
        let decision = Decision {
            subject: login.subject,
            agrees: login.agree,
            declined: login.declined,
        };
        let sent = Request::parse(&sandbox, provider, url.query().unwrap_or_default())
            .and_then(|request| request.finish(&sandbox, provider, &decision));
        match sent {
            Ok(location) | Err(Refused::Back(location)) => {
                let query: Map<String, Value> = Url::parse(&location)
                    .map(|url| {
                        url.query_pairs()
                            .map(|(name, value)| (name.into(), value.into_owned().into()))
                            .collect()
                    })
                    .unwrap_or_default();
                Ok(json!({"location": location, "query": query}))
            }
            Err(Refused::Page { code, why }) => Err(Refusal::new(code, why)),
        }
    }))
}
