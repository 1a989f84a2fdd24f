//! What was released stays readable, and stays what it was.

mod example;
mod golden;
mod pins;
mod schemas;
mod validator;
