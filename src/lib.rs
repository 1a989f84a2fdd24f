//! Jangbu

pub mod broker;
pub mod feed;
pub mod leases;
pub mod relay;
pub mod workers;
