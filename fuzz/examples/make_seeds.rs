//! Writes inputs to start from: `cargo run -p decores-fuzz --example make_seeds FOLDER` makes `FOLDER/<target>/seed-NN`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test tool")]

use std::fs;
use std::path::PathBuf;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("name a folder"));
    for (target, inputs) in decores_fuzz::seeds::seeds() {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), input).unwrap();
        }
    }
}
