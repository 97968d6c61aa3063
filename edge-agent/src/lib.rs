//! The program on each machine: agent and keeper.

pub mod host;
pub mod keeper;
