//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod checkout;
mod database;
mod executor;
mod fanout;
mod http_edge;
mod http_payments;
mod http_shopping;
mod import;
mod import;
mod invariants;
mod log;
mod proxy;
mod shop;
mod store;
mod web;

