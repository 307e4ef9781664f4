//! decores-api
