//! Output on disk: files of records in the one merged order that the keeper gave them.
//!
//! A segment `spool.<offset>` begins with a header: eight bytes of name and version, then the three
//! offsets (merged, stdout, stderr) of its first byte. Records follow: stream (1 byte), three zero
//! bytes, length (4 bytes), then the bytes. All numbers are little endian. Because each segment
//! says where it begins in every stream, segments may be missing in front or in the middle without
//! any offset changing: a hole between two segments is a gap, and its size in each stream is known.
//!
//! The agent renames a segment to `taken.<offset>` before it reads from it. Only segments that
//! nobody took may be dropped to make room, so nothing that may have been sent is ever dropped, and
//! a sender can always go on from any offset below what it had sent.

mod reader;
mod tail;
mod writer;

use std::io;
use std::os::fd::AsFd;

use reeve_protocol::{Stream, Totals};

use crate::host::files;

pub use reader::{Piece, SpoolReader};
pub use tail::{Tail, read_tail};
pub use writer::{Append, PATIENCE, SpoolWriter};

/// Name and version of a segment.
pub const MAGIC: [u8; 8] = *b"RVSPOOL\x01";
/// Bytes before the first record.
pub const HEADER_BYTES: u64 = 32;
/// Bytes before each record's payload.
pub const RECORD_BYTES: u64 = 8;
/// One file of output. Sixteen of them make the whole spool, so what has been acknowledged is
/// given back in small steps.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Name of an empty file that becomes the first segment, where a spool begins in a folder that has
/// had one before.
pub const SPARE: &str = "segment.new";

const FRESH: &str = "spool.";
const TAKEN: &str = "taken.";

fn fresh_name(from: u64) -> String {
    format!("{FRESH}{from:020}")
}

fn taken_name(from: u64) -> String {
    format!("{TAKEN}{from:020}")
}

/// No command ever writes so much: a header that says more is damaged, and sums with it would overflow.
const MOST_OFFSET: u64 = u64::MAX / 2;

fn encode_header(at: Totals) -> [u8; 32] {
    let mut header = [0; 32];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&at.all.to_le_bytes());
    header[16..24].copy_from_slice(&at.stdout.to_le_bytes());
    header[24..32].copy_from_slice(&at.stderr.to_le_bytes());
    header
}

fn decode_header(header: &[u8; 32]) -> Option<Totals> {
    let (magic, rest) = header.split_first_chunk::<8>()?;
    let (all, rest) = rest.split_first_chunk::<8>()?;
    let (stdout, stderr) = rest.split_first_chunk::<8>()?;
    let stderr = stderr.first_chunk::<8>()?;
    let at = Totals {
        all: u64::from_le_bytes(*all),
        stdout: u64::from_le_bytes(*stdout),
        stderr: u64::from_le_bytes(*stderr),
    };
    let is_possible = [at.all, at.stdout, at.stderr].iter().all(|offset| *offset <= MOST_OFFSET);
    (*magic == MAGIC && is_possible).then_some(at)
}

fn encode_record(stream: Stream, length: u32) -> [u8; 8] {
    let kind = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let [a, b, c, d] = length.to_le_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

fn decode_record(record: [u8; 8]) -> Option<(Stream, u32)> {
    let [kind, 0, 0, 0, a, b, c, d] = record else { return None };
    let stream = match kind {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return None,
    };
    let length = u32::from_le_bytes([a, b, c, d]);
    (length > 0).then_some((stream, length))
}

fn advance(at: &mut Totals, stream: Stream, count: u64) {
    at.all += count;
    match stream {
        Stream::Stdout => at.stdout += count,
        Stream::Stderr => at.stderr += count,
    }
}

/// First offsets of all segments, in order.
///
/// # Errors
/// What the file system says.
pub fn list_segments(folder: impl AsFd) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for name in files::list(folder)? {
        found.extend(find_offset(&name));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn find_offset(name: &str) -> Option<u64> {
    name.strip_prefix(FRESH).or_else(|| name.strip_prefix(TAKEN))?.parse().ok()
}

/// Whether a file of this name is a segment.
#[must_use]
pub fn is_segment(name: &str) -> bool {
    find_offset(name).is_some()
}

fn remove_segment(folder: impl AsFd, from: u64) {
    let folder = folder.as_fd();
    for name in [fresh_name(from), taken_name(from)] {
        let _ = files::remove(folder, &name);
    }
}

/// Removes the segments that nobody needs once everything below `upto` is durable elsewhere. A
/// segment in front of a gap is kept until the gap has been acknowledged, because its end says how
/// much of each stream the gap swallowed. The first offset that is left.
///
/// For use when no keeper is alive to do it.
///
/// # Errors
/// What the file system says.
pub fn release(folder: impl AsFd, upto: u64) -> io::Result<Option<u64>> {
    let folder = folder.as_fd();
    let segments = list_segments(folder)?;
    let needed = segments.iter().rposition(|from| *from <= upto).unwrap_or(0);
    for from in &segments[..needed.min(segments.len())] {
        remove_segment(folder, *from);
    }
    Ok(segments.get(needed).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_whose_first_record_is_torn_is_damage_and_no_endless_loop() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = encode_header(Totals { all: 50, stdout: 46, stderr: 4 }).to_vec();
        bytes.extend(encode_record(Stream::Stdout, 1000));
        bytes.extend(b"torn");
        std::fs::write(folder.path().join(fresh_name(50)), bytes).expect("written");
        let open = || crate::host::unix::open_folder(folder.path()).expect("the folder");
        let mut reader = SpoolReader::open(open(), 50).expect("opens");
        let error = reader.next(1050, 4096).expect_err("there is nothing");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(SpoolReader::open(open(), 50).expect("opens").find_end().expect("read").all, 50);
    }

    #[test]
    fn header_with_impossible_offsets_is_damage() {
        let at = Totals { all: 7, stdout: 5, stderr: 2 };
        assert_eq!(decode_header(&encode_header(at)), Some(at));
        for wrong in [
            Totals { all: u64::MAX - 3, ..at },
            Totals { stdout: u64::MAX, ..at },
            Totals { stderr: u64::MAX - 181, ..at },
        ] {
            assert_eq!(decode_header(&encode_header(wrong)), None);
        }
    }
}
