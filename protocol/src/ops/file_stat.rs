//! `file_stat`: what something at a path is. Changes nothing. The answer is one JSON document on
//! stdout: [`FileEntry`].

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work};

/// Look at what is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileStat {
    /// Where.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// Look at what a symbolic link at the path leads to, instead of the link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Hash the content of a regular file too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hash: bool,
}

impl Operation for FileStat {
    const NAME: &'static str = "file_stat";
}

impl Work for FileStat {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        Ok(self.path.check()?)
    }

    fn describe(&self) -> String {
        format!("look at {}", self.path.display())
    }
}

/// What kind of thing is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    #[serde(other)]
    Unknown,
}

/// One thing in a file system, as stat(2) tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEntry {
    /// Where it is.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Bytes it takes up on the disk; less than `size` when there are holes in it.
    #[serde(default)]
    pub allocated: u64,
    /// Permission bits with set-user-id and the like, `0o7777` at most.
    pub mode: u32,
    /// Whose.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
    /// The owner's name, when the machine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group's name, when the machine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// When its content was changed, machine's clock, nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything of it was changed, likewise (st_ctim).
    #[serde(default)]
    pub changed_ns: i64,
    /// Device number and inode, which name it as long as it exists.
    #[serde(default)]
    pub device: u64,
    /// See `device`.
    #[serde(default)]
    pub inode: u64,
    /// Names it has.
    #[serde(default)]
    pub links: u64,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub target: Option<RemotePath>,
    /// BLAKE3 of its content, hexadecimal, when that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}
