//! System calls: seccomp.
#![expect(unsafe_code, reason = "reads back from the kernel what is in force")]

use crate::calls::{COMPILE, CONTAINER, Call, HARMLESS, HARMLESS_COMPILE, HARMLESS_FILES, RUN, SHARED, UNPACK, When};
use crate::error::JailError;
use crate::files::{FilesClosed, close_files};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};
use std::collections::BTreeMap;
use std::path::Path;

/// What a locked process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Compiles a stranger's program and never runs it: opens nothing, makes nothing executable.
    Compile,
    /// Runs a stranger's program: files of the scratch, executable memory.
    Run,
    /// Has a stranger's program run by others: files of its input and output, nothing executable.
    Container,
    /// Unpacks a stranger's image: files and links below its folders, nothing executable.
    Unpack,
}

/// What is in force, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockReport {
    /// The system call filter.
    pub seccomp: bool,
    /// The version of Landlock; 0 where the kernel has none.
    pub landlock_abi: u32,
}

/// Closes both halves at once, for a process without threads.
///
/// # Errors
/// If anything is not in force.
pub fn lock(profile: Profile, scratch: Option<&Path>) -> Result<LockReport, JailError> {
    close_files(scratch)?.close_calls(profile)
}

impl FilesClosed {
    /// Closes all system calls but those of the profile, for every thread of this process.
    ///
    /// # Errors
    /// If the filter does not load, or the kernel does not say that it is in force.
    pub fn close_calls(self, profile: Profile) -> Result<LockReport, JailError> {
        let (own, more): (&[Call], &[&[Call]]) = match profile {
            Profile::Compile => (COMPILE, &[HARMLESS_FILES, HARMLESS_COMPILE]),
            Profile::Run => (RUN, &[HARMLESS_FILES]),
            Profile::Container => (CONTAINER, &[]),
            Profile::Unpack => (UNPACK, &[]),
        };
        let harmless: Vec<&Call> = HARMLESS.iter().chain(more.iter().copied().flatten()).collect();
        // Of two filters the sterner one wins, so the first lets everything else pass to the second.
        let deny = program(&harmless, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM.unsigned_abs()))?;
        let known: Vec<&Call> = SHARED.iter().chain(own).chain(harmless).collect();
        let allow = program(&known, SeccompAction::KillProcess, SeccompAction::Allow)?;
        apply_filter_all_threads(&deny)?;
        apply_filter_all_threads(&allow)?;
        read_back()?;
        Ok(LockReport { seccomp: true, landlock_abi: self.landlock_abi })
    }
}

/// A filter that answers the calls of a list with `listed` and all others with `other`.
fn program(calls: &[&Call], other: SeccompAction, listed: SeccompAction) -> Result<BpfProgram, JailError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        let conditions = conditions(call.when)?;
        let entry = rules.entry(call.number).or_default();
        // No rule at all means: whatever the arguments.
        entry.extend(conditions.into_iter().map(|c| SeccompRule::new(vec![c])).collect::<Result<Vec<_>, _>>()?);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| JailError::Processor)?;
    let filter = SeccompFilter::new(rules, other, listed, arch)?;
    Ok(BpfProgram::try_from(filter)?)
}

/// The conditions of which one must hold; none where the call is always allowed.
fn conditions(when: When) -> Result<Vec<SeccompCondition>, JailError> {
    let equal = |argument, operator, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    Ok(match when {
        When::Always => Vec::new(),
        When::Bits { argument, mask, value } => vec![equal(argument, SeccompCmpOp::MaskedEq(mask), value)?],
        When::OneOf { argument, values } => {
            values.iter().map(|v| equal(argument, SeccompCmpOp::Eq, *v)).collect::<Result<_, _>>()?
        }
        When::Own => vec![equal(0, SeccompCmpOp::Eq, std::process::id().into())?],
    })
}

fn read_back() -> Result<(), JailError> {
    const FILTERING: libc::c_int = 2;
    // SAFETY: both options only ask.
    let (mode, no_new_privs) =
        unsafe { (libc::prctl(libc::PR_GET_SECCOMP), libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)) };
    if mode != FILTERING {
        return Err(JailError::NotInForce("the system call filter"));
    }
    if no_new_privs != 1 {
        return Err(JailError::NotInForce("no-new-privileges"));
    }
    Ok(())
}
