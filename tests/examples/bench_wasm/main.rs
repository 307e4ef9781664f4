//! Jobs of a program that is kept compiled: through a node, and through the same launcher and engine started by hand.
//! `bench_wasm --jobs N --parallel N --rounds N`; one JSON object a round, and one of what a job's syncs come to.
//! `bench_wasm --write FILE` writes the program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark"
)]

mod bare;
mod node;
mod syncs;
mod wire;

use decores_tests::node::{Node, Settings};
use serde_json::json;

/// One number of the command line.
fn number(name: &str, default: usize) -> usize {
    let words: Vec<String> = std::env::args().collect();
    let at = words.iter().position(|word| word == name);
    at.map_or(default, |at| words[at + 1].parse().unwrap())
}

fn main() {
    let program = decores_tests::wasm::cat();
    if let [_, word, path] = std::env::args().collect::<Vec<_>>().as_slice()
        && word == "--write"
    {
        return std::fs::write(path, program).unwrap();
    }
    // Before there is any thread.
    let bare = bare::Bare::start();
    let (jobs, rounds, parallel) = (number("--jobs", 40), number("--rounds", 5), number("--parallel", 4));
    let kept = bare.keep(&program);
    let slots = u32::try_from(parallel).unwrap();
    let node = Node::with(&Settings { slots, ..Settings::default() });
    for _ in 0..rounds {
        let sync = syncs::cost(&node.home());
        let [launched, locked, spoken, over] = bare.one_by_one(&program, &kept, jobs);
        let through = node::one_by_one(&node, &program, jobs);
        let bare_rate = bare.at_once(&program, &kept, jobs * 2, parallel);
        let rate = node::at_once(&node, &program, jobs * 2, parallel);
        println!(
            "{}",
            json!({
                "syncMs": sync, "bareLaunched": launched, "bareLocked": locked, "bareSpoken": spoken, "bareOver": over,
                "bareRate": bare_rate, "node": through.p50, "nodeP99": through.p99, "answers": through.answers,
                "nodeRate": rate,
            })
        );
    }
    println!("{}", json!({ "syncs": syncs::counted(&node, &program, 16) }));
}

/// The value at this part of a list.
fn at(mut ms: Vec<f64>, percent: usize) -> f64 {
    ms.sort_by(f64::total_cmp);
    ms[(ms.len() * percent / 100).min(ms.len() - 1)]
}
