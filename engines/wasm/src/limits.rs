//! What holds the guest: one configuration for compiling and running, a meter for memory, a clock.

use decores_attempt::{EngineError, doing};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use wasmtime::{Config, Engine, ResourceLimiter};

/// How often a running guest is interrupted to look at its time limit, in milliseconds.
const TICK_MS: u64 = 10;
/// Stack of the guest, in bytes.
const GUEST_STACK: usize = 1 << 20;
/// Entries in all tables of a guest; 8 bytes each, outside its linear memory.
const TABLE_ENTRIES: usize = 1 << 20;

/// The configuration that compile process, engine and the bare benchmark share: code compiled under
/// one loads under the same only.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(GUEST_STACK + (1 << 20))
        // Memory images would need memory files, which the lock leaves no call for.
        .memory_init_cow(false)
        // One memory below 4 GiB is what the memory limit counts.
        .wasm_multi_memory(false)
        .wasm_memory64(false);
    config
}

/// The engine of the shared configuration.
///
/// # Errors
/// If this processor is not supported.
pub fn engine() -> Result<Engine, EngineError> {
    Engine::new(&config()).map_err(|e| EngineError::Runtime(e.to_string()))
}

/// What code must have been compiled under to be loaded by this engine: version, processor and configuration.
pub(crate) fn fingerprint(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Starts the thread that interrupts the guest. After this file access is closed, before the system
/// calls are: the thread is held by both locks.
pub(crate) fn start_ticker(engine: &Engine) -> Result<(), EngineError> {
    let engine = engine.weak();
    // A thread makes calls of its own while it starts, which the lock would end it for.
    let (started, wait) = mpsc::channel();
    let tick = move || {
        let _ = started.send(());
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            pause();
        }
    };
    thread::Builder::new()
        .name("ticker".to_owned())
        .stack_size(64 << 10)
        .spawn(tick)
        .map_err(doing("starting the ticker"))?;
    wait.recv().map_err(|_| EngineError::Protocol("the ticker did not start"))
}

#[expect(clippy::disallowed_methods, reason = "the engine is a process of its own; its tick is no decision")]
fn pause() {
    thread::sleep(Duration::from_millis(TICK_MS));
}

/// Counts the guest's memory and denies what is beyond its limit.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u64,
    /// The most it ever had.
    pub(crate) peak: u64,
    /// Whether it asked for more.
    pub(crate) denied: bool,
}

impl Meter {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, peak: 0, denied: false }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let desired = desired as u64;
        if desired > self.limit {
            self.denied = true;
            return Ok(false);
        }
        // What the module itself forbids does not count as asked for.
        if maximum.is_none_or(|m| desired <= m as u64) {
            self.peak = self.peak.max(desired);
        }
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= TABLE_ENTRIES;
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn memory_beyond_the_limit_is_denied_and_remembered() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 100, None).unwrap());
        assert!(!meter.denied);
        assert!(!meter.memory_growing(100, 101, None).unwrap());
        assert!(meter.denied);
        assert_eq!(meter.peak, 100);
    }

    #[test]
    fn tables_are_limited_too() {
        let mut meter = Meter::new(0);
        assert!(meter.table_growing(0, TABLE_ENTRIES, None).unwrap());
        assert!(!meter.table_growing(0, TABLE_ENTRIES + 1, None).unwrap());
    }
}
