//! `file_find`: what there is beneath a path. Changes nothing. The answer is JSON lines: a
//! [`super::FileEntry`] each, folders before what is in them, names in the order of their bytes.

use serde::{Deserialize, Serialize};

use super::{Effect, FileKind, InvalidWork, Operation, RemotePath, Work};

/// Patterns of one kind in one request.
pub const MAX_GLOBS: usize = 100;
/// Bytes of one pattern.
pub const MAX_GLOB_BYTES: usize = 1024;

/// List what there is beneath a path and fits all that is asked. Symbolic links are listed and not
/// followed. What the machine's policy blocks is counted in a warning and not named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileFind {
    /// Where to begin. It is listed itself when it fits.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// Globs, any of which has to fit: the name; with a '/' in it the path below `path`, and with
    /// one at its beginning the whole path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globs: Vec<String>,
    /// Globs none of which may fit. What is in folders that one fits is left out too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Capital and small letters are the same to the globs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// Only these kinds; empty is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<FileKind>,
    /// Only files of at least so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// Only files of at most so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Only what was modified within the last so many seconds, by the machine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_than_s: Option<u64>,
    /// Only what was not modified within the last so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_s: Option<u64>,
    /// Only what belongs to this user, a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Folders deep below `path`, which is 0 itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u32>,
    /// Leave out names that begin with a dot, and what is in such folders.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_hidden: bool,
    /// Stay on the file system of `path`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_file_system: bool,
    /// End after so many; a warning with the code `limit` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl FileFind {
    /// Everything beneath a path.
    #[must_use]
    pub fn new(path: RemotePath) -> Self {
        Self {
            path,
            globs: Vec::new(),
            exclude: Vec::new(),
            ignore_case: false,
            kinds: Vec::new(),
            min_size: None,
            max_size: None,
            newer_than_s: None,
            older_than_s: None,
            owner: None,
            max_depth: None,
            skip_hidden: false,
            one_file_system: false,
            limit: None,
        }
    }
}

impl Operation for FileFind {
    const NAME: &'static str = "file_find";
}

impl Work for FileFind {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        check_globs(&self.globs)?;
        check_globs(&self.exclude)
    }

    fn describe(&self) -> String {
        format!("find files beneath {}", self.path.display())
    }
}

/// # Errors
/// When there are too many, or one is too long.
pub(super) fn check_globs(globs: &[String]) -> Result<(), InvalidWork> {
    if globs.len() > MAX_GLOBS {
        return Err(InvalidWork::Value(format!(
            "{} globs are given; at most {MAX_GLOBS} can be",
            globs.len()
        )));
    }
    if globs.iter().any(|glob| glob.is_empty() || glob.len() > MAX_GLOB_BYTES) {
        return Err(InvalidWork::Value(format!("a glob has 1 to {MAX_GLOB_BYTES} bytes")));
    }
    Ok(())
}
