//! decores-engine-wasm
fn main() {}
