//! `/etc/reeve/agent.toml`: the machine owner's last word. Nothing the coordinator says loosens it.

mod rules;
mod tunnels;
mod versions;

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use reeve_protocol::ops::{Command, ExecuteCommand, Mode};
use reeve_protocol::{Refusal, limits};
use serde::Deserialize;

use crate::host::sandbox::UidRange;
pub use rules::{Allow, ExecRule, FilesRule, PathRules};
pub use tunnels::TunnelRule;
pub use versions::VersionRules;

/// Where it is unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/reeve/agent.toml";

/// Why the policy cannot be used. The agent does not start then: guessing would loosen it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("the policy {path} cannot be read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It makes no sense.
    #[error("the policy {path} is not valid: {source}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is out of range.
    #[error("the policy {path} is not valid: {reason}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which value and why.
        reason: String,
    },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    allow: Allow,
    paths: PathRules,
    exec: Exec,
    inspect: Inspect,
    versions: versions::Written,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Inspect {
    uid: Option<u32>,
    uids: Option<u32>,
    bus: Option<bool>,
}

impl Inspect {
    /// The range of user ids, when the owner gives one.
    fn check(&self) -> Result<Option<UidRange>, String> {
        let Some(first) = self.uid else {
            return match self.uids {
                None => Ok(None),
                Some(_) => Err("[inspect] uids needs [inspect] uid, the first of them".to_owned()),
            };
        };
        let count = self.uids.unwrap_or(1);
        // The last number of all means "none" to the kernel.
        let fits = first.checked_add(count).is_some();
        if first == 0 || count == 0 || !fits {
            return Err(format!(
                "[inspect] uid is {first} and uids {count}; they have to name users that are not \
                 root and belong to nobody"
            ));
        }
        Ok(Some(UidRange { first, count }))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Exec {
    users: Option<Vec<String>>,
    max_concurrent: Option<u32>,
    deny: Vec<String>,
}

/// What this machine lets anyone do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What may be done at all.
    pub allow: Allow,
    /// Where it was read, or would have been: never changed through Reeve.
    pub path: PathBuf,
    /// Where files may be touched.
    pub paths: PathRules,
    /// What is kept of files that are changed or removed.
    pub versions: VersionRules,
    /// As whom; `None` is everybody.
    pub users: Option<Vec<String>>,
    /// How many at once.
    pub max_concurrent: u32,
    /// Patterns of commands that are refused.
    pub deny: Vec<String>,
    /// Whose commands in inspect mode are; `None` chooses.
    pub inspect_uids: Option<UidRange>,
    /// Whether they may ask the D-Bus system bus.
    pub inspect_bus: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow: Allow::default(),
            path: PathBuf::from(DEFAULT_PATH),
            paths: PathRules::default(),
            versions: VersionRules::default(),
            users: None,
            max_concurrent: limits::DEFAULT_MAX_CONCURRENT,
            deny: Vec::new(),
            inspect_uids: None,
            inspect_bus: true,
        }
    }
}

impl Policy {
    /// Reads the policy. Without a file everything is allowed, unless the path was `asked_for`.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub fn load(path: &Path, asked_for: bool) -> Result<Self, PolicyError> {
        let io_error = |source| PolicyError::Io { path: path.to_owned(), source };
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked_for => {
                return Ok(Self::default());
            }
            Err(source) => return Err(io_error(source)),
        };
        // Looked at through the open file, so that it is the one that is read.
        let metadata = file.metadata().map_err(io_error)?;
        check_owner(path, metadata.uid(), metadata.mode())?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io_error)?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        let written: Written = toml::from_str(text).map_err(|error| PolicyError::Invalid {
            path: path.to_owned(),
            source: Box::new(error),
        })?;
        let most = written.exec.max_concurrent.unwrap_or(limits::DEFAULT_MAX_CONCURRENT);
        if !(1..=limits::MAX_CONCURRENT).contains(&most) {
            return Err(PolicyError::Value {
                path: path.to_owned(),
                reason: format!(
                    "[exec] max_concurrent is {most}; it has to be between 1 and {}",
                    limits::MAX_CONCURRENT
                ),
            });
        }
        if let Some(reason) = written.paths.find_fault() {
            return Err(PolicyError::Value { path: path.to_owned(), reason });
        }
        let inspect_uids = written
            .inspect
            .check()
            .map_err(|reason| PolicyError::Value { path: path.to_owned(), reason })?;
        let versions = written
            .versions
            .resolve()
            .map_err(|reason| PolicyError::Value { path: path.to_owned(), reason })?;
        Ok(Self {
            // A keeper's child has another working directory than the agent.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            versions,
            inspect_uids,
            inspect_bus: written.inspect.bus.unwrap_or(true),
            allow: written.allow,
            paths: written.paths,
            users: written.exec.users,
            max_concurrent: most,
            deny: written.exec.deny,
        })
    }

    /// Whether the command may run as this user.
    ///
    /// # Errors
    /// Why not, as it is to be reported.
    pub fn check(&self, command: &ExecuteCommand, user: &str) -> Result<(), Refusal> {
        let refuse = |code: &str, message: String| Err(Refusal { code: code.to_owned(), message });
        match (self.allow.exec, command.mode) {
            (ExecRule::All, _) | (ExecRule::Inspect, Mode::Inspect) => {}
            (ExecRule::Nothing, _) => {
                return refuse(
                    "policy_exec",
                    "this machine's policy allows no commands ([allow] exec = false); only its \
                     owner can change that"
                        .to_owned(),
                );
            }
            (ExecRule::Inspect, Mode::Normal) => {
                return refuse(
                    "policy_exec",
                    "this machine's policy allows only commands in inspect mode ([allow] exec = \
                     \"inspect\"), and this is an ordinary one; only its owner can change that"
                        .to_owned(),
                );
            }
        }
        // In inspect mode a command runs as nobody of this machine.
        if let Some(users) = &self.users
            && command.mode == Mode::Normal
            && !users.iter().any(|allowed| allowed == user)
        {
            return refuse(
                "policy_user",
                format!(
                    "this machine's policy does not let commands run as '{user}' ([exec] users = \
                     {users:?}); choose one of these with --user"
                ),
            );
        }
        let text = match &command.command {
            Command::Argv(argv) => argv.join(" "),
            Command::Shell(line) => line.trim().to_owned(),
        };
        if let Some(pattern) = self.deny.iter().find(|pattern| matches(pattern, &text)) {
            return refuse(
                "policy_denied",
                format!(
                    "this machine's policy refuses commands like \"{pattern}\" ([exec] deny); \
                     only its owner can change that"
                ),
            );
        }
        Ok(())
    }
}

/// A pattern without `*` is the beginning of a command, whole words; `*` stands for anything. A
/// guard against accidents, not against somebody who wants to go round it.
fn matches(pattern: &str, text: &str) -> bool {
    if !pattern.contains('*') {
        return text
            .strip_prefix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// The policy is the machine owner's last word: whoever may not become the agent's user must not
/// be able to change it.
fn check_owner(path: &Path, owner: u32, mode: u32) -> Result<(), PolicyError> {
    let own = crate::host::users::effective_uid();
    let reason = if owner != 0 && owner != own {
        format!(
            "it belongs to uid {owner}; it has to belong to root or to the agent's user ({own})"
        )
    } else if mode & 0o022 != 0 {
        format!(
            "others may write to it (mode {:o}); take that away with 'chmod go-w {}'",
            mode & 0o7777,
            path.display()
        )
    } else {
        return Ok(());
    };
    Err(PolicyError::Value { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests;
