//! decores-sandbox
