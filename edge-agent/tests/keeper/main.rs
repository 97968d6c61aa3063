//! A keeper alone, driven over its socket as an agent drives it. Real processes throughout.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]
mod command;
mod endings;
mod golden;
mod kept;
mod redacted;
mod spool;
mod terminal;
