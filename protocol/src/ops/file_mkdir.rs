//! `file_mkdir`: makes a folder. The answer is one JSON document on stdout: [`super::FileEntry`] of
//! the folder.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work};
use crate::ops::file_mode::check_mode;

/// Make a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileMkdir {
    /// Where.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// Make the folders above it too; one that is there already is fine then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
    /// Its permission bits, whatever the agent's umask; `0o755` when left out. Folders above it get
    /// `0o755`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

impl FileMkdir {
    /// One folder.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self { path: path.into(), parents: false, mode: None }
    }
}

impl Operation for FileMkdir {
    const NAME: &'static str = "file_mkdir";
}

impl Work for FileMkdir {
    fn effect(&self) -> Effect {
        Effect::Change
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        self.mode.map_or(Ok(()), |mode| check_mode("mode", mode))
    }

    fn describe(&self) -> String {
        format!("make the folder {}", self.path.display())
    }
}
