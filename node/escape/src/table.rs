//! From what was found to a row of the table, and the table itself.

use crate::probe::{End, Kind, Probe};
use crate::rivals::is_meant;
use clap::ValueEnum as _;
use decores_sandbox::Hole;
use serde::Serialize;
use std::fmt::Write as _;

/// What became of one probe in a jail.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) probe: String,
    pub(crate) end: End,
    /// Whether the kernel ended something of that jail for want of memory.
    pub(crate) out_of_memory: bool,
}

/// The engine that a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    Wasm,
    Container,
    /// bubblewrap, beside ours.
    Bwrap,
    /// runc, beside ours.
    Runc,
    /// crun, beside ours.
    Crun,
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The probe was stopped, and outside it was not.
    Contained,
    /// It got through.
    Escaped,
    /// Root outside of all jails is refused it as well: this machine has no such thing.
    Absent,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) engine: Engine,
    pub(crate) probe: &'static str,
    /// What it tries.
    pub(crate) tries: &'static str,
    /// What stops it, the first to meet first; each of them would be enough.
    pub(crate) mechanism: String,
    pub(crate) result: Outcome,
    /// What the kernel answered.
    pub(crate) detail: String,
    /// Of what is absent: the error that root was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errno: Option<String>,
}

impl Engine {
    /// Those of this house.
    pub(crate) const OURS: [Self; 2] = [Self::Wasm, Self::Container];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Container => "container",
            Self::Bwrap => "bwrap",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// Whether a probe is run in it.
    pub(crate) fn runs(self, probe: &Probe) -> bool {
        match self {
            Self::Wasm | Self::Container => !self.stops(probe).is_empty(),
            Self::Bwrap | Self::Runc | Self::Crun => is_meant(probe),
        }
    }

    /// The mechanisms that stop a probe in this engine; of others' nothing is said.
    pub(crate) const fn stops(self, probe: &Probe) -> &'static [Hole] {
        match self {
            Self::Wasm => probe.stops.wasm,
            Self::Container => probe.stops.container,
            Self::Bwrap | Self::Runc | Self::Crun => &[],
        }
    }
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Contained => "contained",
            Self::Escaped => "escaped",
            Self::Absent => "absent",
        }
    }
}

/// Judges one probe by what became of it in the jail and outside.
///
/// # Errors
/// Why it cannot be told: then it is not said to be contained.
pub(crate) fn judge(engine: Engine, probe: &Probe, inside: &Finding, outside: &End, root: bool) -> Result<Row, String> {
    let stops = engine.stops(probe);
    let mechanism = stops.iter().map(|hole| hole.as_str()).collect::<Vec<_>>().join(", ");
    let row =
        |result, detail| Row { engine, probe: probe.name, tries: probe.tries, mechanism, result, detail, errno: None };
    let contained = match &inside.end {
        End::Through { what } => return Ok(row(Outcome::Escaped, what.clone())),
        End::Unclear { why } => return Err(why.clone()),
        End::Killed { signal, .. } if !Engine::OURS.contains(&engine) => format!("ended by signal {signal}"),
        End::Refused { step, errno } if !Engine::OURS.contains(&engine) => format!("{} at {step}", errno_name(*errno)),
        End::Killed { signal, dumped } => killed(probe, stops, *signal, *dumped, inside.out_of_memory)?,
        End::Refused { step, errno } => refused(stops, step, *errno)?,
    };
    match outside {
        End::Through { .. } => Ok(row(Outcome::Contained, contained)),
        // Whether root may cannot be told here; what was seen inside still holds.
        End::Refused { .. } if !root => {
            Ok(row(Outcome::Contained, format!("{contained}; outside refused as well, without root")))
        }
        End::Refused { step, errno } => {
            let detail = format!("as root outside: {} at {step}", errno_name(*errno));
            Ok(Row { errno: Some(errno_name(*errno)), ..row(Outcome::Absent, detail) })
        }
        End::Killed { dumped: false, .. } if probe.kind == Kind::Dumped => {
            Ok(row(Outcome::Absent, "as root outside: no dump either".to_owned()))
        }
        other => Err(format!("it could not be tried outside: {other:?}")),
    }
}

fn killed(probe: &Probe, stops: &[Hole], signal: i32, dumped: bool, out_of_memory: bool) -> Result<String, String> {
    match (signal, probe.kind) {
        (libc::SIGSYS, _) if stops.contains(&Hole::Seccomp) => Ok("ended by the filter".to_owned()),
        (_, Kind::Signalled(expected)) if expected == signal => Ok(format!("ended by signal {signal}")),
        (libc::SIGABRT, Kind::Dumped) if !dumped => Ok("ended without a dump".to_owned()),
        (libc::SIGKILL, Kind::Alone) if out_of_memory => Ok("ended at the limit".to_owned()),
        _ => Err(format!("signal {signal} ended it, which tells nothing")),
    }
}

fn refused(stops: &[Hole], step: &str, errno: i32) -> Result<String, String> {
    let limits = [Hole::TaskLimit, Hole::MemoryLimit, Hole::ResourceLimits, Hole::ScratchLimit];
    let by_chance = [libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EFAULT];
    if by_chance.contains(&errno) && !limits.iter().any(|limit| stops.contains(limit)) {
        return Err(format!("{} at {step} tells nothing", errno_name(errno)));
    }
    Ok(format!("{} at {step}", errno_name(errno)))
}

/// The short name of an error, where it is one that probes meet.
pub(crate) fn errno_name(errno: i32) -> String {
    let known = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::EBADF, "EBADF"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EBUSY, "EBUSY"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::EMFILE, "EMFILE"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ESTALE, "ESTALE"),
        (libc::ENOTBLK, "ENOTBLK"),
        (libc::EFAULT, "EFAULT"),
    ];
    known.iter().find(|(number, _)| *number == errno).map_or_else(|| format!("errno {errno}"), |(_, n)| (*n).to_owned())
}

/// The table for people, and its sums.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let engine = row.engine.as_str();
        let (probe, result) = (row.probe, row.result.as_str());
        _ = writeln!(text, "{engine:<10} {probe:<24} {result:<10} {:<48} {}", row.mechanism, row.detail);
    }
    for engine in Engine::value_variants() {
        let rows: Vec<_> = rows.iter().filter(|row| row.engine == *engine).collect();
        let count = |result| rows.iter().filter(|row| row.result == result).count();
        if !rows.is_empty() {
            let (contained, escaped) = (count(Outcome::Contained), count(Outcome::Escaped));
            let (name, absent) = (engine.as_str(), count(Outcome::Absent));
            _ = writeln!(
                text,
                "\n{name}: {} probes: {contained} contained, {escaped} escaped, {absent} absent",
                rows.len()
            );
        }
    }
    text
}
