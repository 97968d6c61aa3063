//! The agent's session against a scripted coordinator over an in-memory link, with real keepers and
//! real commands.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod agent;
mod answers;
mod full_disk;
mod inspections;
mod nursery;
mod promises;
mod refusals;
mod restarts;
mod users;
