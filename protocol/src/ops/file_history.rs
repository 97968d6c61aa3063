//! `file_history`: the versions of a path that were kept on the machine. Changes nothing. The answer
//! is JSON lines on stdout: [`FileVersion`] each, newest first. None is an empty answer.

use serde::{Deserialize, Serialize};

use super::{Effect, FileKind, InvalidWork, Operation, RemotePath, Work};
use crate::OperationId;

/// List the versions of a file that were kept before it was changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileHistory {
    /// Of which file; it need not be there any more.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// Of everything that is or was beneath it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beneath: bool,
}

impl FileHistory {
    /// Of one file.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self { path: path.into(), beneath: false }
    }
}

impl Operation for FileHistory {
    const NAME: &'static str = "file_history";
}

impl Work for FileHistory {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        Ok(self.path.check()?)
    }

    fn describe(&self) -> String {
        format!("list versions of {}", self.path.display())
    }
}

/// What was done to a file right after a version of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileDeed {
    /// New content took its place.
    Overwritten,
    /// It was removed.
    Removed,
    /// Another file was moved to its path.
    MovedOver,
    /// An older version took its place.
    Restored,
    /// Something that a newer agent does.
    #[serde(other)]
    Unknown,
}

/// A version that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Names it on its machine; larger is newer.
    pub id: u64,
    /// Where the file was, without symbolic links on the way.
    pub path: RemotePath,
    /// A file or a symbolic link.
    pub kind: FileKind,
    /// When it was kept, machine's clock, microseconds since 1970.
    pub kept_us: i64,
    /// What was done then.
    pub deed: FileDeed,
    /// By which operation.
    pub operation: OperationId,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whose it was.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
    /// When its content had been changed, nanoseconds since 1970.
    pub modified_ns: i64,
    /// BLAKE3 of the content, hexadecimal; none for a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Where a symbolic link led.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RemotePath>,
}
