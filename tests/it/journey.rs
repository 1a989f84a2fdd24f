//! The whole journey, as past sales and as live ones: whoever books it must come to its true totals.

pub mod broker;
mod live;
mod past;
pub mod truth;
