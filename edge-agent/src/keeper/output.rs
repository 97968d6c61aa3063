//! The command's two output pipes, or its terminal: read in turn, redacted if that was asked for, appended to the
//! spool in the order in which they were read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use reeve_protocol::Stream;

use super::redact::Redactor;
use super::spool::{Append, SpoolWriter};
use crate::host::{pipe, terminal};

/// Bytes read from a pipe at once.
const READ_BYTES: usize = 256 * 1024;

/// Likewise where they are redacted: a placeholder may be longer than its secret, and all of it has
/// to fit into a small process.
const REDACTED_READ_BYTES: usize = 32 * 1024;

/// Reads of a pipe after the end of everything that was to end: many times what a pipe holds.
const MAX_LAST_READS: u32 = 64;

struct OutputPipe {
    stream: Stream,
    /// `None` at its end.
    pipe: Option<OwnedFd>,
}

/// Both pipes.
pub struct Outputs {
    pipes: [OutputPipe; 2],
    /// Reused for every read; given its size by the first one.
    buffer: Vec<u8>,
    /// Read but not in the spool because the disk is full: stream and bytes of `buffer`.
    unwritten: Option<(Stream, usize)>,
    redaction: Option<Redaction>,
}

struct Redaction {
    redactor: Redactor,
    /// Redacted and not in the spool yet. Empty unless the disk is full.
    ready: VecDeque<(Stream, Vec<u8>)>,
}

impl Outputs {
    /// Our ends of a command's pipes.
    #[must_use]
    pub fn new(stdout: OwnedFd, stderr: Option<OwnedFd>, redact: bool) -> Self {
        Self {
            pipes: [
                OutputPipe { stream: Stream::Stdout, pipe: Some(stdout) },
                OutputPipe { stream: Stream::Stderr, pipe: stderr },
            ],
            buffer: Vec::new(),
            unwritten: None,
            redaction: redact
                .then(|| Redaction { redactor: Redactor::new(), ready: VecDeque::new() }),
        }
    }

    /// Those not at their end, to wait for.
    pub fn pipes(&self) -> impl Iterator<Item = &OwnedFd> {
        self.pipes.iter().filter_map(|output| output.pipe.as_ref())
    }

    /// Whether something was read and is not in the spool because the disk is full.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.unwritten.is_some()
            || self.redaction.as_ref().is_some_and(|redaction| !redaction.ready.is_empty())
    }

    /// Whether both are at their end and all is in the spool.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        !self.is_waiting() && self.pipes.iter().all(|output| output.pipe.is_none())
    }

    /// When to call [`Self::read`] though nothing came.
    #[must_use]
    pub fn look_at(&self) -> Option<Instant> {
        // Not while the disk is full: nothing could be done then, again and again.
        let redaction = self.redaction.as_ref().filter(|_| !self.is_waiting());
        redaction.and_then(|redaction| redaction.redactor.look_at())
    }

    /// One read from each pipe, so that neither waits for the other.
    ///
    /// # Errors
    /// What read(2) and the file system say.
    pub fn read(&mut self, spool: &mut SpoolWriter) -> io::Result<()> {
        for at in 0..self.pipes.len() {
            self.read_one(at, spool)?;
        }
        if let Some(redaction) = &mut self.redaction
            && redaction.ready.is_empty()
            && redaction.redactor.is_due(Instant::now())
        {
            for stream in [Stream::Stdout, Stream::Stderr] {
                redaction.rest(stream);
            }
            redaction.write(spool)?;
        }
        Ok(())
    }

    /// Whether bytes came.
    fn read_one(&mut self, at: usize, spool: &mut SpoolWriter) -> io::Result<bool> {
        if !self.write_again(spool)? {
            return Ok(false);
        }
        let most = if self.redaction.is_some() { REDACTED_READ_BYTES } else { READ_BYTES };
        let room = usize::try_from(spool.room()).unwrap_or(most).min(most);
        let Some(output) = self.pipes.get_mut(at) else { return Ok(false) };
        let Some(pipe) = &output.pipe else { return Ok(false) };
        if room == 0 {
            return Ok(false);
        }
        if self.buffer.is_empty() {
            self.buffer = vec![0; most];
        }
        let count = match pipe::read(pipe, &mut self.buffer[..room]).or_else(end_of_terminal) {
            Ok(0) => {
                output.pipe = None;
                let stream = output.stream;
                if let Some(redaction) = &mut self.redaction {
                    redaction.finish(stream);
                    redaction.write(spool)?;
                }
                return Ok(false);
            }
            Ok(count) => count,
            Err(error) if pipe::is_passing(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let (stream, bytes) = (output.stream, &self.buffer[..count]);
        if let Some(redaction) = &mut self.redaction {
            redaction.take(stream, bytes);
            redaction.write(spool)?;
        } else if spool.append(stream, bytes)? == Append::DiskFull {
            self.unwritten = Some((stream, count));
        }
        Ok(true)
    }

    /// Offers again what did not fit on the disk. Whether nothing of it is left.
    fn write_again(&mut self, spool: &mut SpoolWriter) -> io::Result<bool> {
        if let Some((stream, count)) = self.unwritten {
            if spool.append(stream, &self.buffer[..count])? == Append::DiskFull {
                return Ok(false);
            }
            self.unwritten = None;
        }
        match &mut self.redaction {
            Some(redaction) => redaction.write(spool),
            None => Ok(true),
        }
    }

    /// Reads what the pipes still hold, when everything that was to end has ended. Whether that is
    /// all.
    ///
    /// # Errors
    /// What read(2) and the file system say.
    pub fn read_rest(&mut self, spool: &mut SpoolWriter) -> io::Result<bool> {
        for at in 0..self.pipes.len() {
            // Nobody of the command writes any more, so this ends; the bound is for those who were
            // kept, or who took a descriptor away.
            let mut reads = 0;
            while reads < MAX_LAST_READS && self.read_one(at, spool)? {
                reads += 1;
            }
            // This pipe was left for want of room and may hold more, though there may be room by the
            // time the other one has been read.
            if self.is_waiting() {
                return Ok(false);
            }
        }
        if self.is_drained() {
            return Ok(true);
        }
        if spool.room() == 0 {
            return Ok(false);
        }
        // Empty, and yet open: somebody outside holds the other end. Whoever was to be killed is
        // dead, so nothing of the command is missing.
        match &mut self.redaction {
            Some(redaction) => {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    redaction.finish(stream);
                }
                redaction.write(spool)
            }
            None => Ok(true),
        }
    }
}

/// A terminal has no end of file.
fn end_of_terminal(error: io::Error) -> io::Result<usize> {
    if terminal::is_hangup(&error) { Ok(0) } else { Err(error) }
}

impl Redaction {
    fn put(&mut self, stream: Stream, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.ready.push_back((stream, bytes));
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        // What the other stream has shown so far comes before.
        let other = match stream {
            Stream::Stdout => Stream::Stderr,
            Stream::Stderr => Stream::Stdout,
        };
        self.rest(other);
        let mut out = Vec::with_capacity(bytes.len());
        self.redactor.push(stream, bytes, Instant::now(), &mut out);
        self.put(stream, out);
    }

    fn rest(&mut self, stream: Stream) {
        let mut out = Vec::new();
        self.redactor.rest(stream, &mut out);
        self.put(stream, out);
    }

    fn finish(&mut self, stream: Stream) {
        let mut out = Vec::new();
        self.redactor.finish(stream, &mut out);
        self.put(stream, out);
    }

    /// Whether nothing is left to be written.
    fn write(&mut self, spool: &mut SpoolWriter) -> io::Result<bool> {
        while let Some((stream, bytes)) = self.ready.front() {
            if spool.append(*stream, bytes)? == Append::DiskFull {
                return Ok(false);
            }
            self.ready.pop_front();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use reeve_protocol::ops::SpoolFull;

    use super::*;

    #[test]
    fn rest_of_a_pipe_is_not_given_up_when_room_comes_while_the_other_one_is_read() {
        // However often the disk fails, and whosever turn it is when it does no more.
        for stumbles in 0..8 {
            let folder = tempfile::tempdir().expect("a folder");
            let open = crate::host::unix::open_folder(folder.path()).expect("opened");
            let mut spool = SpoolWriter::new(open, 1 << 20, 1 << 16, SpoolFull::Block);
            let (stdout, writer) = pipe::make().expect("a pipe");
            let (stderr, other) = pipe::make().expect("a pipe");
            pipe::set_nonblocking(&stdout).expect("set");
            pipe::set_nonblocking(&stderr).expect("set");
            let mut outputs = Outputs::new(stdout, Some(stderr), false);
            let mut writer = std::fs::File::from(writer);
            spool.stumbles = stumbles;
            writer.write_all(&[b'a'; 1000]).expect("written");
            outputs.read(&mut spool).expect("read");
            writer.write_all(&[b'b'; 500]).expect("written");
            drop((writer, other));
            let mut tries = 0;
            while !outputs.read_rest(&mut spool).expect("read") {
                tries += 1;
                assert!(tries < 10, "it has no end");
            }
            assert_eq!(spool.totals().stdout, 1500, "{stumbles} failures");
        }
    }
}
