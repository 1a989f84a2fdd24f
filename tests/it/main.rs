//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod database;
mod executor;
mod invariants;
mod log;
mod proxy;
mod store;
