//! Keyed hashes of what must be found or compared again, but not read: a phone, an address, six digits.

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Makes HMAC-SHA256 hashes under a key that is derived from the master key, so that a copy of the
/// tables alone is not enough to try phones or codes.
#[derive(Clone)]
pub struct Digester(Hmac<Sha256>);

impl Digester {
    /// Derives the key from the master key.
    pub fn new(master_key: &[u8; 32]) -> Self {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, master_key)
            .expand(b"jangbu account digests v1", &mut key)
            .expect("32 bytes can be derived");
        Self(<Hmac<Sha256> as Mac>::new_from_slice(&key).expect("any key length will do"))
    }

    /// The hash of some parts, for one purpose. Each part is written with its length, so that no two
    /// lists of parts are the same bytes.
    pub fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&u64::try_from(part.len()).expect("a length fits").to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Digester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digester([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_purposes_cannot_be_taken_for_each_other() {
        let digester = Digester::new(&[7; 32]);
        let hash = digester.digest("code", &[b"ab", b"c"]);
        assert_eq!(hash, digester.digest("code", &[b"ab", b"c"]));
        assert_ne!(hash, digester.digest("code", &[b"a", b"bc"]));
        assert_ne!(hash, digester.digest("code", &[b"abc"]));
        assert_ne!(hash, digester.digest("link", &[b"ab", b"c"]));
        assert_ne!(hash, Digester::new(&[8; 32]).digest("code", &[b"ab", b"c"]));
    }
}
