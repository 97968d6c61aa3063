//! Tests over the whole of the crate.

mod checks;
mod corpus;
mod examples;
mod foreign;
mod lines;
mod machines;
mod page;
mod real;
mod risk;
mod samples;
