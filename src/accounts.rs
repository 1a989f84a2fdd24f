//! What signing in is made of: passwords, access tokens, sessions, limits on guessing, codes and links.
//! See docs/decisions/0025. Everything belongs to a `CustomerId`; what a customer is, others know.

pub mod codes;
pub mod credentials;
pub mod digests;
pub mod jwt;
pub mod links;
pub mod password;
pub mod sessions;
pub mod throttle;
