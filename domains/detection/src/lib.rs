//! decores-detection
