//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod checkout;
mod cli;
mod database;
mod docs;
mod executor;
mod fanout;
mod http_edge;
mod http_payments;
mod http_shopping;
mod import;
mod invariants;
mod journey;
mod log;
mod personal_data;
mod processes;
mod proxy;
mod shop;
mod store;
mod web;
