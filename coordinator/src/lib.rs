//! Reeve's server.

pub mod machines;
