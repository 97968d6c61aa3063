//! The index of versions: lines of JSON, the first one a head, then one per version as it was kept.
//! Lines are only ever appended; to forget some, the whole is written anew and takes its place.

use std::io;

use reeve_protocol::ops::FileVersion;
use serde::{Deserialize, Serialize};

/// The form of what follows the head.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// The number of the next version, so that none is ever used twice.
    next: u64,
}

/// What an index says.
#[derive(Debug, Default)]
pub struct Index {
    pub versions: Vec<FileVersion>,
    pub next: u64,
    /// Bytes of whole lines. What is behind them was cut off by a crash.
    pub whole: u64,
}

impl Index {
    /// Reads as much as makes sense: a last line without its end never happened, a line that is
    /// damaged is left out.
    ///
    /// # Errors
    /// When a newer agent wrote it in a form of its own.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut index = Self { next: 1, ..Self::default() };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                break;
            }
            index.whole += u64::try_from(line.len()).unwrap_or(0);
            if let Ok(version) = serde_json::from_slice::<FileVersion>(line) {
                index.next = index.next.max(version.id.saturating_add(1));
                index.versions.push(version);
            } else if let Ok(head) = serde_json::from_slice::<Head>(line) {
                if head.format != FORMAT {
                    return Err(io::Error::other(format!(
                        "the index of versions has the form {}, which a newer agent wrote",
                        head.format
                    )));
                }
                index.next = index.next.max(head.next);
            }
        }
        Ok(index)
    }

    /// The whole of it anew.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn write(versions: &[FileVersion], next: u64) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&Head { format: FORMAT, next })?;
        bytes.push(b'\n');
        for version in versions {
            bytes.extend(line(version)?);
        }
        Ok(bytes)
    }
}

/// One line of it.
pub fn line(version: &FileVersion) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(version)?;
    bytes.push(b'\n');
    Ok(bytes)
}
