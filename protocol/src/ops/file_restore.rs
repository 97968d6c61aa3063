//! `file_restore`: puts a version that was kept back in its place, in one step, with the mode, owner
//! and times it had. What is there now is kept as a version first. The answer is one JSON document
//! on stdout: [`super::FileEntry`].

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work, check_hash};

/// Put back a version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileRestore {
    /// Which file; it need not be there any more.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// Which version of it: the `id` that `file_history` tells.
    pub version: u64,
    /// Only if what is there now has this content: BLAKE3, hexadecimal. Else `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Make folders above it that are not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
}

impl FileRestore {
    /// Whatever is there now.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>, version: u64) -> Self {
        Self { path: path.into(), version, if_match: None, parents: false }
    }
}

impl Operation for FileRestore {
    const NAME: &'static str = "file_restore";
}

impl Work for FileRestore {
    fn effect(&self) -> Effect {
        Effect::Change
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        check_hash("if_match", self.if_match.as_deref())
    }

    fn describe(&self) -> String {
        format!("restore version {} of {}", self.version, self.path.display())
    }
}
