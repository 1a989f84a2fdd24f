//! Importing past data: the whole journey, twice, stopped half-way, and everything a file can get wrong.

pub mod files;
mod journey;
mod orders;
mod products;
