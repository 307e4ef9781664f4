//! decores-store-sqlite
