//! Tests over the whole of the crate.

mod examples;
