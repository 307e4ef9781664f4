//! decores-telemetry
