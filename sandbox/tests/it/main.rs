//! The simulator over HTTP, as a shop and as a test see it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod api;
mod faults;
mod idempotency;
mod oauth;
mod openapi;
mod schema;
mod support;
mod webhooks;
mod window;
