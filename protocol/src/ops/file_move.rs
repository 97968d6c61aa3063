//! `file_move`: gives something another name on the same file system, in one step (rename(2)). The
//! answer is one JSON document on stdout: [`super::FileEntry`] under its new name.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work, check_hash};

/// Give something another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileMove {
    /// Where it is. A symbolic link is moved itself.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub from: RemotePath,
    /// Its new path, whole: a folder that is there is not moved into.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub to: RemotePath,
    /// Take the place of a file that is there; otherwise that is `exists` and nothing happens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// Only if the file at `from` has this content: BLAKE3, hexadecimal. Else `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Keep no version of what is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_version: bool,
}

impl FileMove {
    /// Without taking anything's place.
    #[must_use]
    pub fn new(from: impl Into<RemotePath>, to: impl Into<RemotePath>) -> Self {
        Self { from: from.into(), to: to.into(), replace: false, if_match: None, no_version: false }
    }
}

impl Operation for FileMove {
    const NAME: &'static str = "file_move";
}

impl Work for FileMove {
    fn effect(&self) -> Effect {
        if self.replace && self.no_version { Effect::Destroy } else { Effect::Change }
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.from.check()?;
        self.to.check()?;
        check_hash("if_match", self.if_match.as_deref())
    }

    fn describe(&self) -> String {
        format!("move {} to {}", self.from.display(), self.to.display())
    }
}
