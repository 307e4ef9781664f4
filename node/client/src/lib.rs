//! decores-client
