//! `file_list`: what is in a folder. Changes nothing. The answer is JSON lines on stdout:
//! [`FileEntry`] each, every folder before what is in it, names of one folder in the order of their
//! bytes; when there was more, one last line [`FileListMore`]. [`FileListLine`] reads either. What
//! could not be looked at is a warning.

use serde::{Deserialize, Serialize};

use super::{Effect, FileEntry, InvalidWork, Operation, RemotePath, Work};

/// Folders below folders that are listed at the most: each is an open descriptor meanwhile.
pub const MAX_LIST_DEPTH: u32 = 128;

/// Entries of one answer at the most: some 30 MB as JSON.
pub const MAX_LIST_ENTRIES: u32 = 100_000;

/// Entries of one answer unless asked otherwise.
pub const DEFAULT_LIST_ENTRIES: u32 = 10_000;

/// List what is in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileList {
    /// The folder. A symbolic link to one is followed; links in it are not.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// How far down: 1 is what is in the folder itself.
    #[serde(default = "one_level")]
    pub depth: u32,
    /// Entries at the most.
    #[serde(default = "usual_limit")]
    pub limit: u32,
    /// Leave out names that begin with a dot, and what is beneath them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_hidden: bool,
    /// Do not go into folders on which another file system is mounted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_file_system: bool,
}

fn one_level() -> u32 {
    1
}

fn usual_limit() -> u32 {
    DEFAULT_LIST_ENTRIES
}

impl FileList {
    /// What is in one folder.
    #[must_use]
    pub fn new(path: impl Into<RemotePath>) -> Self {
        Self {
            path: path.into(),
            depth: one_level(),
            limit: usual_limit(),
            skip_hidden: false,
            one_file_system: false,
        }
    }
}

impl Operation for FileList {
    const NAME: &'static str = "file_list";
}

impl Work for FileList {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        if !(1..=MAX_LIST_DEPTH).contains(&self.depth) {
            return Err(InvalidWork::Value(format!(
                "depth is {}; it has to be between 1 and {MAX_LIST_DEPTH}",
                self.depth
            )));
        }
        if !(1..=MAX_LIST_ENTRIES).contains(&self.limit) {
            return Err(InvalidWork::Value(format!(
                "limit is {}; it has to be between 1 and {MAX_LIST_ENTRIES}",
                self.limit
            )));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("list {}", self.path.display())
    }
}

/// Behind the last entry when there was more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileListMore {
    /// Entries before this line.
    pub more_than: u64,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FileListLine {
    /// Something that is there.
    Entry(Box<FileEntry>),
    /// The end, and there was more.
    More(FileListMore),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let more = serde_json::to_string(&FileListMore { more_than: 7 }).expect("JSON");
        let line: FileListLine = serde_json::from_str(&more).expect("read");
        assert_eq!(line, FileListLine::More(FileListMore { more_than: 7 }));
        let entry = r#"{"path":"/a","kind":"file","size":1,"mode":420,"uid":0,"gid":0,
                        "modified_ns":0}"#;
        let line: FileListLine = serde_json::from_str(entry).expect("read");
        assert!(matches!(line, FileListLine::Entry(entry) if entry.size == 1));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let fine = FileList::new("/srv");
        assert_eq!(fine.validate(), Ok(()));
        assert!(FileList { depth: 0, ..fine.clone() }.validate().is_err());
        assert!(FileList { limit: 0, ..fine.clone() }.validate().is_err());
        assert!(FileList { limit: u32::MAX, ..fine }.validate().is_err());
    }
}
