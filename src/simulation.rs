//! What the simulations share: seeds, and the seed that failed.
//!
//! A simulation is a function of its seed. `JANGBU_SEED=17` repeats one, `JANGBU_SEEDS=100000` tries
//! that many of each instead of the usual number. Everything random comes from the seed, so nothing in a
//! simulation may ask for the time, hash with random keys, or run on several threads.
//!
//! Those of one core stand beside it; [`purchase`] puts the checkout, the timers and PortOne together.

mod portone;
mod purchase;
mod shop;
mod timers;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// Runs a simulation once for each of `usual` seeds, and says which one failed.
pub fn each_seed(usual: u64, simulate: impl Fn(u64)) {
    let seeds = seeds(usual, number("JANGBU_SEED"), number("JANGBU_SEEDS"));
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| simulate(seed))) {
            let current = thread::current();
            let name = current.name().unwrap_or("--lib");
            eprintln!("seed {seed} failed; to repeat it: JANGBU_SEED={seed} cargo test --workspace --lib {name}");
            resume_unwind(panic);
        }
    }
}

fn seeds(usual: u64, one: Option<u64>, count: Option<u64>) -> std::ops::Range<u64> {
    match one {
        Some(seed) => seed..seed + 1,
        None => 0..count.unwrap_or(usual),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

#[test]
fn one_seed_or_so_many_or_the_usual_ones() {
    assert_eq!(seeds(10, None, None), 0..10);
    assert_eq!(seeds(10, None, Some(500)), 0..500);
    assert_eq!(seeds(10, Some(17), Some(500)), 17..18);
}
