//! What `PortOne` posts to the shop: who signed it, and which payment it is about.
//!
//! Verify the raw bytes first, then parse. What is parsed is a hint to look at `PortOne`, never a fact.

mod notice;

pub use crate::standard_webhooks::{SecretError, SignatureError, SignatureHeaders, TOLERANCE, Verifier, sign};
pub use notice::{Notice, ParseError, parse};
