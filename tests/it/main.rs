//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.
//! it

mod checkout;
mod database;
mod fanout;
mod log;
mod shop;

#[test]
fn it() {}
