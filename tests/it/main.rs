//! Integration tests: one binary, real PostgreSQL and RabbitMQ, a database for every test.
//! it

mod database;
mod import;
mod log;

#[test]
fn it() {}
