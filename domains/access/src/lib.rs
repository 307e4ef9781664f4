//! decores-access
