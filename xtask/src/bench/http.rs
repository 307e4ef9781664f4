//! New connections and requests on kept ones, beside a bare rustls and axum hello.

use super::node::{self, Node};
use super::{Options, Report, Spread, Table, example, figures, number};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Clients at a time.
const TASKS: &str = "16";

/// A server of the example's; ended on drop.
struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(program: &PathBuf, arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().context("the server has no standard output")?;
        let address = BufReader::new(stdout).lines().next().context("the server did not say where it is")??;
        Ok(Self { process, address })
    }
}

/// Who is asked for what.
struct Target<'a> {
    name: &'static str,
    address: &'a str,
    path: &'static str,
    api_key: Option<&'a str>,
    connections: Vec<f64>,
    requests: Vec<f64>,
}

impl<'a> Target<'a> {
    const fn new(name: &'static str, address: &'a str, path: &'static str, api_key: Option<&'a str>) -> Self {
        Self { name, address, path, api_key, connections: Vec::new(), requests: Vec::new() }
    }

    fn load(&self, program: &PathBuf, mode: &str, seconds: &str) -> Result<f64> {
        let mut command = Command::new(program);
        command.args(["load", self.address, self.path, mode, TASKS, seconds]).args(self.api_key);
        number(figures(&mut command)?.first().context("the client gave no figures")?, "perSecond")
    }
}

pub(super) fn run(options: &Options) -> Result<Report> {
    let seconds = if options.quick { "0.5" } else { "3" };
    node::build()?;
    let program: PathBuf = example("decores-http", "bench_http")?.get_program().into();
    let bare = Server::start(&program, &["serve"])?;
    let server = Server::start(&program, &["serve", "all"])?;
    let node = Node::start()?;
    let address = node.url.trim_start_matches("https://");
    let key = Some(node.api_key.as_str());
    let mut targets = [
        Target::new("bare rustls and axum, hello", &bare.address, "/", None),
        Target::new("the node's server, hello", &server.address, "/", None),
        Target::new("node, `/healthz`", address, "/healthz", None),
        Target::new("node, `/v1/log/checkpoint`, signed in", address, "/v1/log/checkpoint", key),
    ];
    // In turns, so that a busy minute of the machine is everybody's.
    for _ in 0..options.runs {
        for target in &mut targets {
            target.connections.push(target.load(&program, "connect", seconds)?);
            target.requests.push(target.load(&program, "keep", seconds)?);
        }
    }
    let columns = [
        "16 clients",
        "new TLS connections a second",
        "worst",
        "to bare",
        "requests a second, kept",
        "worst",
        "to bare",
    ];
    let mut table = Table::new(&columns);
    let mut first = None;
    for target in targets {
        let (connections, requests) = (Spread::of_speeds(target.connections), Spread::of_speeds(target.requests));
        let (bare_connections, bare_requests) = *first.get_or_insert((connections.median, requests.median));
        table.row([
            target.name.into(),
            connections.median.into(),
            connections.worst.into(),
            (connections.median / bare_connections).into(),
            requests.median.into(),
            requests.worst.into(),
            (requests.median / bare_requests).into(),
        ]);
    }
    Ok(Report { tables: vec![table], ..Report::default() })
}
