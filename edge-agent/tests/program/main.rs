//! The real program against a scripted coordinator behind real TLS: enrolment, pins, sessions.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod enrolment;
mod server;
