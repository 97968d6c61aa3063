//! `execute_command`: run a program and bring back everything it wrote and how it ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Operation;
use crate::limits;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A program and its arguments, handed to execve(2) untouched. The program is looked up in the
    /// command's own `PATH` unless it has a slash.
    Argv(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// Where the command's stdin comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// `control` messages with `input` and `close_input`.
    Stream,
}

/// What happens while the spool on the machine is full, because the coordinator is away or slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolFull {
    /// The command's next write waits, as with any full pipe.
    #[default]
    Block,
    /// The oldest output not yet sent is dropped and reported as a gap; the command never waits.
    DropMiddle,
}

/// What becomes of processes the command left behind when it exited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    /// They are killed, counted and reported.
    #[default]
    Kill,
    /// They stay.
    Keep,
}

/// How much of the machine the command can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything its user can.
    #[default]
    Normal,
    /// Inspect mode: the kernel lets it look and change nothing. A machine that cannot enforce
    /// that refuses (`inspect_unavailable`); it is never weakened.
    Inspect,
}

/// What of the network a command in inspect mode has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A network namespace of its own, with nothing in it.
    #[default]
    None,
    /// It sees the machine's interfaces, routes and sockets, and can open none.
    View,
    /// It may talk: name look-ups, pings, requests. Not harmless by itself.
    Use,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Run a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecuteCommand {
    /// What to run.
    pub command: Command,
    /// As whom; `None` is the agent's own user. Not in inspect mode, which has users of its own.
    #[serde(default)]
    pub user: Option<String>,
    /// Where; `None` is the user's home, or `/` when that does not exist.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Added to a small clean environment (`PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `LANG`,
    /// `REEVE_OPERATION`).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where stdin comes from.
    #[serde(default)]
    pub stdin: Stdin,
    /// End it after this long, milliseconds; `None` lets it run.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Between asking it to end and killing it, milliseconds.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// When the spool is full.
    #[serde(default)]
    pub spool_full: SpoolFull,
    /// What it left running.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// How much of the machine it can reach.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// In inspect mode: what it has of the network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: Network,
    /// Secrets in its output are replaced on the machine, before anything of it is stored or sent:
    /// for output that a model will read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redact: bool,
}

fn default_grace_ms() -> u64 {
    u64::try_from(limits::DEFAULT_GRACE.as_millis()).unwrap_or(u64::MAX)
}

impl Operation for ExecuteCommand {
    const NAME: &'static str = "execute_command";
}

/// What is wrong with a command before anybody tries to run it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidCommand {
    #[error("the command is empty; give a program and its arguments, or a shell line")]
    Empty,
    #[error("{0} holds a NUL byte, which no program can be given (execve(2))")]
    Nul(&'static str),
    #[error("the command has {0} arguments; at most {max} are allowed", max = limits::MAX_ARGUMENTS)]
    TooManyArguments(usize),
    #[error("the command is {0} bytes long; at most {max} are allowed: pass larger input on stdin", max = limits::MAX_COMMAND_BYTES)]
    TooLong(usize),
    #[error("the environment has {0} entries; at most {max} are allowed", max = limits::MAX_ENVIRONMENT)]
    TooManyVariables(usize),
    #[error("the environment is {0} bytes long; at most {max} are allowed", max = limits::MAX_ENVIRONMENT_BYTES)]
    EnvironmentTooLong(usize),
    #[error("'{0}' is not a name for an environment variable")]
    BadVariable(String),
    #[error("the directory '{0}' is not absolute")]
    RelativeDirectory(String),
    #[error("the user name is empty or longer than 256 bytes")]
    BadUser,
    #[error(
        "inspect mode and a user cannot be combined: such commands run as a user of their own that \
         may read everything; leave one of them out"
    )]
    InspectAsUser,
    #[error(
        "in inspect mode nothing may stay behind when the command ends; leave out 'leftovers: keep'"
    )]
    InspectKeeps,
    #[error("the timeout is 0; leave it out to let the command run")]
    ZeroTimeout,
    #[error("the grace of {0} ms is longer than {max:?}", max = limits::MAX_GRACE)]
    GraceTooLong(u64),
}

impl ExecuteCommand {
    /// A command with every option at its default.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            command,
            user: None,
            cwd: None,
            env: BTreeMap::new(),
            stdin: Stdin::Null,
            timeout_ms: None,
            grace_ms: default_grace_ms(),
            spool_full: SpoolFull::Block,
            leftovers: Leftovers::Kill,
            mode: Mode::Normal,
            network: Network::None,
            redact: false,
        }
    }

    /// Checks everything that can be checked without the machine. Both ends call it: the
    /// coordinator to answer at once, the agent because it trusts nobody.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), InvalidCommand> {
        let parts: Vec<&str> = match &self.command {
            Command::Argv(argv) => {
                if argv.first().is_none_or(String::is_empty) {
                    return Err(InvalidCommand::Empty);
                }
                argv.iter().map(String::as_str).collect()
            }
            Command::Shell(line) => {
                if line.trim().is_empty() {
                    return Err(InvalidCommand::Empty);
                }
                vec![line]
            }
        };
        if parts.len() > limits::MAX_ARGUMENTS {
            return Err(InvalidCommand::TooManyArguments(parts.len()));
        }
        let length = parts.iter().map(|part| part.len() + 1).sum::<usize>();
        if length > limits::MAX_COMMAND_BYTES {
            return Err(InvalidCommand::TooLong(length));
        }
        if parts.iter().any(|part| part.contains('\0')) {
            return Err(InvalidCommand::Nul("the command"));
        }
        self.validate_surroundings()
    }

    fn validate_surroundings(&self) -> Result<(), InvalidCommand> {
        if self.env.len() > limits::MAX_ENVIRONMENT {
            return Err(InvalidCommand::TooManyVariables(self.env.len()));
        }
        let length = self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if length > limits::MAX_ENVIRONMENT_BYTES {
            return Err(InvalidCommand::EnvironmentTooLong(length));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(InvalidCommand::BadVariable(name.clone()));
            }
            if value.contains('\0') {
                return Err(InvalidCommand::Nul("the environment"));
            }
        }
        if let Some(cwd) = &self.cwd {
            if !cwd.starts_with('/') {
                return Err(InvalidCommand::RelativeDirectory(cwd.clone()));
            }
            if cwd.contains('\0') {
                return Err(InvalidCommand::Nul("the directory"));
            }
        }
        if let Some(user) = &self.user
            && (user.is_empty() || user.len() > 256 || user.contains('\0'))
        {
            return Err(InvalidCommand::BadUser);
        }
        if self.mode == Mode::Inspect {
            if self.user.is_some() {
                return Err(InvalidCommand::InspectAsUser);
            }
            if self.leftovers == Leftovers::Keep {
                return Err(InvalidCommand::InspectKeeps);
            }
        }
        if self.timeout_ms == Some(0) {
            return Err(InvalidCommand::ZeroTimeout);
        }
        if u128::from(self.grace_ms) > limits::MAX_GRACE.as_millis() {
            return Err(InvalidCommand::GraceTooLong(self.grace_ms));
        }
        Ok(())
    }
}
