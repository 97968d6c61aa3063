//! Tests over the whole of the crate.

mod examples;
mod real;
mod risk;
mod samples;
