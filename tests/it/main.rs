//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod database;
mod log;
