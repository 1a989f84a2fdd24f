//! Jangbu

pub mod config;
pub mod embedded;
