//! Small guests.

const IMPORTS: &str = r#"
(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
(import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_pwrite" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $resize (param i32 i64) (result i32)))
(import "wasi_snapshot_preview1" "path_open"
  (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
"#;

/// Functions that guests share: `$put` writes bytes to a descriptor, `$must` exits with an error number,
/// `$copy` copies one descriptor to another.
const FUNCTIONS: &str = r"
(func $put (param $fd i32) (param $at i32) (param $len i32)
  (i32.store (i32.const 0) (local.get $at))
  (i32.store (i32.const 4) (local.get $len))
  (call $must (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
(func $must (param $errno i32)
  (if (local.get $errno) (then (call $exit (local.get $errno)))))
(func $copy (param $from i32) (param $to i32)
  (loop $again
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (call $must (call $read (local.get $from) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.load (i32.const 8)) (then
      (call $put (local.get $to) (i32.const 65536) (i32.load (i32.const 8)))
      (br $again)))))
";

/// A command with this body, a memory of three pages and these strings in it.
pub fn command(data: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "(module {IMPORTS} (memory (export \"memory\") 3) {data} {FUNCTIONS} (func (export \"_start\") {body}))"
    );
    wat::parse_str(text).unwrap()
}

pub fn echo() -> Vec<u8> {
    command("", "(call $copy (i32.const 0) (i32.const 1))")
}

pub fn exit(code: i32) -> Vec<u8> {
    command("", &format!("(call $exit (i32.const {code}))"))
}

pub fn endless() -> Vec<u8> {
    command("", "(loop $l (br $l))")
}

/// Asks for memory until it gets none, then goes on with `after`.
pub fn memory_bomb(after: &str) -> Vec<u8> {
    let grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))";
    command("", &format!("{grow} {after}"))
}

/// Opens a path below a preopened folder and ends with the error's number; 0 if it opened.
pub fn opens(folder: i32, path: &str, create: bool) -> Vec<u8> {
    let (flags, rights) = if create { (1, 64) } else { (0, 2) };
    command(
        &format!("(data (i32.const 1024) {path:?})"),
        &format!(
            "(call $must (call $open (i32.const {folder}) (i32.const 0) (i32.const 1024) (i32.const {}) (i32.const {flags})
               (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16)))",
            path.len()
        ),
    )
}
