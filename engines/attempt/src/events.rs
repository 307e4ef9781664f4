//! Telling the node.

use crate::error::{EngineError, doing};
use decores_jail::LockReport;
use decores_sandbox::protocol::{EngineEvent, Locked, MAX_EVENT};
use std::fs::File;
use std::io::Write;

/// Writes events, one a line.
#[derive(Debug)]
pub struct Events(File);

impl Events {
    /// To this descriptor.
    pub const fn new(target: File) -> Self {
        Self(target)
    }

    /// Says what holds the engine, which its first event does.
    ///
    /// # Errors
    /// If the node does not listen.
    pub fn locked(&mut self, engine: &str, report: LockReport, secrets: String) -> Result<(), EngineError> {
        self.send(&EngineEvent::Locked(Locked {
            engine: engine.to_owned(),
            seccomp: report.seccomp,
            landlock_abi: report.landlock_abi,
            secrets,
        }))
    }

    /// Writes one event.
    ///
    /// # Errors
    /// If it is too long, or the node does not listen.
    pub fn send(&mut self, event: &EngineEvent) -> Result<(), EngineError> {
        let mut line = serde_json::to_vec(event).map_err(|e| EngineError::Io("writing an event", e.into()))?;
        line.push(b'\n');
        if line.len() > MAX_EVENT {
            return Err(EngineError::Protocol("an event is too long"));
        }
        self.0.write_all(&line).map_err(doing("writing an event"))
    }
}
