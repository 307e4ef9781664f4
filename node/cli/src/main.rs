//! decores
fn main() {}
