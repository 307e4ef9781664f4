//! decores-system
