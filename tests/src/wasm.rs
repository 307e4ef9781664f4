//! Programs, good and bad, as WebAssembly text.

/// What every program imports, and a memory.
const PRELUDE: &str = r#"
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 4)
  ;; Reads up to 64 KiB of a descriptor to 65536; how much.
  (func $read (param $fd i32) (result i32)
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (i32.const 65536))
    (if (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (i32.load (i32.const 8)))
  ;; Writes all of what stands somewhere.
  (func $write (param $fd i32) (param $at i32) (param $len i32)
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $len)))
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $len))
        (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
        (local.set $len (i32.sub (local.get $len) (i32.load (i32.const 8))))
        (br $more))))
  ;; Copies a descriptor to another.
  (func $copy (param $from i32) (param $to i32)
    (local $n i32)
    (loop $more
      (local.set $n (call $read (local.get $from)))
      (call $write (local.get $to) (i32.const 65536) (local.get $n))
      (br_if $more (local.get $n))))
"#;

/// A command whose `_start` does this.
fn command(start: &str) -> Vec<u8> {
    module(&format!("{PRELUDE} (func (export \"_start\") {start})"))
}

fn module(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {fields})")).unwrap()
}

/// Copies standard input to standard output.
pub fn cat() -> Vec<u8> {
    command("(call $copy (i32.const 0) (i32.const 1))")
}

/// Copies `/in/a` to `/out/c`, and says so on standard error.
pub fn files() -> Vec<u8> {
    module(&format!(
        r#"{PRELUDE}
        (data (i32.const 1024) "a") (data (i32.const 1040) "c") (data (i32.const 1056) "copied\n")
        (func (export "_start")
          (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
          (if (call $path_open (i32.const 4) (i32.const 0) (i32.const 1040) (i32.const 1) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 20)) (then unreachable))
          (call $copy (i32.load (i32.const 16)) (i32.load (i32.const 20)))
          (call $write (i32.const 2) (i32.const 1056) (i32.const 7)))"#
    ))
}

/// Writes its arguments and environment, NUL-separated, as the system hands them over.
pub fn words() -> Vec<u8> {
    module(&format!(
        r#"
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        {PRELUDE}
        (func (export "_start")
          (drop (call $args_sizes (i32.const 16) (i32.const 20)))
          (drop (call $args (i32.const 1024) (i32.const 65536)))
          (call $write (i32.const 1) (i32.const 65536) (i32.load (i32.const 20)))
          (drop (call $environ_sizes (i32.const 16) (i32.const 20)))
          (drop (call $environ (i32.const 1024) (i32.const 65536)))
          (call $write (i32.const 1) (i32.const 65536) (i32.load (i32.const 20))))"#
    ))
}

/// Says something on standard error and ends with this code.
pub fn exits(code: u32) -> Vec<u8> {
    module(&format!(
        r#"{PRELUDE} (data (i32.const 1024) "no\n")
        (func (export "_start") (call $write (i32.const 2) (i32.const 1024) (i32.const 3)) (call $exit (i32.const {code})))"#
    ))
}

/// Ends at once.
pub fn nothing() -> Vec<u8> {
    command("")
}

/// Reads up to 64 KiB of standard input into its memory, sleeps, and writes them to standard output.
pub fn patient(ms: u64) -> Vec<u8> {
    sleeper(
        ms,
        "",
        "(local.set $n (call $read (i32.const 0)))",
        "(call $write (i32.const 1) (i32.const 65536) (local.get $n))",
    )
}

/// Copies `/in/a` to `/out/c` on the scratch, and sleeps before it ends.
pub fn patient_files(ms: u64) -> Vec<u8> {
    let names = "(data (i32.const 1024) \"a\") (data (i32.const 1040) \"c\")";
    let copy = "
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 0)
              (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
        (if (call $path_open (i32.const 4) (i32.const 0) (i32.const 1040) (i32.const 1) (i32.const 1)
              (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 20)) (then unreachable))
        (call $copy (i32.load (i32.const 16)) (i32.load (i32.const 20)))";
    sleeper(ms, names, copy, "")
}

/// Does something, sleeps, and does something else.
fn sleeper(ms: u64, data: &str, before: &str, after: &str) -> Vec<u8> {
    // A subscription at 2048: the monotonic clock (1), a span in nanoseconds.
    module(&format!(
        r#"
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        {PRELUDE} {data}
        (func (export "_start")
          (local $n i32)
          {before}
          (i32.store (i32.const 2064) (i32.const 1))
          (i64.store (i32.const 2072) (i64.const {}))
          (if (call $poll (i32.const 2048) (i32.const 2112) (i32.const 1) (i32.const 2160)) (then unreachable))
          {after})"#,
        ms * 1_000_000
    ))
}

/// Reads standard input into its memory, then runs without end.
pub fn holds_input() -> Vec<u8> {
    command("(drop (call $read (i32.const 0))) (loop $forever (br $forever))")
}

/// Runs without end.
pub fn loops() -> Vec<u8> {
    command("(loop $forever (br $forever))")
}

/// Allocates without end, and touches what it gets.
pub fn allocates() -> Vec<u8> {
    command(
        "(local $page i32)
        (loop $more
          (local.set $page (memory.grow (i32.const 16)))
          (if (i32.eq (local.get $page) (i32.const -1)) (then unreachable))
          (memory.fill (i32.shl (local.get $page) (i32.const 16)) (i32.const 7) (i32.const 1048576))
          (br $more))",
    )
}

/// Writes without end.
pub fn writes(descriptor: u32) -> Vec<u8> {
    command(&format!(
        "(loop $more (call $write (i32.const {descriptor}) (i32.const 65536) (i32.const 65536)) (br $more))"
    ))
}

/// Writes a file without end; ends with 0 only if it could.
pub fn fills_scratch() -> Vec<u8> {
    module(&format!(
        r#"{PRELUDE} (data (i32.const 1024) "big")
        (func (export "_start")
          (if (call $path_open (i32.const 4) (i32.const 0) (i32.const 1024) (i32.const 3) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
          (loop $more (call $write (i32.load (i32.const 16)) (i32.const 65536) (i32.const 65536)) (br $more)))"#
    ))
}

/// Tries to open these paths from each folder it has; ends with 0 only if nothing opened.
pub fn opens(paths: &[&str]) -> Vec<u8> {
    let mut tries = String::new();
    for (at, path) in paths.iter().enumerate() {
        let place = 1024 + at * 256;
        tries.push_str(&format!("(data (i32.const {place}) \"{path}\")\n"));
    }
    tries.push_str("(func (export \"_start\")\n");
    for (at, path) in paths.iter().enumerate() {
        let (place, length) = (1024 + at * 256, path.len());
        for folder in [3, 4] {
            for follow in [0, 1] {
                tries.push_str(&format!(
                    "(if (i32.eqz (call $path_open (i32.const {folder}) (i32.const {follow}) (i32.const {place}) \
                     (i32.const {length}) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16))) \
                     (then (call $copy (i32.load (i32.const 16)) (i32.const 1)) (call $exit (i32.const {}))))\n",
                    at + 1
                ));
            }
        }
    }
    module(&format!("{PRELUDE} {tries})"))
}

/// Traps.
pub fn traps() -> Vec<u8> {
    command("unreachable")
}

/// Calls itself without end.
pub fn recurses() -> Vec<u8> {
    module(&format!("{PRELUDE} (func $down (call $down)) (func (export \"_start\") (call $down))"))
}

/// Imports what does not exist.
pub fn imports(from: &str, name: &str) -> Vec<u8> {
    module(&format!("(import \"{from}\" \"{name}\" (func)) (memory (export \"memory\") 1) (func (export \"_start\"))"))
}

/// A library: it has no `_start`.
pub fn library() -> Vec<u8> {
    module("(func (export \"run\"))")
}

/// A valid command of this many functions. Each is small, and a hard nut: loops inside of loops, all of which
/// carry all variables, so that a compiler must keep track of their product.
pub fn takes_long_to_compile(functions: usize) -> Vec<u8> {
    hard_to_compile(functions, 250)
}

/// The same, with functions of this many loops: how hard they are grows with its square at least.
pub fn hard_to_compile(functions: usize, loops: usize) -> Vec<u8> {
    const I64: u8 = 0x7e;
    let mut body = [vec![1], leb(loops), vec![I64]].concat();
    // loop (without a result)
    body.extend([0x03, 0x40].repeat(loops));
    for at in 0..loops {
        // local.get, local.get, i64.rotl, i64.const 1, i64.add, local.set
        let (own, next) = (leb(at), leb((at + 1) % loops));
        body.extend([&[0x20], own.as_slice(), &[0x20], &next, &[0x89, 0x42, 1, 0x7c, 0x21], &own].concat());
    }
    for at in 0..loops {
        // local.get, i64.eqz, br_if 0, end
        body.extend([&[0x20], leb(at).as_slice(), &[0x50, 0x0d, 0, 0x0b]].concat());
    }
    for at in 0..loops {
        // local.get, global.get, i64.add, global.set
        body.extend([&[0x20], leb(at).as_slice(), &[0x23, 0, 0x7c, 0x24, 0]].concat());
    }
    body.push(0x0b);
    let mut out = b"\0asm\x01\0\0\0".to_vec();
    section(&mut out, 1, &[1, 0x60, 0, 0]);
    section(&mut out, 3, &[leb(functions), vec![0; functions]].concat());
    section(&mut out, 6, &[1, I64, 1, 0x42, 0, 0x0b]);
    section(&mut out, 7, &[&[1, 6], b"_start".as_slice(), &[0, 0]].concat());
    let one = [leb(body.len()), body].concat();
    section(&mut out, 10, &[leb(functions), one.repeat(functions)].concat());
    out
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    out.extend(leb(content.len()));
    out.extend_from_slice(content);
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
