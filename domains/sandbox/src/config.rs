//! What the provider allows.

use decores_types::Limits;

/// The provider's policy for jobs.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The largest limits a job may ask for.
    pub max_limits: Limits,
    /// Jobs that run at the same time.
    pub slots: usize,
    /// Jobs that wait; more are answered with 503.
    pub queue: usize,
    /// First user id of the range that jobs get their own users from; one per slot.
    pub first_uid: u32,
    /// First user id of the ranges that containers get: [`RANGE`](crate::container::RANGE) ids, one range per slot.
    pub first_range: u32,
    /// Bytes a second that an engine, and a container, may each read and write on the disk of the node's home.
    pub io_bytes: u64,
    /// Processor time of a container, in hundredths of one processor; 0 sets no limit. Modules have one thread.
    pub cpu_percent: u32,
    /// The longest that a compiled program is kept, in seconds; 0 keeps none.
    pub cache_seconds: u32,
    /// Milliseconds that start, input and sealing may take beyond the job's own limits.
    pub overhead_ms: u64,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            max_limits: Limits {
                memory_bytes: 4 << 30,
                wall_ms: 3_600_000,
                compile_ms: 300_000,
                output_bytes: 4 << 30,
                log_bytes: 16 << 20,
                scratch_bytes: 4 << 30,
            },
            slots: 2,
            queue: 256,
            // Above the ranges that systemd gives containers (up to 0x6FFF_FFFF).
            first_uid: 0x70F0_0000,
            first_range: 0x7100_0000,
            io_bytes: 1 << 30,
            cpu_percent: 100,
            cache_seconds: 86_400,
            overhead_ms: 60_000,
        }
    }
}
