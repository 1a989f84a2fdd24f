//! One request to a provider: bounded in time and size, and never led elsewhere.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, redirect::Policy};

use super::error::{Error, Unreachable};

/// Far above any answer; stops a server that never stops sending.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Connections to one provider. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    http: reqwest::Client,
}

impl Transport {
    /// `local` goes past proxies.
    pub fn try_new(connect_timeout: Duration, timeout: Duration, local: bool) -> reqwest::Result<Self> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("jangbu/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .timeout(timeout)
            // None of these endpoints redirects; whatever does must not be sent secrets.
            .redirect(Policy::none());
        if local {
            http = http.no_proxy();
        }
        Ok(Self { http: http.build()? })
    }

    pub fn get(&self, url: &str) -> RequestBuilder {
        self.http.get(url)
    }

    pub fn post(&self, url: &str) -> RequestBuilder {
        self.http.post(url)
    }
}

/// The body of a success.
pub(super) async fn send(request: RequestBuilder) -> Result<Vec<u8>, Error> {
    let response = request.send().await.map_err(|error| unreachable(&error))?;
    let status = response.status().as_u16();
    Error::sort(status, read(response).await?)
}

/// Reading harms nothing, and the code is spent already: one more try spares the person another login.
pub(super) async fn send_twice(request: impl Fn() -> RequestBuilder) -> Result<Vec<u8>, Error> {
    match send(request()).await {
        Err(error) if error.is_transient() => {
            tracing::debug!(%error, "a login provider did not answer, trying again");
            send(request()).await
        }
        done => done,
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Error::Unreadable("answer"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unreachable(error: &reqwest::Error) -> Error {
    Error::Unreachable(if error.is_connect() {
        Unreachable::Connect
    } else if error.is_timeout() {
        Unreachable::Timeout
    } else {
        Unreachable::Dropped
    })
}
