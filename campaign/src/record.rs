//! What `strace -f -y -xx` wrote down: calls, in the order in which they returned.
//!
//! Paths and data stand as hexadecimal escapes, so that a line splits at its commas. A call that another thread
//! interrupted stands on two lines, which are put together again.

use std::collections::HashMap;
use std::path::PathBuf;

/// The calls that a record must hold for [`super::tail`] to be right.
pub const CALLS: &str = "open,openat,openat2,creat,write,writev,pwrite64,pwritev,pwritev2,lseek,ftruncate,truncate,\
fallocate,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,\
symlink,symlinkat,copy_file_range,sendfile,splice";

/// One call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments, as they stand.
    pub args: Vec<String>,
    /// What it returned, as it stands.
    pub result: String,
    /// The line on which it began.
    pub began: usize,
    /// The line on which it returned.
    pub returned: usize,
}

/// Reads a record. Calls that failed or never returned are left out: nothing may rely on them.
pub fn read(text: &str) -> Result<Vec<Call>, String> {
    let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in text.lines().enumerate() {
        // `-f` puts the thread in front, unless there has only ever been one.
        let (thread, said) =
            line.split_once(' ').filter(|(t, _)| t.bytes().all(|b| b.is_ascii_digit())).unwrap_or(("", line));
        let said = said.trim_start();
        if said.starts_with(['+', '-']) {
            continue;
        }
        if let Some(begun) = said.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (at, begun));
        } else if let Some(rest) = said.strip_prefix("<... ") {
            let (_, rest) = rest.split_once(" resumed>").ok_or_else(|| format!("line {at} of the record: {line}"))?;
            if let Some((began, begun)) = open.remove(thread) {
                calls.extend(call(&format!("{begun}{rest}"), began, at)?);
            }
        } else {
            calls.extend(call(said, at, at)?);
        }
    }
    Ok(calls)
}

fn call(said: &str, began: usize, returned: usize) -> Result<Option<Call>, String> {
    let bad =
        || format!("line {returned} of the record cannot be read: {}", said.chars().take(200).collect::<String>());
    let (head, result) = said.rsplit_once(" = ").ok_or_else(bad)?;
    let (name, args) = head.trim_end().split_once('(').ok_or_else(bad)?;
    let args = args.strip_suffix(')').ok_or_else(bad)?;
    if result.starts_with(['-', '?']) {
        return Ok(None);
    }
    let args = args.split(", ").map(str::to_owned).collect();
    Ok(Some(Call { name: name.to_owned(), args, result: result.to_owned(), began, returned }))
}

/// The bytes of `"\x2f\x74"`.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    unescape(inner)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let digits = |d: &str| u8::from_str_radix(d.get(..2)?, 16).ok();
    text.split("\\x").skip(1).map(digits).collect()
}

/// The number and path of `5<\x2f\x74>`; no path where the file is deleted.
pub fn descriptor(text: &str) -> Option<(i32, Option<PathBuf>)> {
    let (number, rest) = text.split_once('<')?;
    // `AT_FDCWD` is a number too; nothing is told apart by it.
    let number = number.parse().unwrap_or(-100);
    let (path, after) = rest.split_once('>')?;
    let path = String::from_utf8(unescape(path)?).ok().map(PathBuf::from);
    Some((number, path.filter(|_| after.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_put_together_across_threads() {
        let text = "12 write(3<\\x2f\\x61>, \"\\x68\\x69\", 2 <unfinished ...>\n\
                    13 fsync(4<\\x2f\\x62>) = 0\n\
                    13 rename(\"\\x2f\\x62\", \"\\x2f\\x63\") = -1 ENOENT (No such file or directory)\n\
                    12 <... write resumed>)              = 2\n\
                    12 +++ killed by SIGKILL +++\n";
        let calls = read(text).unwrap();
        assert_eq!(calls.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["fsync", "write"]);
        assert_eq!((calls[1].began, calls[1].returned), (0, 3));
        assert_eq!(bytes(&calls[1].args[1]).unwrap(), b"hi");
        assert_eq!(descriptor(&calls[1].args[0]), Some((3, Some(PathBuf::from("/a")))));
        assert_eq!(descriptor("3<\\x2f\\x61>(deleted)"), Some((3, None)));
    }

    #[test]
    fn what_is_no_call_is_refused() {
        assert!(read("12 write(3 = 2\n").is_err());
        assert!(read("12 what is this\n").is_err());
    }
}
