//! Jobs through the real launcher and engine, sealed by the keys crate.
//!
//! Without the usual harness: the launcher is forked before any thread exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod cases;
mod hostile;
mod node;
mod on_disk;
mod programs;

use node::Node;

/// What is shown, and how.
type Case = (&'static str, fn(&Node));

fn main() {
    let node = Node::start();
    let only = std::env::args().nth(1).filter(|a| !a.starts_with('-')).unwrap_or_default();
    let mut count = 0;
    for (name, case) in
        cases::ALL.iter().chain(hostile::ALL).chain(on_disk::ALL).filter(|(name, _)| name.contains(&only))
    {
        println!("test {name} ...");
        case(&node);
        count += 1;
    }
    println!("test result: ok. {count} passed");
}
