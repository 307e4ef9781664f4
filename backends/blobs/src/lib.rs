//! decores-blobs
