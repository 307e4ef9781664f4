//! decores-launcher
