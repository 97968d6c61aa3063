//! `file_mode`: changes permission bits and owners. The answer is one JSON document on stdout:
//! [`FileModeChanged`]. What could not be changed on the way through a folder is a warning, and the
//! operation fails in the end (`incomplete`).

use serde::{Deserialize, Serialize};

use super::{Effect, FileEntry, InvalidWork, Operation, RemotePath, Work};

/// Change permission bits and owners. New bits are `((mode, or what is there) without clear) with
/// add`, so that every change that chmod(1) knows but copying bits from one class to another can be
/// said for many files at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileMode {
    /// What. A symbolic link is never followed: its owner can be changed, bits it has none.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// These bits instead of those that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Bits to take away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clear: u32,
    /// Bits to add.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub add: u32,
    /// Bits to add to folders, and to files that somebody may execute (`X` of chmod(1)).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub add_search: u32,
    /// The new owner, name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The new group, name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Everything in a folder too. Symbolic links in it are not followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(bits: &u32) -> bool {
    *bits == 0
}

/// Whether it is one of the bits that chmod(2) knows.
pub(super) fn check_mode(name: &str, mode: u32) -> Result<(), InvalidWork> {
    if mode <= 0o7777 {
        return Ok(());
    }
    Err(InvalidWork::Value(format!("{name} is {mode:o}; it has to be between 0 and 7777, octal")))
}

impl FileMode {
    /// Nothing yet.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self {
            path: path.into(),
            mode: None,
            clear: 0,
            add: 0,
            add_search: 0,
            user: None,
            group: None,
            recursive: false,
        }
    }

    /// Whether bits are to be changed.
    #[must_use]
    pub fn changes_bits(&self) -> bool {
        self.mode.is_some() || self.clear != 0 || self.add != 0 || self.add_search != 0
    }

    /// The bits of something that has these now.
    #[must_use]
    pub fn new_bits(&self, now: u32, is_folder: bool) -> u32 {
        let bits = (self.mode.unwrap_or(now) & !self.clear) | self.add;
        let searched = is_folder || now & 0o111 != 0;
        (if searched { bits | self.add_search } else { bits }) & 0o7777
    }
}

impl Operation for FileMode {
    const NAME: &'static str = "file_mode";
}

impl Work for FileMode {
    fn effect(&self) -> Effect {
        Effect::Change
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        if self.recursive && self.path.is_root() {
            return Err(InvalidWork::Value(
                "everything on a machine is never changed at once; name folders".to_owned(),
            ));
        }
        for (name, bits) in [
            ("mode", self.mode.unwrap_or(0)),
            ("clear", self.clear),
            ("add", self.add),
            ("add_search", self.add_search),
        ] {
            check_mode(name, bits)?;
        }
        if !self.changes_bits() && self.user.is_none() && self.group.is_none() {
            return Err(InvalidWork::Value(
                "nothing is to be changed; give bits, a user or a group".to_owned(),
            ));
        }
        for name in [&self.user, &self.group].into_iter().flatten() {
            if name.is_empty() || name.len() > 256 || name.contains('\0') {
                return Err(InvalidWork::Value(
                    "a user or group is a name or a number, not empty, at most 256 bytes"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.mode.map(|mode| format!("bits {mode:04o}")));
        for (word, bits) in [("without", self.clear), ("with", self.add), ("X", self.add_search)] {
            parts.extend((bits != 0).then(|| format!("{word} {bits:04o}")));
        }
        parts.extend(self.user.as_ref().map(|user| format!("user {}", user.escape_debug())));
        parts.extend(self.group.as_ref().map(|group| format!("group {}", group.escape_debug())));
        let all = if self.recursive { " and everything in it" } else { "" };
        format!("change {}{all}: {}", self.path.display(), parts.join(", "))
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileModeChanged {
    /// How many were changed; what was as asked already counts too.
    pub changed: u64,
    /// What is at the path now.
    pub entry: FileEntry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_chmod() {
        let change = FileMode::new("/a");
        let set = FileMode { mode: Some(0o640), ..change.clone() };
        assert_eq!(set.new_bits(0o4755, false), 0o640);
        // u=rwX,g-w,o=
        let symbolic = FileMode { clear: 0o727, add: 0o600, add_search: 0o100, ..change.clone() };
        assert_eq!(symbolic.new_bits(0o664, false), 0o640);
        assert_eq!(symbolic.new_bits(0o775, false), 0o750);
        assert_eq!(symbolic.new_bits(0o664, true), 0o740);
        assert!(change.validate().is_err(), "nothing to do");
        assert!(FileMode { add: 0o10000, ..change }.validate().is_err());
        let all = FileMode { add: 0o7, recursive: true, ..FileMode::new("//") };
        assert!(all.validate().is_err());
    }
}
