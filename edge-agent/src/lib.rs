//! The program on each machine: agent and keeper.

pub mod commands;
pub mod host;
pub mod keeper;
pub mod operations;
pub mod policy;
pub mod state;
pub mod tasks;
pub mod telemetry;
pub mod uplink;
pub mod versions;
