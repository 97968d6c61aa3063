//! The values that a policy may have.

use serde::Deserialize;

use super::TunnelRule;

/// Whether commands may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecRule {
    /// None.
    Nothing,
    /// Only such as cannot change anything.
    Inspect,
    /// All.
    #[default]
    All,
}

/// What may be done with files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilesRule {
    /// Nothing.
    Nothing,
    /// Only reading.
    Read,
    /// Everything.
    #[default]
    Write,
}

/// A value that is `false` or one of some words (or `true`, where that is one of them).
#[derive(Deserialize)]
#[serde(untagged)]
enum Choice {
    Flag(bool),
    Word(String),
}

impl<'de> Deserialize<'de> for ExecRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Choice::deserialize(deserializer)? {
            Choice::Flag(true) => Ok(Self::All),
            Choice::Flag(false) => Ok(Self::Nothing),
            Choice::Word(word) if word == "inspect" => Ok(Self::Inspect),
            Choice::Word(word) => Err(serde::de::Error::custom(format!(
                "exec is false, \"inspect\" or true, not \"{word}\""
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for FilesRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Choice::deserialize(deserializer)? {
            Choice::Flag(false) => Ok(Self::Nothing),
            Choice::Word(word) if word == "read" => Ok(Self::Read),
            Choice::Word(word) if word == "write" => Ok(Self::Write),
            Choice::Flag(true) => {
                Err(serde::de::Error::custom("files is false, \"read\" or \"write\", not true"))
            }
            Choice::Word(word) => Err(serde::de::Error::custom(format!(
                "files is false, \"read\" or \"write\", not \"{word}\""
            ))),
        }
    }
}

/// What may be done at all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Whether commands may run.
    pub exec: ExecRule,
    /// What may be done with files.
    pub files: FilesRule,
    /// Whether logs may be read.
    pub logs: bool,
    /// Whether terminals may be opened.
    pub terminal: bool,
    /// Whether the agent may be replaced by a newer one.
    pub upgrade: bool,
    /// Where tunnels may lead; nowhere unless said.
    pub tunnels: Vec<TunnelRule>,
}

impl Default for Allow {
    fn default() -> Self {
        Self {
            exec: ExecRule::All,
            files: FilesRule::Write,
            logs: true,
            terminal: true,
            upgrade: true,
            tunnels: Vec::new(),
        }
    }
}

/// Where files may be touched. Commands can go round this; operations on files and logs cannot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathRules {
    /// Only beneath these.
    pub allowed: Vec<String>,
    /// Never these nor what is beneath them; a leading `~` stands for every user's home.
    pub blocked: Vec<String>,
}

impl Default for PathRules {
    fn default() -> Self {
        let blocked = ["/etc/shadow", "/root/.ssh", "~/.ssh"];
        Self { allowed: vec!["/".to_owned()], blocked: blocked.map(str::to_owned).to_vec() }
    }
}

impl PathRules {
    /// Which path makes no sense, and why.
    pub(super) fn find_fault(&self) -> Option<String> {
        let is_plain = |path: &str| !path.split('/').any(|part| part == ".." || part == ".");
        let bad_allowed =
            self.allowed.iter().find(|path| !path.starts_with('/') || !is_plain(path));
        if let Some(path) = bad_allowed {
            return Some(format!(
                "[paths] allowed has \"{path}\"; it has to be a path from the root, without . and .."
            ));
        }
        let is_home = |path: &str| path == "~" || path.starts_with("~/");
        let bad_blocked = self
            .blocked
            .iter()
            .find(|path| !(path.starts_with('/') || is_home(path)) || !is_plain(path));
        bad_blocked.map(|path| {
            format!(
                "[paths] blocked has \"{path}\"; it has to be a path from the root or from ~, \
                 without . and .."
            )
        })
    }
}
