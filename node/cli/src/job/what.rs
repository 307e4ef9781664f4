//! What to run: program, input, limits, demands.

use super::program::{ImageOptions, Program};
use crate::failure::Failure;
use crate::units::{parse_size, parse_span};
use clap::Args;
use decores_audit::verify::Require;
use decores_client::{JobInput, Source, Terms, input};
use decores_types::bundle::RelPath;
use decores_types::{Limits, Protection};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most of standard input that is held in memory.
const MAX_STDIN: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct What {
    /// The program: a WebAssembly module (WASI preview 1), or an image: oci:FOLDER[:TAG], oci-archive:FILE[:TAG],
    /// docker-archive:FILE[:NAME:TAG], docker://HOST/NAME[:TAG|@DIGEST]
    pub(super) program: PathBuf,
    /// Its input: a file becomes standard input, a folder its files, `-` is our standard input
    #[arg(short, long, value_name = "PATH")]
    input: Vec<PathBuf>,
    /// One input file, under the name that the program sees
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_file)]
    file: Vec<(RelPath, PathBuf)>,
    /// An argument of the program; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    arg: Vec<String>,
    /// A variable of its environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// Memory of the program, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit_memory: Option<u64>,
    /// Time it may run, such as 60s
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    limit_time: Option<Duration>,
    /// Output it may write, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit_output: Option<u64>,
    /// Room for its files, in and out, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit_scratch: Option<u64>,
    /// Let the node keep the compiled program for our next jobs, for so long, such as 1h
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    cache: Option<Duration>,
    /// What the receipt must show: protection=LEVEL, image=DIGEST, or a claim; may be repeated
    #[arg(long, value_name = "CLAIM")]
    pub(super) require: Vec<Require>,
    #[command(flatten)]
    pub(super) image: ImageOptions,
    /// Arguments of the program, after `--`; those of an image take the place of its own
    #[arg(last = true)]
    rest: Vec<String>,
}

fn parse_file(text: &str) -> Result<(RelPath, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("not NAME=PATH")?;
    Ok((RelPath::parse(name).map_err(|e| e.to_string())?, PathBuf::from(path)))
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not NAME=VALUE".to_owned()),
    }
}

impl What {
    /// Protection and limits, for an input of so many bytes.
    pub(super) fn terms(&self, program: &Program, input: u64) -> Result<Terms, Failure> {
        let protection = self.require.iter().filter_map(|r| match r {
            Require::Protection(level) => Some(*level),
            Require::Claim(_) | Require::Image(_) => None,
        });
        let weakest = if program.is_image() { Protection::Container } else { Protection::Process };
        let default = Limits::default();
        let (memory_bytes, scratch_bytes) = program.room(self.limit_memory, self.limit_scratch, input)?;
        let wall_ms = self.limit_time.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
        Ok(Terms {
            protection: protection.max().unwrap_or(weakest),
            limits: Limits {
                memory_bytes,
                wall_ms: wall_ms.unwrap_or(default.wall_ms),
                output_bytes: self.limit_output.unwrap_or(default.output_bytes),
                scratch_bytes,
                ..default
            },
            cache_seconds: self.cache.map_or(0, |t| u32::try_from(t.as_secs()).unwrap_or(u32::MAX)),
        })
    }

    /// Program and input, found but for standard input not read.
    pub(super) fn input(&self, program: &Program) -> Result<JobInput, Failure> {
        let mut stdin = None;
        let mut files = BTreeMap::new();
        for path in &self.input {
            if path == Path::new("-") {
                set_stdin(&mut stdin, spool(io::stdin().lock())?)?;
            } else if std::fs::metadata(path).map_err(|e| Failure::file("read", path, e))?.is_dir() {
                for (name, source) in input::folder(path)? {
                    add(&mut files, name, source)?;
                }
            } else {
                set_stdin(&mut stdin, Source::File(path.clone()))?;
            }
        }
        for (name, path) in &self.file {
            add(&mut files, name.clone(), Source::File(path.clone()))?;
        }
        let mut env = BTreeMap::new();
        for (name, value) in &self.env {
            if env.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::usage(format!("the variable `{name}` is given twice")));
            }
        }
        Ok(JobInput {
            program: program.source(),
            args: self.arg.iter().chain(&self.rest).cloned().collect(),
            env,
            stdin: stdin.unwrap_or_else(Source::empty),
            files,
        })
    }
}

fn set_stdin(stdin: &mut Option<Source>, source: Source) -> Result<(), Failure> {
    match stdin.replace(source) {
        None => Ok(()),
        Some(_) => {
            Err(Failure::usage("two inputs would both be standard input").hint("give a folder, or --file NAME=PATH"))
        }
    }
}

fn add(files: &mut BTreeMap<RelPath, Source>, name: RelPath, source: Source) -> Result<(), Failure> {
    match files.insert(name.clone(), source) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("two inputs are both named `{name}`"))),
    }
}

/// Holds what cannot be read twice.
fn spool(from: impl Read) -> Result<Source, Failure> {
    let mut bytes = Vec::new();
    from.take(MAX_STDIN + 1).read_to_end(&mut bytes).map_err(Failure::usage)?;
    if bytes.len() as u64 > MAX_STDIN {
        let text = format!("standard input has more than {} MiB", MAX_STDIN >> 20);
        return Err(Failure::usage(text).hint("write it to a file, and give that"));
    }
    Ok(Source::Bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        what: What,
    }

    fn module() -> Program {
        Program::Module("p.wasm".into())
    }

    fn what(line: &str) -> What {
        Line::try_parse_from(line.split(' ')).unwrap().what
    }

    #[test]
    fn limits_and_protection_come_from_the_line() {
        let what = what("x p.wasm --limit-memory 1MiB --limit-time 2s --require protection=vm --require wipe");
        let terms = what.terms(&module(), 1).unwrap();
        assert_eq!(terms.protection, Protection::Vm);
        assert_eq!((terms.limits.memory_bytes, terms.limits.wall_ms), (1 << 20, 2_000));
        assert_eq!(terms.limits.output_bytes, Limits::default().output_bytes);
    }

    #[test]
    fn arguments_keep_their_order() {
        let input = what("x p.wasm --arg a --arg -b -- --c d").input(&module()).unwrap();
        assert_eq!(input.args, ["a", "-b", "--c", "d"]);
    }

    #[test]
    fn a_file_is_standard_input_and_a_folder_is_files() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let tree = folder.path().join("tree");
        std::fs::write(&data, "x").unwrap();
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("a"), "y").unwrap();
        let (data, tree) = (data.display(), tree.display());
        let input = what(&format!("x p.wasm -i {data} -i {tree} --file b/c={data}")).input(&module()).unwrap();
        assert!(matches!(input.stdin, Source::File(_)));
        assert_eq!(input.files.keys().map(RelPath::as_str).collect::<Vec<_>>(), ["a", "b/c"]);
        assert!(what(&format!("x p.wasm -i {data} -i {data}")).input(&module()).is_err());
        assert!(what(&format!("x p.wasm -i {tree} --file a={data}")).input(&module()).is_err());
        assert!(what("x p.wasm -i /nowhere").input(&module()).is_err());
    }

    #[test]
    fn variables_given_twice_are_refused() {
        assert!(what("x p.wasm --env A=1 --env A=2").input(&module()).is_err());
    }
}
