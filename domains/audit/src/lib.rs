//! decores-audit
