//! `reeve-coordinator`.

fn main() {}
