//! Reeve's public API: its shapes ([`api`]) and, with the `client` feature, a typed async client.

pub mod api;
