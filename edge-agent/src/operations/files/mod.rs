//! What is done with files.

mod stat;
