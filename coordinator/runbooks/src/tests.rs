//! Tests over the whole of the crate.

mod corpus;
mod examples;
mod foreign;
mod machines;
mod real;
mod risk;
mod samples;
