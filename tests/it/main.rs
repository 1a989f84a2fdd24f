//! it
#[test] fn it() {}
