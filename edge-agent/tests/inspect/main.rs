//! Inspect mode, with real keepers and real commands: what it shows, and that nothing gets out.
//! To be run as root: only root can build the sandbox.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests"
)]
mod breakouts;
mod bus;
#[path = "../keeper/kept.rs"]
#[allow(dead_code, reason = "the keeper's own tests use more of it")]
mod kept;
mod looking;
mod sandbox;
mod scene;
