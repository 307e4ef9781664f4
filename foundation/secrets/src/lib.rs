//! decores-secrets
