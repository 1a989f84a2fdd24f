//! Seeded randomness: ids, account numbers, shuffles and jitter. One seed gives one sequence of values.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore, SeedableRng};

/// A random source that threads share; the lock is held for a few nanoseconds.
#[derive(Debug)]
pub(crate) struct Random(Mutex<StdRng>);

impl Random {
    /// The same sequence for the same seed; without one, another each time.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A version 4 UUID, hyphenated.
    pub(crate) fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.with(|rng| rng.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// 256 random bits in hexadecimal, for tokens.
    pub(crate) fn token(&self) -> String {
        let mut bytes = [0; 32];
        self.with(|rng| rng.fill_bytes(&mut bytes));
        bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
    }

    /// So many random decimal digits.
    pub(crate) fn digits(&self, count: usize) -> String {
        self.with(|rng| {
            (0..count)
                .map(|_| char::from(b'0' + rng.random_range(0..10_u8)))
                .collect()
        })
    }

    /// A value from 0 to `most`, both possible.
    pub(crate) fn up_to(&self, most: u64) -> u64 {
        self.with(|rng| rng.random_range(0..=most))
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        self.with(|rng| items.shuffle(rng));
    }
}
