//! The past: what a moment comes to, what was to be seen then, and how it came about.

mod explaining;
mod replaying;
mod resolving;
mod seen;
