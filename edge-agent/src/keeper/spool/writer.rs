//! The keeper's half: append, and make room.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use reeve_protocol::ops::SpoolFull;
use reeve_protocol::{Stream, Totals};

use super::{
    HEADER_BYTES, RECORD_BYTES, advance, encode_header, encode_record, fresh_name, remove_segment,
};
use crate::host::files;

/// A disk that fails so often in a row, a fifth of a second apart, is broken: better an operation that
/// is lost, with evidence, than one that never ends.
pub const PATIENCE: u32 = 25;

#[derive(Debug)]
struct Segment {
    from: u64,
    /// Bytes on disk.
    size: u64,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// It is in the spool.
    Done,
    /// The disk is full, or fails for the moment; offer the same bytes again later.
    DiskFull,
}

/// Appends output to segments.
#[derive(Debug)]
pub struct SpoolWriter {
    folder: OwnedFd,
    segments: VecDeque<Segment>,
    current: Option<File>,
    /// Behind the last byte.
    end: Totals,
    /// Bytes on disk, all segments.
    size: u64,
    limit: u64,
    segment_bytes: u64,
    when_full: SpoolFull,
    /// Appends that failed in a row, though the disk is not full.
    failed: u32,
    /// The next attempts find a full disk.
    #[cfg(test)]
    pub stumbles: u32,
}

impl SpoolWriter {
    /// An empty spool in the folder.
    #[must_use]
    pub fn new(folder: OwnedFd, limit: u64, segment_bytes: u64, when_full: SpoolFull) -> Self {
        Self {
            folder,
            segments: VecDeque::new(),
            current: None,
            end: Totals::default(),
            size: 0,
            limit,
            segment_bytes,
            when_full,
            failed: 0,
            #[cfg(test)]
            stumbles: 0,
        }
    }

    /// For whoever cannot come back later: a disk that fails is told of at once.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.failed = PATIENCE;
        self
    }

    /// Bytes read so far, dropped ones included.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.end
    }

    /// First merged offset that is still there.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments.front().map_or(self.end.all, |segment| segment.from)
    }

    /// Bytes that may be appended now. Makes room first when the command must never wait.
    pub fn room(&mut self) -> u64 {
        while self.left() == 0 && self.when_full == SpoolFull::DropMiddle {
            if !self.drop_oldest() {
                break;
            }
        }
        self.left()
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.size).saturating_sub(HEADER_BYTES + RECORD_BYTES)
    }

    /// Drops the oldest segment that was not taken, but never the last one nor the first: the first
    /// says where the gap begins.
    fn drop_oldest(&mut self) -> bool {
        for at in 1..self.segments.len().saturating_sub(1) {
            let name = fresh_name(self.segments[at].from);
            // By the name of those not taken: the agent's renaming and this cannot both succeed.
            if files::remove(&self.folder, &name).is_ok()
                && let Some(segment) = self.segments.remove(at)
            {
                self.size -= segment.size;
                return true;
            }
        }
        false
    }

    /// Appends bytes, at most [`Self::room`] of them.
    ///
    /// # Errors
    /// What the file system says, other than that the disk is full, or has failed for less than
    /// [`PATIENCE`] times.
    pub fn append(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<Append> {
        match self.try_append(stream, bytes) {
            Ok(()) => {
                self.failed = 0;
                Ok(Append::Done)
            }
            Err(error) if files::is_disk_full(&error) => Ok(Append::DiskFull),
            // What failed is written over by the next attempt, as after a full disk.
            Err(error) if files::is_disk_failing(&error) && self.failed < PATIENCE => {
                self.failed += 1;
                Ok(Append::DiskFull)
            }
            Err(error) => Err(error),
        }
    }

    fn try_append(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = self.stumbles.checked_sub(1) {
            self.stumbles = left;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        if self.segments.back().is_none_or(|segment| segment.size >= self.segment_bytes) {
            self.current = None;
        }
        if self.current.is_none() {
            self.begin_segment()?;
        }
        let (Some(file), Some(segment)) = (&self.current, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment"));
        };
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let record = encode_record(stream, length);
        let whole = RECORD_BYTES + u64::from(length);
        // One that fails half way is written over by the next attempt, because nobody reads behind
        // the end that was announced.
        files::write_at(file, &record, bytes, segment.size)?;
        segment.size += whole;
        self.size += whole;
        advance(&mut self.end, stream, u64::from(length));
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let name = fresh_name(self.end.all);
        if self.end.all == 0 {
            // There usually is none.
            let _ = files::rename(&self.folder, super::SPARE, &name);
        }
        let file = files::create(&self.folder, &name)?;
        if let Err(error) = files::write_at(&file, &encode_header(self.end), &[], 0) {
            let _ = files::remove(&self.folder, &name);
            return Err(error);
        }
        self.segments.push_back(Segment { from: self.end.all, size: HEADER_BYTES });
        self.size += HEADER_BYTES;
        self.current = Some(file);
        Ok(())
    }

    /// Everything below `upto` is durable elsewhere: gives its space back.
    pub fn release(&mut self, upto: u64) {
        while self.segments.get(1).is_some_and(|next| next.from <= upto)
            && let Some(segment) = self.segments.pop_front()
        {
            remove_segment(&self.folder, segment.from);
            self.size -= segment.size;
        }
        // The last one can go too when it is used up: the next byte begins a new one.
        if upto >= self.end.all
            && self.segments.len() == 1
            && self.segments.front().is_some_and(|last| last.size >= self.segment_bytes)
            && let Some(segment) = self.segments.pop_front()
        {
            self.current = None;
            remove_segment(&self.folder, segment.from);
            self.size -= segment.size;
        }
    }
}
