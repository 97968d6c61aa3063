//! Entries of logs: shown, and put into groups.

pub mod drain;
pub mod errors;
pub mod print;
pub mod times;
