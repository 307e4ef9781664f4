//! decores-jail
