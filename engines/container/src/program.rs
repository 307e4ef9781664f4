//! What an image says about its program, checked; and its user, looked up in the image.

use crate::documents::Config;
use crate::refusal::{Refusal, doing_io, shown};
use crate::root::Folder;
use decores_sandbox::container::RANGE;
use decores_types::Digest;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Most bytes of `etc/passwd` and `etc/group` that are looked at.
const MAX_USERS: u64 = 1 << 20;
/// Most arguments and variables.
const MAX_WORDS: usize = 4096;
/// Most bytes of all arguments and variables.
const MAX_BYTES: usize = 512 << 10;

/// An unpacked image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Image {
    /// What names it: its manifest's digest; of a docker-archive its configuration's.
    pub digest: Digest,
    /// The words before the job's arguments.
    pub entrypoint: Vec<String>,
    /// What stands for the job's arguments where it has none.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The folder its program starts in: absolute, there, and no link on its way.
    pub cwd: String,
    /// Its program's user.
    pub user: User,
    /// Files, folders and links that its layers made.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
}

/// A user inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct User {
    /// Its id.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
    /// Its home, as the image says.
    pub home: String,
}

/// The configuration's part of an image.
pub(crate) struct Said {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
}

/// Checks what the configuration says.
pub(crate) fn check(config: Option<Config>) -> Result<Said, Refusal> {
    let config = config.unwrap_or_default();
    let said = Said {
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        cwd: config.working_dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned()),
        user: config.user.unwrap_or_default(),
    };
    let refuse = |why: &str| Err(Refusal::image(format!("the configuration: {why}")));
    let words = || said.entrypoint.iter().chain(&said.cmd).chain(&said.env);
    if words().count() > MAX_WORDS || words().map(String::len).sum::<usize>() > MAX_BYTES {
        return refuse("arguments and environment are too long");
    }
    if words().chain([&said.cwd, &said.user]).any(|word| word.contains('\0')) {
        return refuse("a word has a zero byte in it");
    }
    if let Some(wrong) = said.env.iter().find(|v| v.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        return refuse(&format!("{} is no environment variable", shown(wrong.as_bytes())));
    }
    if !said.cwd.starts_with('/') || said.cwd.len() > crate::tar::MAX_PATH {
        return refuse("the working folder is not an absolute path");
    }
    Ok(said)
}

/// Looks up `user`, `uid`, `user:group` and so on, as the image's own files have them. Empty is 0.
pub(crate) fn user(top: &Folder, text: &str) -> Result<User, Refusal> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let unknown =
        |name: &str| Refusal::image(format!("the configuration: no user or group {}", shown(name.as_bytes())));
    let user = if user.is_empty() { "0" } else { user };
    let passwd = lines(top, b"etc/passwd")?;
    let entry = passwd.iter().find(|fields| match user.parse::<u32>() {
        Ok(id) => number(fields, 2) == Some(id),
        Err(_) => fields.first().is_some_and(|name| name == user),
    });
    let uid = user.parse().ok().or_else(|| number(entry?, 2)).ok_or_else(|| unknown(user))?;
    let gid = match group.filter(|g| !g.is_empty()) {
        None => entry.and_then(|entry| number(entry, 3)).unwrap_or(0),
        Some(group) => {
            let named = |fields: &&Vec<String>| fields.first().is_some_and(|name| name == group);
            let found = || lines(top, b"etc/group").map(|all| all.iter().find(named).and_then(|g| number(g, 2)));
            match group.parse() {
                Ok(id) => id,
                Err(_) => found()?.ok_or_else(|| unknown(group))?,
            }
        }
    };
    if uid >= RANGE || gid >= RANGE {
        return Err(Refusal::image(format!("the configuration: user and group ids go up to {}", RANGE - 1)));
    }
    let home = entry.and_then(|entry| entry.get(5)).filter(|home| home.starts_with('/') && !home.contains('\0'));
    Ok(User { uid, gid, home: home.cloned().unwrap_or_else(|| "/".to_owned()) })
}

fn number(fields: &[String], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

/// The fields of each line; none where the image has no such file.
fn lines(top: &Folder, path: &[u8]) -> Result<Vec<Vec<String>>, Refusal> {
    let file = match top.read(path) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::LOOP | Errno::NXIO) => return Ok(Vec::new()),
        Err(e) => return Err(Refusal::Machine("opening the image's list of users", e.into())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_USERS).read_to_end(&mut bytes).map_err(doing_io("reading the image's list of users"))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
}
