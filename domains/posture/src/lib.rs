//! decores-posture
