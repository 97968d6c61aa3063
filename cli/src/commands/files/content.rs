//! The content of files, to and from machines, as `file_read` and `file_write` have it.

use reeve_protocol::Stream;
use reeve_protocol::ops::copy_stream::{
    COPY_FORMAT, COPY_HEADER_BYTES, CopiedFile, CopyEnd, CopyOrder, CopyRecord, CopyStart,
    copy_hole,
};
use reeve_protocol::ops::{self, FileEntry, FileKind, FileRead, FileWrite, RemotePath};
use reeve_sdk::api::JobRequest;
use reeve_sdk::{Answered, Event};

use super::asking::Asker;
use crate::exit;
use crate::failure::Failure;
use crate::target::Remote;
use crate::watch::Interrupts;

/// How often a reading that broke off is taken up again without getting any further.
const MAX_TRIES: u32 = 5;
/// Zeros of a hole that are handed on at once.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Takes content as it comes.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

/// A file that was read whole.
pub struct Content {
    pub bytes: Vec<u8>,
    /// BLAKE3, hexadecimal.
    pub hash: String,
}

/// Why content could not be had: what the machine says, or what happened here.
pub enum Unread {
    Remote(ops::Failure),
    Here(Failure),
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

impl Unread {
    /// As a failure about a machine.
    pub fn into_failure(self, machine: &str) -> Failure {
        match self {
            Self::Remote(failure) => Failure::new(format!("{machine}: {}", failure.message)),
            Self::Here(failure) => failure,
        }
    }
}

/// What has come of a stream.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    order: CopyOrder,
    entry: Option<FileEntry>,
    /// Bytes of the file before this stream.
    from: u64,
    /// Bytes of it that came.
    length: u64,
    hasher: blake3::Hasher,
}

impl Incoming {
    fn push(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), Failure> {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        let buffer = std::mem::take(&mut self.buffer);
        loop {
            let rest = buffer.get(taken..).unwrap_or_default();
            let Some((header, rest)) = rest.split_first_chunk::<COPY_HEADER_BYTES>() else { break };
            let (record, length) = CopyRecord::parse(*header).map_err(unreadable)?;
            let Some(body) = rest.get(..length) else { break };
            self.take(record, body, sink)?;
            taken += COPY_HEADER_BYTES + length;
        }
        self.buffer = buffer.get(taken..).unwrap_or_default().to_vec();
        Ok(())
    }

    fn take(&mut self, record: CopyRecord, body: &[u8], sink: Sink<'_>) -> Result<(), Failure> {
        match record {
            CopyRecord::Start => {
                let start: CopyStart = document(body)?;
                self.order.start(&start).map_err(unreadable)?;
            }
            CopyRecord::Entry => {
                let entry: FileEntry = document(body)?;
                self.order.entry(&entry).map_err(unreadable)?;
                self.entry = Some(entry);
            }
            CopyRecord::Data => {
                self.order.bytes(record, body.len() as u64).map_err(unreadable)?;
                self.hand_on(body, sink)?;
            }
            CopyRecord::Hole => {
                let mut left = copy_hole(body).map_err(unreadable)?;
                self.order.bytes(record, left).map_err(unreadable)?;
                while left > 0 {
                    let count = left.min(ZEROS.len() as u64);
                    let zeros = usize::try_from(count).ok().and_then(|count| ZEROS.get(..count));
                    self.hand_on(zeros.unwrap_or_default(), sink)?;
                    left -= count;
                }
            }
            CopyRecord::FileEnd => {
                let end: CopiedFile = document(body)?;
                self.order.file_end(&end).map_err(unreadable)?;
                if end.hash != self.hasher.finalize().to_hex().as_str() {
                    return Err(Failure::new("what came is not what was sent; try again"));
                }
            }
            CopyRecord::End => {
                let end: CopyEnd = document(body)?;
                self.order.end(&end).map_err(unreadable)?;
            }
            CopyRecord::Packed | CopyRecord::Skipped => {
                return Err(Failure::new(format!("{record:?} was not asked for")));
            }
        }
        Ok(())
    }

    fn hand_on(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), Failure> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        sink(bytes)
    }
}

fn unreadable(error: ops::copy_stream::BadStream) -> Failure {
    Failure::new(format!("what the machine sent is not understood: {error}"))
}

fn document<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(format!("what the machine sent is not understood: {error}")))
}

impl Asker {
    /// The machines of a target, by name.
    pub async fn machines(&self, target: &Remote) -> Result<Vec<String>, Failure> {
        if !target.may_be_many() {
            return Ok(vec![target.selector.clone()]);
        }
        let look = FileRead::new(target.path.clone());
        let request = JobRequest::new(&target.selector, look);
        let targets = self.client.preview_job(&request).await?.targets;
        Ok(targets.into_iter().map(|target| target.machine).collect())
    }

    /// Hands a file's content on while it comes. It passes through the coordinator and is not kept
    /// there; a connection that breaks costs nothing, as what was read is not read again.
    pub async fn read(
        &self,
        machine: &str,
        ask: &FileRead,
        sink: Sink<'_>,
    ) -> Result<FileEntry, Unread> {
        let mut interrupts = Interrupts::catch()?;
        let (mut from, mut tries) = (ask.offset, 0);
        loop {
            let mut incoming = Incoming { from, ..Incoming::default() };
            let ask = FileRead { offset: from, ..ask.clone() };
            let broken = self.read_once(machine, ask, &mut incoming, sink, &mut interrupts).await?;
            let Some(broken) = broken else {
                return incoming
                    .entry
                    .filter(|_| incoming.order.has_ended())
                    .ok_or_else(|| Failure::new("the content did not come whole").into());
            };
            let reached = incoming.from + incoming.length;
            tries = if reached > from { 0 } else { tries + 1 };
            if tries >= MAX_TRIES {
                return Err(Failure::from(broken).into());
            }
            from = reached;
        }
    }

    /// One job; an error when its connection broke.
    async fn read_once(
        &self,
        machine: &str,
        ask: FileRead,
        incoming: &mut Incoming,
        sink: Sink<'_>,
        interrupts: &mut Interrupts,
    ) -> Result<Option<reeve_sdk::Error>, Unread> {
        let request = JobRequest { relay: true, ..JobRequest::new(machine, ask) };
        let mut follow = self.client.run(&request).map_err(Failure::from)?;
        let (mut last, mut stderr) = (None, Vec::new());
        loop {
            let event = tokio::select! {
                biased;
                () = interrupts.next() => {
                    self.cancel(&follow).await;
                    return Err(Failure::silent(exit::INTERRUPTED).into());
                }
                event = follow.next() => event,
            };
            match event {
                Ok(Some(Event::Operation(operation))) => last = Some(*operation),
                Ok(Some(Event::Output(output))) if output.stream == Stream::Stdout => {
                    if let Err(failure) = incoming.push(&output.bytes, sink) {
                        self.cancel(&follow).await;
                        return Err(failure.into());
                    }
                }
                Ok(Some(Event::Output(output))) => stderr.extend_from_slice(&output.bytes),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) if error.is_relay_broken() => return Ok(Some(error)),
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        let Some(operation) = last else {
            return Err(Failure::new("the job ended without an operation").into());
        };
        match Answered::new(operation, Vec::new(), &stderr).failure {
            Some(failure) => Err(Unread::Remote(failure)),
            None => Ok(None),
        }
    }

    /// The whole of a file that has at most `most` bytes.
    pub async fn read_whole(
        &self,
        machine: &str,
        ask: &FileRead,
        most: usize,
    ) -> Result<Content, Unread> {
        let mut bytes = Vec::new();
        let mut keep = |piece: &[u8]| {
            if bytes.len() + piece.len() > most {
                return Err(Failure::new(format!(
                    "{} is larger than {} MiB; copy it with 'reeve cp'",
                    super::shown::shown(&ask.path),
                    most / (1024 * 1024)
                )));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.read(machine, ask, &mut keep).await?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        Ok(Content { bytes, hash })
    }

    /// Writes a file.
    pub async fn write(
        &self,
        machine: &str,
        ask: FileWrite,
        content: &[u8],
    ) -> Result<Vec<Answered>, Failure> {
        let stream = stream_of(content)?;
        self.ask_with_input(machine, ask, stream).await
    }
}

/// A stream of one file.
fn stream_of(content: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut stream = Vec::with_capacity(content.len() + 1024);
    let entry = FileEntry {
        path: RemotePath::new(""),
        kind: FileKind::File,
        size: content.len() as u64,
        allocated: 0,
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        modified_ns: jiff::Timestamp::now().as_microsecond().saturating_mul(1000),
        changed_ns: 0,
        device: 0,
        inode: 0,
        links: 1,
        target: None,
        hash: None,
    };
    let start = CopyStart { format: COPY_FORMAT, ..CopyStart::default() };
    let hash = blake3::hash(content).to_hex().to_string();
    let end = CopiedFile { size: content.len() as u64, hash, changed: false };
    put(&mut stream, CopyRecord::Start, &start)?;
    put(&mut stream, CopyRecord::Entry, &entry)?;
    for piece in content.chunks(ZEROS.len()) {
        CopyRecord::Data.write(&mut stream, piece)?;
    }
    put(&mut stream, CopyRecord::FileEnd, &end)?;
    put(&mut stream, CopyRecord::End, &CopyEnd { entries: 1, skipped: 0 })?;
    Ok(stream)
}

fn put<T: serde::Serialize>(
    stream: &mut Vec<u8>,
    record: CopyRecord,
    document: &T,
) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(document)
        .map_err(|error| Failure::new(format!("cannot write the stream: {error}")))?;
    record.write(stream, &bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_out_as_it_went_in_however_it_is_cut() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let stream = stream_of(&content).expect("a stream");
        for piece in [1, 7, 65_536, stream.len()] {
            let mut incoming = Incoming::default();
            let mut got = Vec::new();
            for bytes in stream.chunks(piece.max(stream.len() / 5000)) {
                incoming
                    .push(bytes, &mut |it| {
                        got.extend_from_slice(it);
                        Ok(())
                    })
                    .expect("taken");
            }
            assert!(got == content && incoming.order.has_ended(), "{piece}");
        }
        let mut damaged = stream.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        let mut incoming = Incoming::default();
        assert!(incoming.push(&damaged, &mut |_| Ok(())).is_err());
    }
}
