//! The stages of a task as pure functions of recorded inputs. No I/O, no clock, no randomness: the
//! number in a prompt's markers ([`Nonce`]) and everything else that changes is an argument.
//!
//! Each stage that asks a model has the same shape:
//!
//! ```text
//! Input ──ask(input, nonce)──► Ask ──(a model answers)──► text ──read(input, text)──► result
//! ```
//!
//! `Input` and result are serde types; a [`Record`] of input, nonce and answer gives the same result
//! again ([`replay()`]). What a model answers is never taken on trust: `read` refuses what is not the
//! schema, keeps machines, user and limits as they were given, and holds every quote against the
//! bytes that were shown ([`evidence`]). Without a model, rules do what they can
//! ([`validate::by_rules`], [`summary::by_rules`]).
//!
//! | stage | asks | gives |
//! |---|---|---|
//! | [`plan`] | the planner, with machines, policy, what was looked at | explore, plan, question or give up |
//! | [`validate`] | the validator, for each class of like results | a verdict with evidence |
//! | [`alternative`] | the planner, with what failed | another command, or none |
//! | [`summary`] | the summariser | text with citations |
//!
//! What they share: [`compact`] makes output small, [`group`] puts like results together, [`sample`]
//! is what a model sees of a class, [`machines`] what it sees of machines, [`markers`] and [`clean`]
//! keep what others wrote from being more than data, [`tokens`] says how much fits.
//!
//! Result and reading never decide what may run. That is for risk, policy and approval, which every
//! command passes: planned, explored, alternative.

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
pub mod stall;
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
