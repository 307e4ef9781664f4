//! Telling the node.

use crate::error::{EngineError, doing};
use decores_sandbox::protocol::{EngineEvent, MAX_EVENT};
use std::fs::File;
use std::io::Write;

/// Writes events, one a line.
pub(crate) struct Events(pub(crate) File);

impl Events {
    /// Writes one event.
    pub(crate) fn send(&mut self, event: &EngineEvent) -> Result<(), EngineError> {
        let mut line = serde_json::to_vec(event).map_err(|e| EngineError::Io("writing an event", e.into()))?;
        line.push(b'\n');
        if line.len() > MAX_EVENT {
            return Err(EngineError::Protocol("an event is too long"));
        }
        self.0.write_all(&line).map_err(doing("writing an event"))
    }
}
