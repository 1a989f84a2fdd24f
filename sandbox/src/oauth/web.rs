//! What the endpoints of all three have in common: forms, answers, faults.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

use crate::faults::{FaultKind, When};
use crate::portone::Sandbox;
use crate::portone::errors::Answer;
use crate::portone::gate::{drop_connection, gateway_page, respond};

/// The fields of a query or of a form.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// What is not a form has no fields.
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(serde_urlencoded::from_bytes(encoded).unwrap_or_default())
    }

    /// An empty field counts as absent (RFC 6749, 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a field that may come more than once.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that comes twice (RFC 6749, 3.1 forbids it).
    pub(super) fn repeated(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

pub(super) fn answer(status: u16, body: &Value) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).expect("the statuses are the providers' own"),
        body: Bytes::from(body.to_string()),
    }
}

/// The credential after `scheme`, such as `Bearer`.
pub(super) fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, credential) = text.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(credential)
}

/// Where this simulator is reached, by its own `Host`.
pub(super) fn origin(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    format!("http://{}", host.unwrap_or("localhost"))
}

/// Does the work of an endpoint under the faults that are armed for it.
pub(super) async fn serve(
    sandbox: Sandbox,
    operation: &'static str,
    work: impl FnOnce(&Sandbox) -> Answer + Send + 'static,
) -> Response {
    let strike = |kind| sandbox.faults.strike(kind, None, Some(operation));
    if strike(FaultKind::ApiDropBefore).is_some() {
        return drop_connection();
    }
    if let Some(fault) = strike(FaultKind::ApiError) {
        return gateway_page(fault.status);
    }
    let drops = strike(FaultKind::ApiDropAfter).is_some();
    let done = match strike(FaultKind::ApiDelay) {
        None => Some(work(&sandbox)),
        // In a task of its own: a client that hangs up does not stop the operation.
        Some(slow) => {
            let task = tokio::spawn(async move {
                if slow.when == When::Before {
                    tokio::time::sleep(slow.delay()).await;
                }
                let done = work(&sandbox);
                if slow.when == When::After {
                    tokio::time::sleep(slow.delay()).await;
                }
                done
            });
            task.await.ok()
        }
    };
    match done.filter(|_| !drops) {
        Some(answer) => respond(answer),
        None => drop_connection(),
    }
}
