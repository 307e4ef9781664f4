//! A disk that lies about the log: the node does not start on it, says where and what helps, and starts once mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_tests::cli::Cli;
use decores_tests::node::Node;
use decores_tests::programs::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Starts the node's program where it is expected to end by itself.
fn run(node: &Node, command: &str) -> Output {
    Command::new(program("decoresd")).arg(command).arg("--home").arg(node.home()).output().unwrap()
}

fn refusal(node: &Node) -> String {
    let output = run(node, "run");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "it never said how to log in");
    String::from_utf8(output.stderr).unwrap()
}

/// The file in a folder of tiles that ends the log: the only one in a young log, or its widest partial form.
fn newest(folder: &Path) -> PathBuf {
    let width = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u32>().unwrap();
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.max_by_key(width).unwrap()
}

fn flip(path: &Path, at: usize) -> Vec<u8> {
    let good = fs::read(path).unwrap();
    let mut bytes = good.clone();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    good
}

#[test]
fn a_node_does_not_start_on_a_damaged_log_says_where_and_starts_once_it_is_mended() {
    let mut node = Node::start();
    let cli = Cli::logged_in(&node, node.operator().key());
    node.stop();
    let log = node.home().join("log");
    let checkpoint = fs::read(log.join("checkpoint")).unwrap();

    for (folder, at, index) in [("tile/entries/000.p", 20, 0), ("tile/0/000.p", 33, 1)] {
        let path = newest(&log.join(folder));
        let good = flip(&path, at);
        let told = refusal(&node);
        let named = path.strip_prefix(&log).unwrap().display().to_string();
        assert!(told.contains(&format!("`{named}` is missing or damaged, at entry {index}\n\nhint: run `")), "{told}");
        assert_eq!(fs::read(log.join("checkpoint")).unwrap(), checkpoint, "nothing was signed");

        let mended = run(&node, "mend-log");
        let text = String::from_utf8(mended.stdout).unwrap();
        let expected = format!("mended   {named}\n1 mended; the stored entries have the signed root\n");
        assert_eq!((mended.status.code(), text), (Some(0), expected));
        assert_eq!(fs::read(&path).unwrap(), good);
    }
    assert_eq!(fs::read(log.join("checkpoint")).unwrap(), checkpoint, "mending signs nothing");

    let good = flip(&log.join("checkpoint"), 30);
    let told = refusal(&node);
    assert!(told.contains("`checkpoint` is damaged") && told.contains("hint: restore"), "{told}");
    assert_eq!(run(&node, "mend-log").status.code(), Some(1), "no checkpoint is made anew");
    fs::write(log.join("checkpoint"), good).unwrap();

    node.start_again();
    let busy = run(&node, "mend-log");
    assert_eq!(busy.status.code(), Some(1));
    assert!(String::from_utf8(busy.stderr).unwrap().contains("stop it"), "a log that is being written is not mended");
    cli.run(["log", "check"]).is(0);
}
