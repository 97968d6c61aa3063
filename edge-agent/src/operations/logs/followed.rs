//! One file that is being followed.

use std::io;
use std::time::Instant;

use reeve_protocol::ops::{Failure, LogRead, RemotePath};

use super::cursor::{self, FileCursor, HEAD_BYTES};
use super::family::Member;
use super::files::place_of;
use super::lines::{Body, Lines, MOST as CAPACITY};
use super::packing;
use super::record::Record;
use super::scan::{Scan, Tools};
use crate::host;
use crate::operations::worker::{Worker, lost_answer};

/// Bytes that were not wanted before a cursor is told all the same, so that they are not gone
/// through again.
const UNTOLD: u64 = 4 * 1024 * 1024;

/// A file being followed.
pub struct Followed {
    /// The log's path as it was asked for, as JSON.
    pub source: String,
    pub path: RemotePath,
    pub place: String,
    pub device: u64,
    pub inode: u64,
    /// Its first bytes, as far as they are known; they tell it from what takes its place.
    pub head: Vec<u8>,
    /// Its cursors up to the offset.
    pub mark: String,
    pub scan: Scan,
    /// Up to where a cursor was told.
    pub told: u64,
    /// Whether the log's name still leads to it.
    pub current: bool,
    pub last_written: Instant,
}

/// What a look at a file found.
pub enum State {
    Same,
    /// Likewise, and nothing was written to it.
    Quiet,
    /// It begins anew: emptied, perhaps after a copy was made.
    Emptied,
}

impl Followed {
    pub fn new(source: &str, member: Member, from: u64) -> io::Result<Self> {
        let head = packing::head(&member.file, None)?;
        let mut followed = Self {
            source: source.to_owned(),
            path: member.path,
            place: place_of(source, member.device, member.inode),
            device: member.device,
            inode: member.inode,
            head: Vec::new(),
            mark: String::new(),
            scan: Scan::new(Lines::new(Body::Plain(member.file), from, CAPACITY)),
            told: from,
            current: true,
            last_written: Instant::now(),
        };
        followed.set_head(head);
        Ok(followed)
    }

    pub fn cursor(&self, offset: u64) -> FileCursor {
        FileCursor {
            device: self.device,
            inode: self.inode,
            head_bytes: self.head.len(),
            head_hash: cursor::hash(&self.head),
            offset,
        }
    }

    /// Whether it is still the file it was; takes more of its beginning while that grows.
    pub fn look(&mut self) -> io::Result<State> {
        let reached = self.scan.lines.reached();
        let Some(file) = self.scan.lines.file() else { return Ok(State::Same) };
        let size = file.metadata()?.len();
        if size < reached {
            return Ok(State::Emptied);
        }
        let head = packing::head(file, None)?;
        if !head.starts_with(&self.head) {
            return Ok(State::Emptied);
        }
        if self.head.len() < HEAD_BYTES && head.len() > self.head.len() {
            self.set_head(head);
        }
        Ok(if size == reached { State::Quiet } else { State::Same })
    }

    /// Tells what is there.
    pub fn tell(
        &mut self,
        request: &LogRead,
        worker: &mut Worker,
        tools: &mut Tools<'_>,
        last: bool,
    ) -> Result<(), Failure> {
        let before = self.scan.lines.reached();
        loop {
            let broken = |error| host::paths::describe(&error, &self.path);
            if self.scan.peek(tools, last).map_err(broken)?.is_none() {
                break;
            }
            self.tell_one(request, worker)?;
        }
        if self.scan.lines.reached() != before {
            self.last_written = Instant::now();
        }
        if self.scan.lines.position().saturating_sub(self.told) >= UNTOLD {
            self.tell_place(request, worker, false)?;
        }
        Ok(())
    }

    /// Tells the line that was peeked at.
    pub fn tell_one(&mut self, request: &LogRead, worker: &mut Worker) -> Result<(), Failure> {
        let Some(hit) = self.scan.pop() else { return Ok(()) };
        let cursor = request.cursors.then(|| format!("{}{:x}", self.mark, hit.next));
        self.told = hit.next;
        Record {
            time_us: hit.time_us,
            time_from: hit.time_from,
            source: &self.source,
            text: Some(self.scan.text(&hit)),
            length: hit.length,
            priority: hit.level,
            place: cursor.is_some().then_some(self.place.as_str()),
            cursor: cursor.as_deref(),
            ..Record::default()
        }
        .write(&mut worker.stdout)
        .map_err(|error| lost_answer(&error))
    }

    /// Takes other first bytes for its beginning.
    pub fn set_head(&mut self, head: Vec<u8>) {
        self.head = head;
        self.mark = self.cursor(0).encode_before_offset();
    }

    /// Says how far it was read, or that it is done with.
    pub fn tell_place(
        &mut self,
        request: &LogRead,
        worker: &mut Worker,
        done: bool,
    ) -> Result<(), Failure> {
        if !request.cursors {
            return Ok(());
        }
        self.told = self.scan.lines.position();
        let cursor = self.cursor(self.told).encode();
        Record {
            time_us: host::now_us(),
            place: Some(&self.place),
            cursor: Some(&cursor),
            done,
            ..Record::default()
        }
        .write(&mut worker.stdout)
        .map_err(|error| lost_answer(&error))
    }
}
