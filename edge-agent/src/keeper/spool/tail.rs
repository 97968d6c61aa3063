//! The end of what was written, without taking anything from whoever reads the spool in order.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use reeve_protocol::Stream;

use super::{HEADER_BYTES, decode_record, fresh_name, list_segments, taken_name};
use crate::host::files;

/// A segment ends with the record that fills it; more than this is not looked through.
const MAX_LOOK_BYTES: u64 = 2 * super::SEGMENT_BYTES;

/// The end of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The stream of the last record, with the last bytes of it. `None`: there is no output, or
    /// it has been given back.
    pub last: Option<(Stream, Vec<u8>)>,
    /// When the last segment was written to, microseconds since 1970.
    pub written_us: Option<i64>,
    /// Bytes on disk, all segments.
    pub size: u64,
}

/// Reads at most `most` bytes of the end. What is being written meanwhile may be missing.
///
/// # Errors
/// What the file system says.
pub fn read_tail(folder: impl AsFd, most: usize) -> io::Result<Tail> {
    let folder = folder.as_fd();
    let mut tail = Tail::default();
    let segments = list_segments(folder)?;
    let open = |from: u64| {
        files::open(folder, &fresh_name(from)).or_else(|_| files::open(folder, &taken_name(from)))
    };
    for from in segments {
        let Ok(file) = open(from) else { continue };
        let about = file.metadata()?;
        tail.size += about.len();
        tail.written_us = about
            .modified()
            .ok()
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_micros()).ok());
        // The segments come in order: the last one that has output has the end.
        if let Some(last) = read_last(file, most)? {
            tail.last = Some(last);
        }
    }
    Ok(tail)
}

/// The end of the last run of records of one stream.
fn read_last(mut file: File, most: usize) -> io::Result<Option<(Stream, Vec<u8>)>> {
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_LOOK_BYTES).read_to_end(&mut bytes)?;
    let mut rest = bytes.get(usize::try_from(HEADER_BYTES).unwrap_or(0)..).unwrap_or_default();
    let mut last: Option<(Stream, Vec<u8>)> = None;
    while let Some((record, behind)) = rest.split_first_chunk::<8>() {
        let Some((stream, length)) = decode_record(*record) else { break };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // A record that is being written: what is there of it belongs to the next look.
        let Some(payload) = behind.get(..length) else { break };
        rest = &behind[length..];
        let kept = match &mut last {
            Some((before, kept)) if *before == stream => kept,
            _ => &mut last.insert((stream, Vec::new())).1,
        };
        kept.extend_from_slice(&payload[payload.len().saturating_sub(most)..]);
        if kept.len() > most {
            kept.drain(..kept.len() - most);
        }
    }
    Ok(last)
}
