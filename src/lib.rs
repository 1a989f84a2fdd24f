//! Jangbu

pub mod config;
pub mod embedded;
pub mod telemetry;
