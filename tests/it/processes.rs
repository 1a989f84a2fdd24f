//! The program itself, as separate processes: killed, cut off from its broker and its database, and
//! started again while a shop sells. Afterwards the log, the lists and PortOne's books must agree.
//!
//! Longer runs: `JANGBU_TEST_BASKETS` (60; at most 609), `JANGBU_TEST_SALES` (flash sales in a row; 1, as
//! five hundred buyers keep a debug build busy for a while), `JANGBU_TEST_SEED` (which moments, which
//! victims), `JANGBU_TEST_PROGRAM` (another build of the program, say `target/release/jangbu`),
//! `JANGBU_TEST_BROKER_CONTROL` (`rabbitmqctl`: the broker itself is stopped, not only the way to it),
//! `JANGBU_TEST_TORTURE_SECONDS` (10; how long relays and workers are tormented).

mod asking;
mod baskets;
mod child;
mod flash_sale;
mod fleet;
mod guests;
mod kills;
mod nodes;
mod queues;
mod shop;
mod sound;
mod source;
mod takeover;
mod torture;
mod without;

use std::sync::Arc;

use jangbu::clock::{SeededIds, Surroundings, SystemClock};

/// A number that the environment may change.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} must be a number"))
    })
}

/// The source of everything that is random in a run; it is printed, so that the run can be had again.
fn dice(name: &str) -> Surroundings {
    let seed = setting("JANGBU_TEST_SEED", 20_170_301);
    println!("{name}: seed {seed}");
    Surroundings {
        clock: Arc::new(SystemClock),
        ids: Arc::new(SeededIds::new(seed)),
    }
}
