//! Files, networks and other processes: Landlock.
#![expect(unsafe_code, reason = "asks the kernel for its Landlock version, and sets no-new-privileges")]

use crate::error::JailError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::path::Path;

/// The first half of the lock is closed.
#[derive(Debug)]
pub struct FilesClosed {
    pub(crate) landlock_abi: u32,
}

/// Whether links may be made that point anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// None.
    None,
    /// Symbolic ones, for others to follow elsewhere.
    Symbolic,
}

/// Leaves files below `scratch` only (none without one), no TCP, no signals or abstract sockets to the
/// outside; for this thread and all it starts. Where the kernel has no Landlock the report says 0: the
/// plan asks for a mount namespace then.
///
/// # Errors
/// If the kernel has Landlock and any part of this is not in force.
pub fn close_files(scratch: Option<&Path>) -> Result<FilesClosed, JailError> {
    close_files_but(scratch.as_slice(), Links::None)
}

/// As [`close_files`], with several folders.
///
/// # Errors
/// As there.
pub fn close_files_but(folders: &[&Path], links: Links) -> Result<FilesClosed, JailError> {
    // SAFETY: takes numbers only. Seccomp needs it too, so it is set where Landlock is absent.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(JailError::NotInForce("no-new-privileges"));
    }
    let landlock_abi = kernel_abi();
    let Some(abi) = known(landlock_abi) else { return Ok(FilesClosed { landlock_abi: 0 }) };
    // Everything the kernel has is demanded: best effort would hide a weak one.
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(abi))?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    let mut created = ruleset.create()?;
    for folder in folders {
        created = created.add_rule(PathBeneath::new(PathFd::new(folder)?, rights(abi, links)))?;
    }
    let status = created.restrict_self()?;
    if status.ruleset != RulesetStatus::FullyEnforced || !status.no_new_privs {
        return Err(JailError::Partial);
    }
    Ok(FilesClosed { landlock_abi: landlock_abi.min(abi as u32) })
}

/// Leaves this half of the lock open, and says so: for what shows that the other half alone does not hold everything.
///
/// # Errors
/// If the kernel refuses no-new-privileges, without which the other half does not close.
pub fn insecure_leave_files_open() -> Result<FilesClosed, JailError> {
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(JailError::NotInForce("no-new-privileges"));
    }
    Ok(FilesClosed { landlock_abi: 0 })
}

/// Plain files and folders; nothing to run, no devices, sockets or pipes.
fn rights(abi: ABI, links: Links) -> BitFlags<AccessFs> {
    let special = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::IoctlDev;
    let plain = AccessFs::from_all(abi) & !special;
    match links {
        Links::None => plain & !AccessFs::MakeSym,
        Links::Symbolic => plain,
    }
}

/// The newest version that this code was written for and the kernel has.
const fn known(kernel: u32) -> Option<ABI> {
    match kernel {
        0 => None,
        1 => Some(ABI::V1),
        2 => Some(ABI::V2),
        3 => Some(ABI::V3),
        4 => Some(ABI::V4),
        5 => Some(ABI::V5),
        _ => Some(ABI::V6),
    }
}

fn kernel_abi() -> u32 {
    const VERSION: libc::c_int = 1;
    // SAFETY: with the version flag the attribute is null and of size zero, and nothing is made.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}
