//! The stages of a task as pure functions of recorded inputs. No I/O, no clock, no randomness.

pub mod alternative;
pub mod ask;
pub mod clean;
pub mod compact;
pub mod evidence;
pub mod group;
#[cfg(feature = "testing")]
pub mod injection;
pub mod machines;
pub mod markers;
mod nearest;
pub mod plan;
pub mod replay;
pub mod sample;
mod schemas;
pub mod summary;
pub mod tokens;
pub mod validate;

pub use ask::{Ask, Speaker, Stage};
pub use compact::Excerpt;
pub use evidence::verify;
pub use machines::Machine;
pub use markers::Nonce;
pub use replay::{Record, replay};
pub use sample::Sample;
pub use tokens::Window;
