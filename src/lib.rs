//! Jangbu
