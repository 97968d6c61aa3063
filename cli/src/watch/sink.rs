//! Writes to stdout and stderr on a thread of its own, so that a reader who stops reading stops
//! neither Ctrl-C nor the sending of stdin, and decrypting goes on while writing.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use bytes::Bytes;
use reeve_protocol::Stream;
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;

/// Chunks waiting to be written. One is at most what one read of the connection gave, some hundred
/// KiB. When full, nothing more is read from the coordinator, which keeps everything.
const QUEUE: usize = 64;
/// What the handling of one event may put into the queue.
const ROOM_PER_EVENT: usize = 8;

struct Chunk {
    stream: Stream,
    bytes: Bytes,
}

/// The way out.
pub struct Sink {
    sender: mpsc::Sender<Chunk>,
    done: oneshot::Receiver<io::Result<()>>,
    _thread: JoinHandle<()>,
}

impl Sink {
    pub fn open() -> io::Result<Self> {
        // Files, not `io::stdout`: that one looks for ends of lines in every gigabyte.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (finished, done) = oneshot::channel();
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let _ = finished.send(write_all(receiver, stdout, stderr));
        })?;
        Ok(Self { sender, done, _thread: thread })
    }

    /// Whether the next event can be handled.
    pub fn has_room(&self) -> bool {
        self.sender.capacity() >= ROOM_PER_EVENT
    }

    /// Waits until it can, or until nobody writes any more.
    pub async fn wait_for_room(&self) {
        // Taking the places and giving them back at once.
        drop(self.sender.reserve_many(ROOM_PER_EVENT).await);
    }

    /// Waits until writing has failed.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Puts bytes into the queue. Bytes for a closed sink are dropped; [`Self::closed`] tells.
    pub async fn write(&self, stream: Stream, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            let _ = self.sender.send(Chunk { stream, bytes }).await;
        }
    }

    /// A line on stderr, in order with the output.
    pub async fn note(&self, text: &str) {
        self.write(Stream::Stderr, format!("{}\n", crate::terminal::escape(text))).await;
    }

    /// Waits until everything is written.
    pub async fn finish(self) -> Result<(), Failure> {
        drop(self.sender);
        match self.done.await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Failure::new("writing the output ended unexpectedly")),
        }
    }
}

fn write_all(
    mut receiver: mpsc::Receiver<Chunk>,
    mut stdout: File,
    mut stderr: File,
) -> io::Result<()> {
    while let Some(chunk) = receiver.blocking_recv() {
        match chunk.stream {
            Stream::Stdout => stdout.write_all(&chunk.bytes)?,
            // Talk that nobody listens to is no reason to end the command.
            Stream::Stderr => match stderr.write_all(&chunk.bytes) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            },
        }
    }
    Ok(())
}
