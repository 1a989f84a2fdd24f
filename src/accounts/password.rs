//! Passwords: what may become one, and their argon2id hashes, made and checked by a few threads.
//!
//! A hash takes 19 MiB and tens of milliseconds on purpose. A flood of sign-ins must not take all cores
//! or all memory, so few are made at once, few wait, and whoever comes beyond is told to come again.

mod common;
mod rules;

use std::{sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version,
    password_hash::{PasswordHasher as _, SaltString},
};
use tokio::{sync::Semaphore, time::timeout};

use crate::clock::Surroundings;

pub use rules::{About, LENGTH_MAX, LENGTH_MIN, NewPassword, Weakness, check};

/// The cost of a hash: OWASP's recommendation for argon2id (Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes of the random salt.
const SALT: usize = 16;
/// Passwords waiting for each thread. More than that wait longer than people do.
const WAITING_PER_THREAD: usize = 16;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(3);

/// Too many passwords are waiting. An answer like 503 with `Retry-After`: it says nothing about the
/// password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked; try again in {retry_after_seconds} s")]
pub struct Busy {
    /// When there may be room.
    pub retry_after_seconds: u64,
}

const BUSY: Busy = Busy { retry_after_seconds: 2 };

/// What a password was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wrong, or there is no such account.
    Wrong,
    /// Right.
    Right {
        /// The hash was made with other parameters than today's: make it anew while the password is at hand.
        outdated: bool,
    },
}

/// Hashes and checks passwords. Clones share the threads.
#[derive(Clone)]
pub struct Passwords(Arc<Shared>);

struct Shared {
    argon2: Argon2<'static>,
    params: Params,
    /// Whoever is here waits or is at work.
    admitted: Arc<Semaphore>,
    /// Whoever is here is at work.
    working: Arc<Semaphore>,
    /// The hash of a password that nobody knows, for accounts that are not there.
    nobody: String,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

impl Passwords {
    /// With so many threads (at least one) at work at a time. Makes one hash, so it takes a moment.
    pub fn new(threads: usize, surroundings: &Surroundings) -> Self {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("OWASP's parameters are in argon2's bounds");
        Self::with_params(threads, params, surroundings)
    }

    fn with_params(threads: usize, params: Params, surroundings: &Surroundings) -> Self {
        let threads = threads.max(1);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let unknown: [u8; 32] = surroundings.bytes();
        let nobody = hash(&argon2, &unknown, &surroundings.bytes());
        Self(Arc::new(Shared {
            argon2,
            params,
            admitted: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_THREAD))),
            working: Arc::new(Semaphore::new(threads)),
            nobody,
        }))
    }

    /// The PHC string (`$argon2id$v=19$…`) of a new password.
    pub async fn hash(&self, surroundings: &Surroundings, password: &NewPassword) -> Result<String, Busy> {
        self.hash_text(surroundings, password.expose().to_owned()).await
    }

    /// The same of a password that was right just now, after [`Verdict::Right`] said that its hash is
    /// outdated. Today's rules for new passwords are not its rules.
    pub async fn hash_again(&self, surroundings: &Surroundings, password: &str) -> Result<String, Busy> {
        self.hash_text(surroundings, rules::normalised(password)).await
    }

    async fn hash_text(&self, surroundings: &Surroundings, password: String) -> Result<String, Busy> {
        let salt: [u8; SALT] = surroundings.bytes();
        self.work(move |shared| hash(&shared.argon2, password.as_bytes(), &salt))
            .await
    }

    /// Checks a password against the PHC string of its account, or against nothing where there is no such
    /// account: that takes the same time. A hash with other parameters takes the time of those, until it
    /// is made anew.
    pub async fn verify(&self, password: &str, stored: Option<String>) -> Result<Verdict, Busy> {
        // Whoever sends a book learns from the time that it was too long, and nothing about the account.
        let password = (password.len() <= rules::BYTES_MAX).then(|| rules::normalised(password));
        self.work(move |shared| {
            let stored = stored.filter(|_| password.is_some());
            let known = stored.is_some();
            let phc = stored.as_deref().unwrap_or(&shared.nobody);
            let Ok(parsed) = PasswordHash::new(phc) else {
                tracing::error!("a stored password hash is not a PHC string; nobody can sign in with it");
                return Verdict::Wrong;
            };
            let password = password.unwrap_or_default();
            let right = shared.argon2.verify_password(password.as_bytes(), &parsed).is_ok();
            if known && right {
                Verdict::Right {
                    outdated: shared.is_outdated(&parsed),
                }
            } else {
                Verdict::Wrong
            }
        })
        .await
    }

    /// Does something in turn. Once begun it is finished and counted, even if nobody waits any more:
    /// clients that hang up must not make room for others while the work goes on.
    async fn work<T: Send + 'static>(&self, job: impl FnOnce(&Shared) -> T + Send + 'static) -> Result<T, Busy> {
        let admitted = Arc::clone(&self.0.admitted).try_acquire_owned().map_err(|_| BUSY)?;
        let working = timeout(PATIENCE, Arc::clone(&self.0.working).acquire_owned())
            .await
            .map_err(|_| BUSY)?
            .expect("the semaphore is never closed");
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            let result = job(&shared);
            drop((working, admitted));
            result
        });
        // It can only fail by a panic, which hashing does not, or with the runtime.
        done.await.map_err(|_| BUSY)
    }
}

impl Shared {
    fn is_outdated(&self, hash: &PasswordHash<'_>) -> bool {
        let current = Params::try_from(hash).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
        });
        !current || hash.algorithm != Algorithm::Argon2id.ident() || hash.version != Some(Version::V0x13.into())
    }
}

fn hash(argon2: &Argon2<'_>, password: &[u8], salt: &[u8; SALT]) -> String {
    let salt = SaltString::encode_b64(salt).expect("sixteen bytes are a salt");
    argon2
        .hash_password(password, &salt)
        .expect("the parameters and the length were checked")
        .to_string()
}

#[cfg(test)]
mod tests;
