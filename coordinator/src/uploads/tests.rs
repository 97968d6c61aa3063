//! Uploads over HTTP, and the operations that read them, with scripted agents.

mod feeding;
mod keeping;
