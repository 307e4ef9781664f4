//! Runs one container for the launcher, in a program of its own: what `decores-helper container` does.
//!
//! The launcher starts it as the first process of its own process, mount, network, IPC and host name namespaces, as root
//! or as the only user of a user namespace, inside the container's control group; `decores_sandbox::container` says with
//! which descriptors. Then, one after the other:
//!
//! 1. [`view`] leaves the host's file tree, so that an image or engine that wins a race finds nothing in reach.
//! 2. [`request`] reads what the engine asks for, and refuses all but a plain request.
//! 3. [`view`] mounts the scratch's folders by descriptor and looks at the folders an image must have.
//! 4. [`spec`] writes the OCI runtime spec, with the filter of [`seccomp`].
//! 5. [`library`] or [`program`] makes the container; [`readback`] reads from the kernel what holds it, and if it is not
//!    what was planned nothing starts.
//! 6. [`run`] reports, starts, waits for the first of: the program's end, the time limit, the engine closing its side;
//!    and ends whatever is left.
//!
//! There is nothing to clean up but the process itself: its file tree and its runtime's state are in memory and private,
//! no control group is made, and every process of the container is in a process namespace that ends with it.
//!
//! [`probe`] runs a real container that way without launcher and engine, to learn whether this machine can.

mod library;
mod probe;
mod program;
mod readback;
mod request;
mod run;
mod seccomp;
mod spec;
mod stop;
mod syscall;
mod view;

pub use probe::{CONTAINER, LOOK, look, probe};
pub use run::run;
pub use stop::Stop;

use decores_sandbox::container::{RunRequest, RunTask};
use spec::Folders;
use std::path::Path;

/// The OCI runtime spec of a task and a request, for whoever has another program run the same: with the file tree in
/// `rootfs` of a folder, beside `in`, `out` and `tmp`.
#[must_use]
pub fn runtime_spec(task: &RunTask, request: &RunRequest, folder: &Path) -> serde_json::Value {
    let folders = Folders {
        root: folder.join("rootfs"),
        input: folder.join("in"),
        output: folder.join("out"),
        temporary: folder.join("tmp"),
    };
    spec::spec(task, request, &folders, None, |kind| syscall::hard_limit(kind).unwrap_or(0))
}
