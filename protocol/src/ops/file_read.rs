//! `file_read`: the content of a file, of an older version of it, or of a folder with everything in
//! it. Changes nothing. The answer is a stream as [`copy_stream`](super::copy_stream) describes.
//!
//! A source that changes while it is read ends the operation with `changed`, behind the stream's
//! last record, unless `live` says that it may; in a tree it is told in the file's end alone.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work, check_hash};

/// Read a file or a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// What. A symbolic link here is followed; those within a folder are told as what they are.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// Of a file: from this byte on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// Of a file: so many bytes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Hash what lies before `offset` too, so that the hash is that of the whole file: to go on
    /// with a copy that was broken off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hash_prefix: bool,
    /// Only if the file has this content: BLAKE3, hexadecimal. Else `changed`. Reads it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// Only if it is still the file that an entry told of. Else `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_same: Option<FileIdentity>,
    /// An older version: the `id` that `file_history` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// A folder with everything in it. Without it a folder is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
    /// In a folder: only what comes behind this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub after: Option<RemotePath>,
    /// Entries with hashes, without data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub listing: bool,
    /// Pack with Zstandard what gets smaller by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compress: bool,
    /// It may change meanwhile: as much as there was at the start is read, as it then is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// Bytes.
    pub size: u64,
    /// When its content was changed, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Its inode.
    pub inode: u64,
}

impl FileIdentity {
    /// Of what an entry tells of.
    #[must_use]
    pub fn of(entry: &super::FileEntry) -> Self {
        Self { size: entry.size, modified_ns: entry.modified_ns, inode: entry.inode }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl FileRead {
    /// All of a file.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self {
            path: path.into(),
            offset: 0,
            length: None,
            hash_prefix: false,
            if_match: None,
            if_same: None,
            version: None,
            recursive: false,
            after: None,
            listing: false,
            compress: false,
            live: false,
        }
    }
}

impl Operation for FileRead {
    const NAME: &'static str = "file_read";
}

impl Work for FileRead {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        check_hash("if_match", self.if_match.as_deref())?;
        let wrong = |what: &str| Err(InvalidWork::Value(what.to_owned()));
        let about_a_file = self.offset > 0
            || self.length.is_some()
            || self.hash_prefix
            || self.if_match.is_some()
            || self.if_same.is_some()
            || self.version.is_some();
        if self.recursive && about_a_file {
            return wrong(
                "offset, length, hash_prefix, if_match, if_same and version are about one file; \
                 they do not go with recursive",
            );
        }
        if !self.recursive && self.after.is_some() {
            return wrong("after is an entry of a folder; it goes with recursive only");
        }
        if let Some(after) = &self.after {
            super::copy_stream::check_copy_path(after)
                .map_err(|error| InvalidWork::Value(format!("after: {error}")))?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        match self.version {
            Some(version) => format!("read version {version} of {}", self.path.display()),
            None => format!("read {}", self.path.display()),
        }
    }
}
