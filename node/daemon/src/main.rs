//! decoresd
fn main() {}
