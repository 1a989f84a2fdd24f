//! Google's people.

use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, Unlinked};
use super::error::Error;
use super::identity::{Tokens, Told};
use super::transport;

#[derive(Deserialize)]
pub(super) struct User {
    sub: String,
    name: Option<String>,
    email: Option<String>,
    /// A boolean, or one as text.
    email_verified: Option<Value>,
    /// The company that has the account in hand.
    hd: Option<String>,
}

impl From<User> for Told {
    fn from(user: User) -> Self {
        let verified = match &user.email_verified {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        // Of any other address, "verified" says that Google saw it once, not whose it is today.
        let in_hand = user.hd.as_ref().is_some_and(|domain| !domain.is_empty())
            || (user.email.as_ref()).is_some_and(|email| email.trim().to_lowercase().ends_with("@gmail.com"));
        Self {
            subject: user.sub,
            email: user.email,
            vouched: verified && in_hand,
            names: [user.name, None],
            phone: None,
        }
    }
}

/// Revoking either token ends the whole link.
pub(super) async fn unlink(client: &Client, tokens: &Tokens) -> Result<Unlinked, Error> {
    let token = tokens.refresh.as_ref().unwrap_or(&tokens.access);
    let url = format!("{}/revoke", client.config.bases.tokens);
    let request = client.transport.post(&url).form(&[("token", token.expose())]);
    match transport::send(request).await {
        Ok(_) => Ok(Unlinked::Now),
        Err(error) if error.refusal().is_some_and(|no| no.code == "invalid_token") => Ok(Unlinked::Before),
        Err(error) => Err(error),
    }
}
