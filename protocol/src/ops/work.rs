//! What operations have in common that are done by our own program rather than by a command of the
//! machine's: files, logs, services and so on. On the machine a *worker* does them, a child of a
//! keeper like any command, so that they outlive the agent, end with everything they started, and
//! send output, take stdin and report their end as commands do.
//!
//! A worker's stdout is the operation's answer, in the form its file here describes. When it fails it
//! exits with 1 and the last line of stderr is one [`Failure`] as JSON; lines before it are warnings
//! of the same form.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidPath, Operation, RemotePath};
use crate::CodecError;

/// An operation that a worker does.
pub trait Work: Operation {
    /// What this very request may do to the machine.
    fn effect(&self) -> Effect;

    /// Whether it makes sense, as far as can be said without the machine.
    ///
    /// # Errors
    /// What is wrong with it.
    fn validate(&self) -> Result<(), InvalidWork>;

    /// Whether it takes stdin.
    fn has_stdin(&self) -> bool {
        false
    }

    /// The request for people, in a few words: `read /etc/hosts`.
    fn describe(&self) -> String;
}

/// [`Work`] of whatever kind.
pub trait AnyWork {
    /// The operation's name.
    fn name(&self) -> &'static str;
    /// As [`Work::effect`].
    fn effect(&self) -> Effect;
    /// As [`Work::validate`].
    ///
    /// # Errors
    /// What is wrong with it.
    fn validate(&self) -> Result<(), InvalidWork>;
    /// As [`Work::has_stdin`].
    fn has_stdin(&self) -> bool;
    /// As [`Work::describe`].
    fn describe(&self) -> String;
    /// The body of its request.
    ///
    /// # Errors
    /// When it cannot be encoded.
    fn encode(&self) -> Result<Vec<u8>, CodecError>;
}

impl<W: Work> AnyWork for W {
    fn name(&self) -> &'static str {
        W::NAME
    }
    fn effect(&self) -> Effect {
        Work::effect(self)
    }
    fn validate(&self) -> Result<(), InvalidWork> {
        Work::validate(self)
    }
    fn has_stdin(&self) -> bool {
        Work::has_stdin(self)
    }
    fn describe(&self) -> String {
        Work::describe(self)
    }
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        crate::encode(self)
    }
}

/// What is wrong with a request before anybody tries to do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidWork {
    #[error(transparent)]
    Path(#[from] InvalidPath),
    #[error("{0}")]
    Value(String),
}

/// Why a worker could not do what was asked, or what it had to leave out: one line of JSON on its
/// stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable, such as `not_found`, `not_permitted`, `policy_path`, `disk_full`, `changed`.
    pub code: String,
    /// What, why, and what to do about it; for people.
    pub message: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RemotePath>,
}

impl Failure {
    /// A failure about nothing in particular.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), path: None }
    }

    /// A failure about a path.
    #[must_use]
    pub fn at(code: &str, path: &RemotePath, message: impl Into<String>) -> Self {
        Self { path: Some(path.clone()), ..Self::new(code, message) }
    }
}
