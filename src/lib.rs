//! Jangbu: an event-sourced commerce backend for Korean online shops. This crate is the shell around
//! the pure parts: HTTP, the executor, the log, fan-out, timers and the command line.

pub mod checkout;
pub mod clock;
pub mod config;
pub mod embedded;
pub mod executor;
pub mod import;
pub mod log;
pub mod payments;
pub mod portone;
pub mod processes;
pub mod sealing;
pub mod telemetry;
pub mod timers;
