//! `file_remove`: removes a file, a symbolic link (never what it leads to), an empty folder, or
//! everything in a folder. The answer is one JSON document on stdout: [`FileRemoved`].

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work, check_hash};

/// Remove a file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileRemove {
    /// What.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// A folder with everything in it. Without it only an empty folder is removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
    /// Only if the file has this content: BLAKE3, hexadecimal. Else `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Keep no versions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_version: bool,
}

impl FileRemove {
    /// A file or an empty folder.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self { path: path.into(), recursive: false, if_match: None, no_version: false }
    }
}

impl Operation for FileRemove {
    const NAME: &'static str = "file_remove";
}

impl Work for FileRemove {
    fn effect(&self) -> Effect {
        Effect::Destroy
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        if self.path.is_root() {
            return Err(InvalidWork::Value("the root folder is never removed".to_owned()));
        }
        if self.recursive && self.if_match.is_some() {
            return Err(InvalidWork::Value(
                "if_match is about one file; it does not go with recursive".to_owned(),
            ));
        }
        check_hash("if_match", self.if_match.as_deref())
    }

    fn describe(&self) -> String {
        let all = if self.recursive { " and everything in it" } else { "" };
        format!("remove {}{all}", self.path.display())
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRemoved {
    /// Everything that is no folder.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Versions that were kept before.
    pub versions: u64,
}
