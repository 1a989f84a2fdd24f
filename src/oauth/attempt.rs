//! What ties the browser that comes back to the one that was sent.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{clock::Surroundings, config::Secret};

/// One try to log in. It belongs to one browser session, for one use within minutes; whoever keeps it sees to both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Comes back with the browser: 256 random bits.
    pub state: Secret,
    /// Comes back in the `id_token`: 256 random bits.
    pub nonce: Secret,
    /// Goes out with the code (RFC 7636): 43 characters, 256 random bits.
    pub verifier: Secret,
}

impl Attempt {
    /// A new one.
    pub fn new(surroundings: &Surroundings) -> Self {
        let random = || Secret::new(URL_SAFE_NO_PAD.encode(surroundings.bytes::<32>()));
        Self {
            state: random(),
            nonce: random(),
            verifier: random(),
        }
    }

    /// The verifier's hash, by S256.
    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose()))
    }

    /// Whether this is the attempt that a callback with `state` belongs to; takes the same time for all of a length.
    pub fn is_answered_by(&self, state: &str) -> bool {
        state.as_bytes().ct_eq(self.state.expose().as_bytes()).into()
    }
}
