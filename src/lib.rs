//! Jangbu: an event-sourced commerce backend for Korean online shops. This crate is the shell around
//! the pure parts: HTTP, the executor, the log, fan-out, timers and the command line.

pub mod accounts;
pub mod analysts;
pub mod as_of;
pub mod broker;
pub mod checkout;
pub mod clock;
pub mod config;
pub mod consent;
pub mod demo;
pub mod doctor;
pub mod embedded;
pub mod executor;
pub mod explain;
pub mod feed;
mod hex;
pub mod http;
pub mod import;
pub mod ip_hash;
pub mod leases;
pub mod log;
pub mod mail;
pub mod members;
pub mod node;
pub mod oauth;
pub mod parking;
pub mod payments;
pub mod portone;
pub mod processes;
pub mod readers;
pub mod rebuild;
pub mod relay;
pub mod replay;
pub mod sealing;
#[cfg(test)]
mod simulation;
pub mod standard_webhooks;
pub mod store;
pub mod telemetry;
pub mod timers;
pub mod webhooks;
pub mod workers;
