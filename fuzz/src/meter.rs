//! How much a target may allocate: an allocator that counts, and the limit it is held to.
#![expect(unsafe_code, reason = "an allocator has no safe interface; this one hands on and counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Room for fixtures and buffers of fixed size, the largest manifest among them.
const ROOM: isize = 4 << 20;
/// Bytes per byte of input: small JSON values become larger ones of ours.
const PER_BYTE: isize = 128;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: every call goes to the system's allocator with the layout it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work` on an input of `length` bytes; fails if this thread held far more than that at any time.
pub fn within<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let start = LIVE.get();
    PEAK.set(start);
    let done = work();
    let held = PEAK.get() - start;
    let most = ROOM + PER_BYTE * length as isize;
    assert!(held <= most, "{held} bytes were held for an input of {length}, at most {most} may be");
    done
}
