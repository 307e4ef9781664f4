//! Holes: mechanisms that are left out on purpose, to show that the escape table notices.

use serde::{Deserialize, Serialize};

macro_rules! holes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// A mechanism left out. No node ever has one: a launcher that serves jobs refuses to start with any.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Hole {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Hole {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name of the mechanism.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

holes! {
    /// The system call filter.
    Seccomp = "seccomp",
    /// Landlock.
    Landlock = "landlock",
    /// A user of its own without capabilities: it stays root.
    User = "user",
    /// The network namespace.
    NetNamespace = "net-namespace",
    /// The process namespace.
    PidNamespace = "pid-namespace",
    /// The IPC namespace.
    IpcNamespace = "ipc-namespace",
    /// The host name's namespace.
    UtsNamespace = "uts-namespace",
    /// The file tree of its own: it sees the host's.
    Root = "root",
    /// Read-only mounts.
    ReadOnly = "read-only",
    /// Masked and read-only paths in `/proc` and `/sys`.
    MaskedPaths = "masked-paths",
    /// The closing of descriptors.
    Descriptors = "descriptors",
    /// The limit on tasks.
    TaskLimit = "task-limit",
    /// The limit on memory.
    MemoryLimit = "memory-limit",
    /// The limits of descriptors, file sizes and core dumps.
    ResourceLimits = "resource-limits",
    /// The limit of the scratch.
    ScratchLimit = "scratch-limit",
    /// The care of a container's engine with names of inputs, links in outputs, and the size of all it keeps. The engine
    /// goes with it: one without any stands in its place.
    OutputChecks = "output-checks",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = Hole::ALL.iter().map(|hole| hole.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Hole::ALL.len());
    }
}
