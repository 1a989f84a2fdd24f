//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod checkout;
mod database;
mod executor;
mod fanout;
mod import;
mod invariants;
mod log;
mod proxy;
mod shop;
mod store;

#[test]
fn it() {}
