//! A keeper alone, driven over its socket as an agent drives it. Real processes throughout.

mod command;
mod endings;
mod kept;
mod spool;
