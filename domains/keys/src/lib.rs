//! decores-keys
