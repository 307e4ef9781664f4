//! Whether pages can reach a disk, as the kernel says at the moment of asking.

use crate::group::JobCgroup;
use decores_types::Swap;
use std::fs;
use std::io;

/// What holds for a process whose group is `closed` to swap, or not.
pub(crate) fn state(closed: impl FnOnce() -> bool) -> Swap {
    judge(&fs::read_to_string("/proc/swaps"), closed)
}

/// The same for the group of a job.
pub(crate) fn state_in(group: Option<&JobCgroup>) -> Swap {
    state(|| group.is_some_and(JobCgroup::closed_to_swap))
}

fn judge(swaps: &io::Result<String>, closed: impl FnOnce() -> bool) -> Swap {
    let none = match swaps {
        // The first line is a heading.
        Ok(text) => text.lines().count() <= 1,
        // A kernel built without swap has no such file.
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    };
    match none {
        true => Swap::None,
        false if closed() => Swap::Prevented,
        false => Swap::Possible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_that_is_there_or_cannot_be_seen_is_possible_unless_the_group_is_closed() {
        let heading = "Filename Type Size Used Priority\n".to_owned();
        let device = format!("{heading}/dev/sda2 partition 1048572 0 -2\n");
        assert_eq!(judge(&Ok(heading), || false), Swap::None);
        assert_eq!(judge(&Err(io::ErrorKind::NotFound.into()), || false), Swap::None);
        assert_eq!(judge(&Ok(device.clone()), || true), Swap::Prevented);
        assert_eq!(judge(&Ok(device), || false), Swap::Possible);
        assert_eq!(judge(&Err(io::ErrorKind::PermissionDenied.into()), || false), Swap::Possible);
    }
}
