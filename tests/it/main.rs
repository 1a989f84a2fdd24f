//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod database;
mod invariants;
mod log;
mod proxy;
