//! How files travel: what `file_read` writes to stdout is what `file_write` takes on stdin, so that
//! one can be fed into the other.
//!
//! A stream is a sequence of records: one byte that says what it is, four bytes with the length of
//! what follows (big-endian), and that. Documents are JSON, and fields a reader does not know are to
//! be ignored.
//!
//! | kind | | what follows |
//! |---|---|---|
//! | 1 | start; first, once | [`CopyStart`] |
//! | 2 | entry: a file, folder or link begins | [`FileEntry`]; `path` is relative in a tree, and empty for its root |
//! | 3 | data of the file that began last | bytes, 1 MiB at most |
//! | 4 | hole: so many zeros | 8 bytes, big-endian |
//! | 5 | the file's end | [`CopiedFile`] |
//! | 6 | packed: a Zstandard frame of whole records of kinds 2 to 5 and 8, 1 MiB each way | bytes |
//! | 7 | end; last, once | [`CopyEnd`] |
//! | 8 | something was left out | [`Failure`](super::Failure) |
//!
//! A stream without `end` was cut. In a tree, folders come before what is in them, and the names of
//! each folder in the order of their bytes; so whoever has taken in an entry whole can have
//! everything behind it by its path.

use std::fmt;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::{FileEntry, FileKind, RemotePath};

/// The version of the format in [`CopyStart`].
pub const COPY_FORMAT: u32 = 1;
/// Data of one record, bytes, and of a packed one unpacked: large enough that a record costs
/// nothing, small enough that every reader can hold one.
pub const MAX_COPY_DATA: usize = 1024 * 1024;
/// One document, bytes: two paths of the longest kind, escaped, with room for the rest.
pub const MAX_COPY_DOCUMENT: usize = 64 * 1024;
/// Bytes before what follows.
pub const COPY_HEADER_BYTES: usize = 5;
/// Folders within folders in a tree: far beyond what anybody has, and a bound for who unpacks it.
pub const MAX_COPY_DEPTH: usize = 512;

/// Begins a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStart {
    /// [`COPY_FORMAT`].
    pub format: u32,
    /// Any number of entries beneath a folder, rather than one file.
    #[serde(default)]
    pub tree: bool,
    /// Where in its file the first data belongs: what lies before it is there already.
    #[serde(default)]
    pub from: u64,
    /// BLAKE3 of what lies before it, when the hash at the end counts it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// In a tree: everything up to this entry is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RemotePath>,
    /// Entries alone, with hashes and without data: to say what would be done.
    #[serde(default)]
    pub listing: bool,
    /// How long its files are nobody knows before their end, as of a pipe or of what may change
    /// meanwhile: what the entries say does not count.
    #[serde(default)]
    pub any_size: bool,
}

/// The end of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Bytes of it, holes and what came before `from` included.
    pub size: u64,
    /// BLAKE3 of them, hexadecimal. Without `prefix`, of those from `from` on.
    pub hash: String,
    /// It was changed while it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// Ends a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyEnd {
    /// Entries in the stream.
    pub entries: u64,
    /// What was left out.
    #[serde(default)]
    pub skipped: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CopyRecord {
    Start,
    Entry,
    Data,
    Hole,
    FileEnd,
    Packed,
    End,
    Skipped,
}

impl CopyRecord {
    const ALL: [(Self, u8); 8] = [
        (Self::Start, 1),
        (Self::Entry, 2),
        (Self::Data, 3),
        (Self::Hole, 4),
        (Self::FileEnd, 5),
        (Self::Packed, 6),
        (Self::End, 7),
        (Self::Skipped, 8),
    ];

    fn byte(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, byte)| *byte)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == byte).map(|(kind, _)| *kind)
    }

    /// The longest that may follow.
    fn limit(self) -> usize {
        match self {
            Self::Data | Self::Packed => MAX_COPY_DATA,
            Self::Hole => 8,
            _ => MAX_COPY_DOCUMENT,
        }
    }

    /// The five bytes before `length` more.
    #[must_use]
    pub fn header(self, length: usize) -> [u8; COPY_HEADER_BYTES] {
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [self.byte(), a, b, c, d]
    }

    /// Reads the five bytes.
    ///
    /// # Errors
    /// When they are none, or announce more than may follow.
    pub fn parse(header: [u8; COPY_HEADER_BYTES]) -> Result<(Self, usize), BadStream> {
        let [kind, a, b, c, d] = header;
        let record = Self::from_byte(kind).ok_or(BadStream::Kind(kind))?;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let fits = match record {
            Self::Hole => length == 8,
            _ => length <= record.limit(),
        };
        if fits { Ok((record, length)) } else { Err(BadStream::Length(record, length)) }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(self, to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        to.write_all(&self.header(bytes.len()))?;
        to.write_all(bytes)
    }
}

/// What is wrong with a stream.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadStream {
    #[error("a record is of the unknown kind {0}")]
    Kind(u8),
    #[error("a record of kind {0:?} claims {1} bytes")]
    Length(CopyRecord, usize),
    #[error("the stream ends in the middle")]
    Cut,
    #[error("a record of kind {0:?} is in the wrong place")]
    Order(CopyRecord),
    #[error("a record of kind {0:?} is not understood: {1}")]
    Document(CopyRecord, String),
    #[error("the stream is in format {0}, which is newer than this program")]
    Format(u32),
    #[error("'{0}' has more bytes than it said, or less")]
    Size(String),
    #[error("'{0}' is no path of something in a folder")]
    Path(String),
    #[error("the stream could not be read: {0}")]
    Read(#[from] io::Error),
}

impl BadStream {
    /// Whether there was simply no more of it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut)
    }
}

/// Reads one record into `buffer`; `None` at the end of what there is to read.
///
/// # Errors
/// When it is no record, or ends in the middle.
pub fn read_copy_record(
    from: &mut impl Read,
    buffer: &mut Vec<u8>,
) -> Result<Option<CopyRecord>, BadStream> {
    let mut header = [0; COPY_HEADER_BYTES];
    let mut have = 0;
    while let Some(rest) = header.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(BadStream::Cut),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (record, length) = CopyRecord::parse(header)?;
    // No zeroing of what is overwritten at once: the buffer keeps its size from record to record.
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    buffer.truncate(length);
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BadStream::Cut,
        _ => BadStream::Read(error),
    })?;
    Ok(Some(record))
}

/// Bytes of a hole's record.
///
/// # Errors
/// When they are not eight.
pub fn copy_hole(bytes: &[u8]) -> Result<u64, BadStream> {
    let bytes = bytes.try_into().map_err(|_| BadStream::Length(CopyRecord::Hole, bytes.len()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Whether a path in a tree stays in it: names between single slashes, none of them `.` or `..`.
/// The root's own is empty.
///
/// # Errors
/// When it does not.
pub fn check_copy_path(path: &RemotePath) -> Result<(), BadStream> {
    let bytes = path.as_bytes();
    let depth = bytes.iter().filter(|byte| **byte == b'/').count();
    let is_bad = |name: &[u8]| name.is_empty() || name == b"." || name == b".." || name.len() > 255;
    let bad = bytes.contains(&0)
        || bytes.len() > super::MAX_PATH_BYTES
        || depth >= MAX_COPY_DEPTH
        || (!bytes.is_empty() && bytes.split(|byte| *byte == b'/').any(is_bad));
    if bad { Err(BadStream::Path(path.display())) } else { Ok(()) }
}

/// Whether an entry of a tree comes not behind another.
#[must_use]
pub fn is_told_before(path: &RemotePath, other: &RemotePath) -> bool {
    let mut names = path.as_bytes().split(|byte| *byte == b'/');
    let mut others = other.as_bytes().split(|byte| *byte == b'/');
    loop {
        match (names.next(), others.next()) {
            (None, _) => return true,
            (Some(_), None) => return false,
            (Some(name), Some(other)) if name != other => return name < other,
            _ => {}
        }
    }
}

/// Whether something is in a folder, at whatever depth.
#[must_use]
pub fn is_beneath(path: &RemotePath, folder: &RemotePath) -> bool {
    let (path, folder) = (path.as_bytes(), folder.as_bytes());
    path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whether a symbolic link at a path in a tree leads out of the tree by what it says.
#[must_use]
pub fn link_leads_out(path: &RemotePath, target: &RemotePath) -> bool {
    if target.as_bytes().first() == Some(&b'/') {
        return true;
    }
    // Folders between the root and the link.
    let mut depth = path.as_bytes().iter().filter(|byte| **byte == b'/').count();
    for name in target.as_bytes().split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Where a reader is in a stream: whether what comes next may come, and adds up.
#[derive(Clone, Debug, Default)]
pub struct CopyOrder {
    start: Option<CopyStart>,
    /// The file that is being told: its name, how far it is, how long it says it is.
    file: Option<(String, u64, u64)>,
    entries: u64,
    ended: bool,
}

impl CopyOrder {
    /// Nothing has come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How the stream began, when it has.
    #[must_use]
    pub fn started(&self) -> Option<&CopyStart> {
        self.start.as_ref()
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The stream begins.
    ///
    /// # Errors
    /// When it has begun, or is newer than this program.
    pub fn start(&mut self, start: &CopyStart) -> Result<(), BadStream> {
        if self.start.is_some() {
            return Err(BadStream::Order(CopyRecord::Start));
        }
        if start.format != COPY_FORMAT {
            return Err(BadStream::Format(start.format));
        }
        self.start = Some(start.clone());
        Ok(())
    }

    /// An entry begins.
    ///
    /// # Errors
    /// When the one before has not ended, or it does not belong here.
    pub fn entry(&mut self, entry: &FileEntry) -> Result<(), BadStream> {
        let wrong = || BadStream::Order(CopyRecord::Entry);
        let start = self.start.as_ref().ok_or_else(wrong)?;
        if self.ended || self.file.is_some() || (!start.tree && self.entries > 0) {
            return Err(wrong());
        }
        if start.tree {
            check_copy_path(&entry.path)?;
        } else if entry.kind != FileKind::File {
            return Err(wrong());
        }
        if entry.kind == FileKind::File && !start.listing {
            let from = if self.entries == 0 && !start.tree { start.from } else { 0 };
            let size = if start.any_size { u64::MAX } else { entry.size };
            self.file = Some((entry.path.display(), from, size));
        }
        self.entries += 1;
        Ok(())
    }

    /// So many bytes of the file.
    ///
    /// # Errors
    /// When there is no file, or it has less.
    pub fn bytes(&mut self, record: CopyRecord, count: u64) -> Result<(), BadStream> {
        let (name, at, size) = self.file.as_mut().ok_or(BadStream::Order(record))?;
        match at.checked_add(count) {
            Some(now) if now <= *size => *at = now,
            _ => return Err(BadStream::Size(std::mem::take(name))),
        }
        Ok(())
    }

    /// The file's end.
    ///
    /// # Errors
    /// When there is no file, or bytes are missing that it does not own up to.
    pub fn file_end(&mut self, end: &CopiedFile) -> Result<(), BadStream> {
        let (name, at, size) = self.file.take().ok_or(BadStream::Order(CopyRecord::FileEnd))?;
        // One that shrank while it was read says so.
        if at != end.size || (at != size && !end.changed && size != u64::MAX) {
            return Err(BadStream::Size(name));
        }
        Ok(())
    }

    /// The stream's end.
    ///
    /// # Errors
    /// When something has not ended, or entries are missing.
    pub fn end(&mut self, end: &CopyEnd) -> Result<(), BadStream> {
        if self.start.is_none() || self.file.is_some() || self.ended || end.entries != self.entries
        {
            return Err(BadStream::Order(CopyRecord::End));
        }
        self.ended = true;
        Ok(())
    }
}

impl fmt::Display for CopyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
#[path = "copy_stream_tests.rs"]
mod tests;
