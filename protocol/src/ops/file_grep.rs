//! `file_grep`: which lines of files fit a pattern. Changes nothing. The answer is JSON lines:
//! [`GrepFound`], files in the order of their names' bytes.

use serde::{Deserialize, Serialize};

use super::file_find::check_globs;
use super::{Effect, InvalidWork, Operation, RemotePath, Work};

/// Bytes of a pattern.
pub const MAX_PATTERN_BYTES: usize = 16 * 1024;
/// Lines of context before or behind a match.
pub const MAX_CONTEXT: u32 = 1000;
/// Bytes of one line that are sent; of longer ones, those around the first match.
pub const MAX_LINE_SENT: usize = 16 * 1024;
/// Bytes of a line that are searched as one; longer ones are searched in pieces of this size.
pub const MAX_LINE_SEARCHED: usize = 4 * 1024 * 1024;

/// Search files for a pattern: the file at a path, or all beneath a folder. Symbolic links beneath
/// it are not followed; what is no regular file is not opened. What the machine's policy blocks is
/// counted in a warning and not named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FileGrep {
    /// A file, or a folder.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: RemotePath,
    /// A regular expression as of Rust's `regex` crate, or text with `fixed`.
    pub pattern: String,
    /// The pattern is text, without special characters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
    /// Capital and small letters are the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// The pattern has to fit whole words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub word: bool,
    /// Lines that do not fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub invert: bool,
    /// Lines shown before each that fits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub before: u32,
    /// Lines shown behind each that fits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u32,
    /// Only files that one of these globs fits, as in `file_find`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globs: Vec<String>,
    /// No files or folders that one of these globs fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Folders deep below `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u32>,
    /// Leave out names that begin with a dot, and what is in such folders.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_hidden: bool,
    /// Stay on the file system of `path`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_file_system: bool,
    /// What is said of each file.
    #[serde(default, skip_serializing_if = "GrepReport::is_default")]
    pub report: GrepReport,
    /// What becomes of files with a NUL byte in them.
    #[serde(default, skip_serializing_if = "GrepBinary::is_default")]
    pub binary: GrepBinary,
    /// Lines of one file at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_file: Option<u64>,
    /// Lines altogether (or files, when those are reported); a warning with the code `limit` says
    /// that there may be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// What a search says of each file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrepReport {
    /// The lines that fit.
    #[default]
    Lines,
    /// That it has such lines.
    Files,
    /// How many it has.
    Counts,
}

impl GrepReport {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of files that have a NUL byte in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrepBinary {
    /// That one fits is said, without its lines.
    #[default]
    Name,
    /// They are left out.
    Skip,
    /// They are searched like any other.
    Text,
}

impl GrepBinary {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl FileGrep {
    /// All lines that fit.
    #[must_use]
    pub fn new(path: RemotePath, pattern: impl Into<String>) -> Self {
        Self {
            path,
            pattern: pattern.into(),
            fixed: false,
            ignore_case: false,
            word: false,
            invert: false,
            before: 0,
            after: 0,
            globs: Vec::new(),
            exclude: Vec::new(),
            max_depth: None,
            skip_hidden: false,
            one_file_system: false,
            report: GrepReport::default(),
            binary: GrepBinary::default(),
            max_per_file: None,
            limit: None,
        }
    }
}

impl Operation for FileGrep {
    const NAME: &'static str = "file_grep";
}

impl Work for FileGrep {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        self.path.check()?;
        check_globs(&self.globs)?;
        check_globs(&self.exclude)?;
        if self.pattern.len() > MAX_PATTERN_BYTES {
            return Err(InvalidWork::Value(format!(
                "a pattern has at most {MAX_PATTERN_BYTES} bytes"
            )));
        }
        if self.before > MAX_CONTEXT || self.after > MAX_CONTEXT {
            return Err(InvalidWork::Value(format!(
                "at most {MAX_CONTEXT} lines of context can be had"
            )));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("search {} for '{}'", self.path.display(), self.pattern.escape_debug())
    }
}

/// One thing that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum GrepFound {
    /// A line that fits.
    Match(GrepLine),
    /// A line near one that fits.
    Context(GrepLine),
    /// Lines were left out between the one before and the one that follows, of the same file.
    Break {
        /// In which file.
        path: RemotePath,
    },
    /// A file that has such lines.
    File {
        /// Which.
        path: RemotePath,
    },
    /// How many lines of a file fit; files without any are not told of.
    Count {
        /// In which file.
        path: RemotePath,
        /// How many.
        lines: u64,
    },
    /// A file with a NUL byte in it that fits.
    Binary {
        /// Which.
        path: RemotePath,
    },
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrepLine {
    /// In which file.
    pub path: RemotePath,
    /// Which line, the first is 1.
    pub line: u64,
    /// Where `text` begins in the file, bytes.
    pub offset: u64,
    /// The line without its end, or what is sent of it.
    pub text: GrepText,
    /// Where in `text` the pattern fits: first byte, and the one behind the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<(u64, u64)>,
    /// Something of the line was left out before or behind `text`, for its length.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// Bytes of a line: a string, or `{"hex": "…"}` when they are no UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrepText(RemotePath);

impl GrepText {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(RemotePath::new(bytes))
    }

    /// Them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_as_json_whatever_their_bytes() {
        let path = RemotePath::new(&b"/bad\xff"[..]);
        let text = GrepText::new(b"caf\xe9");
        let line = GrepLine { path, line: 3, offset: 40, text, spans: vec![(0, 3)], cut: false };
        let json = serde_json::to_string(&GrepFound::Match(line.clone())).expect("JSON");
        assert!(json.contains(r#""text":{"hex":"636166e9"}"#), "{json}");
        let read: GrepFound = serde_json::from_str(&json).expect("read");
        assert_eq!(read, GrepFound::Match(line));
    }

    #[test]
    fn too_much_is_refused() {
        let grep = FileGrep::new(RemotePath::from("/srv"), "x");
        assert!(grep.validate().is_ok());
        assert!(FileGrep { before: 1001, ..grep.clone() }.validate().is_err());
        assert!(FileGrep { pattern: "x".repeat(16_385), ..grep.clone() }.validate().is_err());
        assert!(FileGrep { globs: vec![String::new()], ..grep.clone() }.validate().is_err());
        assert!(FileGrep { path: RemotePath::from("srv"), ..grep }.validate().is_err());
    }
}
