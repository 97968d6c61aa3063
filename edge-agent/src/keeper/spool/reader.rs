//! The agent's half: read in order from any offset that is still needed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use reeve_protocol::{Gap, Stream, Totals};

use super::{
    HEADER_BYTES, RECORD_BYTES, advance, decode_header, decode_record, fresh_name, list_segments,
    taken_name,
};
use crate::host::files;

/// What comes next in the merged order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of one stream.
    Bytes {
        /// Which stream.
        stream: Stream,
        /// Where all streams stood before these bytes.
        at: Totals,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes that were dropped.
    Gap {
        /// Where all streams stood before.
        at: Totals,
        /// What is missing.
        gap: Gap,
    },
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Where to read next in the file.
    position: u64,
    /// The record being read: its stream and the bytes of it not yet read.
    record: Option<(Stream, u64)>,
}

/// Reads the spool of one operation.
#[derive(Debug)]
pub struct SpoolReader {
    folder: OwnedFd,
    open: Option<Open>,
    /// The next byte.
    at: Totals,
}

impl SpoolReader {
    /// Reads from `offset` on, which must not be below what was released.
    ///
    /// # Errors
    /// What the file system says, or that the offset is not in the spool.
    pub fn open(folder: OwnedFd, offset: u64) -> io::Result<Self> {
        let mut reader = Self { folder, open: None, at: Totals::default() };
        let segments = list_segments(&reader.folder)?;
        let Some(from) = segments.iter().rev().find(|from| **from <= offset) else {
            // All that was written has been released; the next byte begins a segment, which says
            // where each stream stands.
            reader.at.all = offset;
            return if segments.is_empty() { Ok(reader) } else { Err(missing(offset)) };
        };
        let (open, at) = reader.take(*from)?;
        reader.open = Some(open);
        reader.at = at;
        while reader.at.all < offset {
            let skip = usize::try_from(offset - reader.at.all).unwrap_or(usize::MAX);
            if reader.skip_in_segment(skip)? == 0 {
                // The segment ends before the offset: only a gap can lie between, and nobody can
                // have been sent bytes of a gap. The end of the gap itself may be acknowledged.
                return Err(missing(offset));
            }
        }
        Ok(reader)
    }

    /// The offset of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at.all
    }

    /// Where all streams stand before the next byte.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.at
    }

    /// The next piece below `end`, of at most `room` bytes; `None` when there is none.
    ///
    /// # Errors
    /// What the file system says, or that the spool is damaged.
    pub fn next(&mut self, end: u64, room: usize) -> io::Result<Option<Piece>> {
        loop {
            if self.at.all >= end || room == 0 {
                return Ok(None);
            }
            if let Some((stream, left)) = self.find_record()? {
                let below_end = end - self.at.all;
                let want = left.min(below_end).min(room as u64);
                let mut bytes = vec![0; usize::try_from(want).unwrap_or(room)];
                self.read_exact(&mut bytes)?;
                let at = self.at;
                self.consume(stream, bytes.len() as u64);
                self.extend(stream, &mut bytes, end, room)?;
                return Ok(Some(Piece::Bytes { stream, at, bytes }));
            }
            if let Some(gap) = self.enter_next_segment()? {
                return Ok(Some(gap));
            }
        }
    }

    /// Adds the records that follow in the same stream: a command that writes line by line would
    /// otherwise cost a frame for each.
    fn extend(
        &mut self,
        stream: Stream,
        bytes: &mut Vec<u8>,
        end: u64,
        room: usize,
    ) -> io::Result<()> {
        while bytes.len() < room && self.at.all < end {
            let Some((next, left)) = self.find_record()? else { return Ok(()) };
            if next != stream {
                return Ok(());
            }
            let more = left.min(end - self.at.all).min((room - bytes.len()) as u64);
            let had = bytes.len();
            bytes.resize(had + usize::try_from(more).unwrap_or(0), 0);
            let (_, fresh) = bytes.split_at_mut(had);
            self.read_exact(fresh)?;
            self.consume(stream, more);
        }
        Ok(())
    }

    /// Reads to the end of what is whole. Where that is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn find_end(&mut self) -> io::Result<Totals> {
        loop {
            while self.skip_in_segment(usize::MAX)? > 0 {}
            let segments = list_segments(&self.folder)?;
            if !segments.iter().any(|from| *from >= self.at.all && *from != self.begin_of_open()) {
                return Ok(self.at);
            }
            match self.enter_next_segment() {
                Ok(_) => {}
                // The keeper died while it began this segment.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(self.at),
                Err(error) => return Err(error),
            }
        }
    }

    fn begin_of_open(&self) -> u64 {
        // An open segment in which nothing was found begins where we stand.
        match &self.open {
            Some(open) if open.position == HEADER_BYTES => self.at.all,
            _ => u64::MAX,
        }
    }

    /// Opens a segment so that it cannot be dropped any more.
    fn take(&self, from: u64) -> io::Result<(Open, Totals)> {
        let taken = taken_name(from);
        match files::rename(&self.folder, &fresh_name(from), &taken) {
            Ok(()) => {}
            // Taken before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = files::open(&self.folder, &taken)?;
        let mut header = [0; 32];
        let mut done = 0;
        while done < header.len() {
            match file.read_at(&mut header[done..], done as u64)? {
                0 => return Err(damaged("a segment without a header")),
                count => done += count,
            }
        }
        let at = decode_header(&header).ok_or_else(|| damaged("a segment of an unknown kind"))?;
        if at.all != from {
            return Err(damaged("a segment under a wrong name"));
        }
        Ok((Open { file, position: HEADER_BYTES, record: None }, at))
    }

    /// The record at the position, when a whole one is there.
    fn find_record(&mut self) -> io::Result<Option<(Stream, u64)>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if let Some((stream, left)) = open.record
            && left > 0
        {
            return Ok(Some((stream, left)));
        }
        let mut head = [0; RECORD_BYTES as usize];
        let mut done = 0;
        while done < head.len() {
            match open.file.read_at(&mut head[done..], open.position + done as u64)? {
                0 => return Ok(None),
                count => done += count,
            }
        }
        let Some((stream, length)) = decode_record(head) else { return Ok(None) };
        let end = open.position + RECORD_BYTES + u64::from(length);
        let size = open.file.metadata()?.len();
        if size < end {
            // Torn: the keeper died, or the disk filled up, while it wrote this.
            return Ok(None);
        }
        open.position += RECORD_BYTES;
        open.record = Some((stream, u64::from(length)));
        Ok(open.record)
    }

    fn read_exact(&self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(open) = &self.open else { return Err(damaged("no segment")) };
        let mut done = 0;
        while done < bytes.len() {
            match open.file.read_at(&mut bytes[done..], open.position + done as u64)? {
                0 => return Err(damaged("a segment that became shorter")),
                count => done += count,
            }
        }
        Ok(())
    }

    fn consume(&mut self, stream: Stream, count: u64) {
        advance(&mut self.at, stream, count);
        if let Some(open) = &mut self.open {
            open.position += count;
            open.record = open
                .record
                .map(|(stream, left)| (stream, left.saturating_sub(count)))
                .filter(|(_, left)| *left > 0);
        }
    }

    fn skip_in_segment(&mut self, most: usize) -> io::Result<u64> {
        let Some((stream, left)) = self.find_record()? else { return Ok(0) };
        let count = left.min(most as u64);
        self.consume(stream, count);
        Ok(count)
    }

    /// Goes on to the segment behind the open one; a gap when it does not follow directly.
    fn enter_next_segment(&mut self) -> io::Result<Option<Piece>> {
        // The usual case costs no listing of the folder. A segment that is open and has nothing to
        // give is not the one behind itself.
        if self.begin_of_open() != self.at.all {
            match self.take(self.at.all) {
                Ok((open, at)) => {
                    self.open = Some(open);
                    self.at = at;
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let segments = list_segments(&self.folder)?;
            let Some(from) = segments.into_iter().find(|from| *from > self.at.all) else {
                return Err(damaged("output is missing at the end of the spool"));
            };
            match self.take(from) {
                Ok((open, at)) => {
                    let before = self.at;
                    self.open = Some(open);
                    self.at = at;
                    let gap = Gap {
                        from: before.all,
                        to: at.all,
                        stdout: at.stdout.saturating_sub(before.stdout),
                        stderr: at.stderr.saturating_sub(before.stderr),
                    };
                    return Ok(Some(Piece::Gap { at: before, gap }));
                }
                // Dropped between the listing and now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn missing(offset: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("output from offset {offset} on is not in the spool"),
    )
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the spool is damaged: {what}"))
}
