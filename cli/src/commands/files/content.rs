//! The content of files, to and from machines, as `file_read` and `file_write` have it.

use reeve_protocol::Stream;
use reeve_protocol::ops::{self, FileEntry, FileRead, FileWrite};
use reeve_sdk::api::JobRequest;
use reeve_sdk::transfer::{self, TransferError, stream_of};
use reeve_sdk::{Answered, Event};

use super::asking::Asker;
use crate::exit;
use crate::failure::Failure;
use crate::target::Remote;
use crate::watch::Interrupts;

/// How often a reading that broke off is taken up again without getting any further.
const MAX_TRIES: u32 = 5;

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
            let mut incoming = transfer::Content::default();
            let ask = FileRead { offset: from, ..ask.clone() };
            let broken = self.read_once(machine, ask, &mut incoming, sink, &mut interrupts).await?;
            let Some(broken) = broken else {
                return incoming
                    .finish()
                    .ok_or_else(|| Failure::new("the content did not come whole").into());
            };
            let reached = from + incoming.length();
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
        incoming: &mut transfer::Content,
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
                    if let Err(failure) = push(incoming, &output.bytes, sink) {
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
        let stream = stream_of(content).map_err(unreadable)?;
        self.ask_with_input(machine, ask, stream).await
    }
}

fn push(content: &mut transfer::Content, bytes: &[u8], sink: Sink<'_>) -> Result<(), Failure> {
    let mut failed = None;
    let pushed = content.push(bytes, &mut |piece| {
        sink(piece).map_err(|failure| {
            failed = Some(failure);
            std::io::ErrorKind::Other.into()
        })
    });
    match failed {
        Some(failure) => Err(failure),
        None => pushed.map_err(unreadable),
    }
}

fn unreadable(error: TransferError) -> Failure {
    Failure::new(error.to_string())
}
