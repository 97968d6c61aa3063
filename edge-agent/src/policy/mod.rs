//! `/etc/reeve/agent.toml`: the machine owner's last word. Nothing the coordinator says loosens it.

mod rules;

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use reeve_protocol::ops::{Command, ExecuteCommand};
use reeve_protocol::{Refusal, limits};
use serde::Deserialize;

pub use rules::{Allow, ExecRule, FilesRule, PathRules};

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
    /// Where files may be touched.
    pub paths: PathRules,
    /// As whom; `None` is everybody.
    pub users: Option<Vec<String>>,
    /// How many at once.
    pub max_concurrent: u32,
    /// Patterns of commands that are refused.
    pub deny: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow: Allow::default(),
            paths: PathRules::default(),
            users: None,
            max_concurrent: limits::DEFAULT_MAX_CONCURRENT,
            deny: Vec::new(),
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
        Ok(Self {
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
        match self.allow.exec {
            ExecRule::All => {}
            ExecRule::Nothing => {
                return refuse(
                    "policy_exec",
                    "this machine's policy allows no commands ([allow] exec = false); only its \
                     owner can change that"
                        .to_owned(),
                );
            }
            ExecRule::Inspect => {
                return refuse(
                    "policy_exec",
                    "this machine's policy allows only commands in inspect mode ([allow] exec = \
                     \"inspect\"), and this is an ordinary one; only its owner can change that"
                        .to_owned(),
                );
            }
        }
        if let Some(users) = &self.users
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn policy_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, "[allow]\nexec = false\n").expect("written");
        for (mode, fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("changed");
            assert_eq!(Policy::load(&path, true).is_ok(), fine, "{mode:o}");
        }
        let own = crate::host::users::effective_uid();
        assert!(check_owner(&path, 0, 0o644).is_ok());
        assert!(check_owner(&path, own + 1, 0o644).is_err());
    }

    fn policy(text: &str) -> Result<Policy, String> {
        Policy::parse(text, Path::new("/p")).map_err(|error| error.to_string())
    }

    fn code(policy: &Policy, line: &str, user: &str) -> Option<String> {
        let command = ExecuteCommand::new(Command::Shell(line.to_owned()));
        policy.check(&command, user).err().map(|refusal| refusal.code)
    }

    #[test]
    fn unknown_key_is_an_error_that_names_its_line() {
        let error = policy("[allow]\nexec = true\nexce = false\n").expect_err("a typo");
        assert!(error.contains("line 3") && error.contains("exce"), "{error}");
    }

    #[test]
    fn exec_takes_three_values() {
        for (text, expected) in [
            ("", ExecRule::All),
            ("[allow]\nexec = false", ExecRule::Nothing),
            ("[allow]\nexec = \"inspect\"", ExecRule::Inspect),
        ] {
            assert_eq!(policy(text).expect(text).allow.exec, expected);
        }
        assert!(policy("[allow]\nexec = \"sometimes\"").is_err());
        assert!(policy("[exec]\nmax_concurrent = 0").is_err());
    }

    #[test]
    fn every_key_is_understood_and_kept() {
        let rules = policy(
            "[allow]\nexec = \"inspect\"\nfiles = \"read\"\nlogs = false\nterminal = false\n\
             upgrade = false\n[paths]\nallowed = [\"/srv\"]\nblocked = [\"/etc/shadow\", \"~/.ssh\"]\n\
             [exec]\nusers = [\"root\"]\nmax_concurrent = 3\ndeny = [\"reboot\"]",
        )
        .expect("valid");
        let allow = Allow {
            exec: ExecRule::Inspect,
            files: FilesRule::Read,
            logs: false,
            terminal: false,
            upgrade: false,
        };
        assert_eq!(rules.allow, allow);
        assert_eq!(rules.paths.allowed, ["/srv"]);
        assert_eq!(rules.paths.blocked, ["/etc/shadow", "~/.ssh"]);
        assert_eq!((rules.max_concurrent, rules.deny.as_slice()), (3, &["reboot".to_owned()][..]));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for text in [
            "[allow]\nfiles = true",
            "[allow]\nfiles = \"some\"",
            "[allow]\nlogs = \"yes\"",
            "[paths]\nallowed = [\"srv\"]",
            "[paths]\nallowed = [\"~\"]",
            "[paths]\nblocked = [\"/a/../b\"]",
            "[paths]\nblocked = [\"~root/x\"]",
            "[paths]\nhidden = []",
        ] {
            assert!(policy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn policy_that_comes_with_the_installer_changes_nothing() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../installer/agent.toml");
        let installed = Policy::load(&path, true).expect("it loads");
        let none = Policy::default();
        assert_eq!((installed.allow, installed.paths), (none.allow, none.paths));
        assert_eq!((installed.users, installed.deny), (none.users, none.deny));
        assert_eq!(installed.max_concurrent, none.max_concurrent);
    }

    #[test]
    fn each_rule_refuses_with_its_code() {
        let rules = policy("[exec]\nusers = [\"deploy\"]\ndeny = [\"rm -rf\", \"*mkfs*\"]");
        let rules = rules.expect("valid");
        assert_eq!(code(&rules, "uptime", "deploy"), None);
        assert_eq!(code(&rules, "uptime", "root").as_deref(), Some("policy_user"));
        assert_eq!(code(&rules, "rm -rf /x", "deploy").as_deref(), Some("policy_denied"));
        assert_eq!(code(&rules, "rm -rfoo", "deploy"), None);
        assert_eq!(code(&rules, "sudo mkfs.ext4 x", "deploy").as_deref(), Some("policy_denied"));
        let none = policy("[allow]\nexec = false").expect("valid");
        assert_eq!(code(&none, "uptime", "root").as_deref(), Some("policy_exec"));
    }

    #[test]
    fn patterns_match_whole_commands() {
        assert!(matches("reboot", "reboot"));
        assert!(!matches("reboot", "rebooted"));
        assert!(matches("*a*b", "xxaxxb"));
        assert!(!matches("*a*b", "xxaxxbc"));
        assert!(matches("a*", "a"));
    }
}
