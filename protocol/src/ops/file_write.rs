//! `file_write`: puts a file, or a folder with everything in it, in its place. Takes a stream as
//! [`copy_stream`](super::copy_stream) describes on stdin. Each file is written to a temporary one
//! beside its place, compared with the hash that the stream tells at its end, synced and given its
//! name in one step; whatever goes wrong before leaves what was there as it was.
//!
//! The answer is JSON lines on stdout, each a [`WriteAnswer`]: `ready` as soon as it is known that
//! it may be done and where to go on, and `written` at the end; in a dry run `would` for each file.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work, check_hash};

/// Names of what has not come whole begin so.
pub const PARTIAL_PREFIX: &str = ".reeve-copy-";

/// Write a file or a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileWrite {
    /// Where to. With a slash behind it, a folder that has to be there.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// When `path` is a folder: the name that is written in it. Without one a folder at `path` is
    /// refused for a file, and written into for a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub name: Option<RemotePath>,
    /// What may be there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub existing: Existing,
    /// Only if what is there has this content: BLAKE3, hexadecimal. Else `changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<String>,
    /// When a symbolic link is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub link: LinkRule,
    /// Make folders above it that are not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
    /// Mode, times and, as far as the agent may, owner as the stream tells them. Without it a file
    /// that is there passes its mode and owner on, and a new one gets the stream's mode less what
    /// the usual mask (022) takes away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preserve: bool,
    /// This mode instead, for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// This owner instead: `user`, `user:group` or `:group`, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The stream may be a tree.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursive: bool,
    /// Take symbolic links in a tree as they are although they lead out of it; otherwise those are
    /// left out and told of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outward_links: bool,
    /// Names this transfer, 16 to 64 lower-case hexadecimal digits. What has come is kept for a day
    /// under it when the transfer is broken off, and found again by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// Keep no version of what is overwritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_version: bool,
    /// Only say what would be done. Takes a stream that is a listing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What may be at the place that is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It is overwritten.
    #[default]
    Replace,
    /// `exists`.
    Refuse,
    /// It stays as it is, and that is no failure.
    Keep,
}

/// What becomes of a symbolic link at the place that is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LinkRule {
    /// `symlink`.
    #[default]
    Refuse,
    /// The file takes the link's place.
    Replace,
    /// What it leads to is written.
    Follow,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteAnswer {
    /// It may be sent.
    Ready(WriteReady),
    /// In a dry run: what would become of an entry.
    Would(Written),
    /// All of it is there.
    Written(WriteDone),
}

/// Where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReady {
    /// So many bytes of the file have come before; the stream may begin there, or anywhere before.
    #[serde(default)]
    pub from: u64,
    /// BLAKE3 of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Everything up to this entry of the tree is there; the stream may begin behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RemotePath>,
}

/// What was done to one place, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Where.
    pub path: RemotePath,
    /// What.
    pub deed: WriteDeed,
    /// Bytes.
    pub size: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteDeed {
    /// Nothing was there.
    New,
    /// It took the place of something.
    Overwritten,
    /// The very same was there.
    Same,
    /// What was there was to be kept.
    Kept,
    /// Something that a newer agent does.
    #[serde(other)]
    Unknown,
}

/// All that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteDone {
    /// Where the file or the tree's root is.
    pub path: RemotePath,
    /// What became of it.
    pub deed: WriteDeed,
    /// Entries that were written.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// BLAKE3 of the content, of one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Entries that were left out; warnings say which.
    #[serde(default)]
    pub skipped: u64,
    /// Versions that were kept of what was overwritten.
    #[serde(default)]
    pub versions: u64,
}

impl FileWrite {
    /// Whatever is there, with what is usual.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self {
            path: path.into(),
            name: None,
            existing: Existing::default(),
            if_match: None,
            link: LinkRule::default(),
            parents: false,
            preserve: false,
            mode: None,
            owner: None,
            recursive: false,
            outward_links: false,
            resume: None,
            no_version: false,
            dry_run: false,
        }
    }
}

impl Operation for FileWrite {
    const NAME: &'static str = "file_write";
}

impl Work for FileWrite {
    fn effect(&self) -> Effect {
        match (self.dry_run, self.no_version) {
            (true, _) => Effect::Read,
            (false, true) => Effect::Destroy,
            (false, false) => Effect::Change,
        }
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        check_hash("if_match", self.if_match.as_deref())?;
        let wrong = |what: &str| Err(InvalidWork::Value(what.to_owned()));
        if let Some(name) = &self.name {
            let name = name.as_bytes();
            let bad = name.is_empty() || name == b"." || name == b".." || name.len() > 255;
            if bad || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
                return wrong("name has to be one name, without '/'");
            }
        }
        if self.mode.is_some_and(|mode| mode > 0o7777) {
            return wrong("mode has more bits than a mode has (0 to 0o7777)");
        }
        if self.if_match.is_some() && self.recursive {
            return wrong("if_match is about one file; it does not go with recursive");
        }
        if self.if_match.is_some() && self.existing != Existing::Replace {
            return wrong("if_match says what has to be there, existing that it may not be");
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_token =
            |text: &String| (16..=64).contains(&text.len()) && text.bytes().all(is_digit);
        if self.resume.as_ref().is_some_and(|token| !is_token(token)) {
            return wrong("resume has to be 16 to 64 lower-case hexadecimal digits");
        }
        if self.owner.as_ref().is_some_and(|owner| owner.is_empty() || owner.len() > 256) {
            return wrong("owner has to be 'user', 'user:group' or ':group'");
        }
        Ok(())
    }

    fn has_stdin(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("write {}", self.path.display())
    }
}
