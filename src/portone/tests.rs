//! The client against a `PortOne` of its own in the same process, over real connections that also break.

mod cancelling;
mod changes;
mod fake;
mod reading;
mod rereading;
