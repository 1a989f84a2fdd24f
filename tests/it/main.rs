//! it
#[test]
fn it() {}
