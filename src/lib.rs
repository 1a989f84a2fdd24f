//! Jangbu

pub mod portone;
