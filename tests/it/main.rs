//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.

mod analysts;
mod as_of;
mod checkout;
mod cli;
mod database;
mod docs;
mod executor;
mod fanout;
mod feed;
mod http_edge;
mod http_payments;
mod http_refunds;
mod http_shopping;
mod import;
mod invariants;
mod journey;
mod log;
mod personal_data;
mod processes;
mod proxy;
mod rebuild;
mod shop;
mod store;
mod upkeep;
mod web;
mod webhooks_out;
