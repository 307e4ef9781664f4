//! decores-http
