//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod checkout;
mod database;
mod executor;
mod fanout;
mod import;
mod http_edge;
mod http_payments;
mod http_shopping;
mod invariants;
mod log;
mod processes;
mod proxy;
mod shop;
mod store;
mod web;

#[test]
fn it() {}
