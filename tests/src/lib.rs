//! decores-tests
