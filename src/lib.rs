//! Jangbu

pub mod config;
