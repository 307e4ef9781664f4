//! decores-keystore-file
