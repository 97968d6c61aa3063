//! Attending to one keeper: what it says becomes the operation's view, what is said to the
//! operation goes to it.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reeve_protocol::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::{Operation, Operations, never_started, recover, refusal};
use crate::host::{self, keeper_process};
use crate::keeper::files;
use crate::keeper::wire::{FromKeeper, Incoming, ToKeeper, add_frame};
use crate::state::journal::Event;

/// Messages written to a keeper in one go.
const MESSAGES_AT_ONCE: usize = 4;

/// What is kept for the next messages while none wait, bytes.
const KEPT_BYTES: usize = 128 * 1024;

/// Pause between looks at a keeper that neither listens nor is dead: it is starting, or just about
/// to be gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The pause doubles up to this: a keeper may wait for room on the disk for as long as it takes.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// The lock of an operation's folder. Nothing while its keeper lives.
pub fn take_lock(path: &Path) -> io::Result<Option<File>> {
    let lock_file = files::open_lock(host::unix::open_folder(path)?)?;
    Ok(files::try_lock(&lock_file)?.then_some(lock_file))
}

/// Follows a keeper until its operation is over. With the lock of a new operation, starts the
/// keeper first; without, connects to the one that is there.
pub fn attend(
    operations: &Operations,
    operation: &Arc<Operation>,
    commands: mpsc::Receiver<ToKeeper>,
    start_with: Option<File>,
) {
    let attendant = Attendant {
        operations: operations.clone(),
        operation: operation.clone(),
        commands,
        may_start: start_with.is_some(),
    };
    if start_with.is_some() {
        operations.inner.starting.fetch_add(1, Ordering::Relaxed);
    }
    operations.inner.tasks.spawn("attend keeper", async move {
        let mut attendant = attendant;
        let Some(lock_file) = start_with else { return attendant.run(None).await };
        match attendant.start(lock_file).await {
            Ok(stream) => attendant.run(Some(stream)).await,
            Err(error) => attendant.give_up(&error),
        }
    });
}

struct Attendant {
    operations: Operations,
    operation: Arc<Operation>,
    commands: mpsc::Receiver<ToKeeper>,
    /// Whether a keeper that died before it took the operation may be followed by another, once: only
    /// where this agent was asked for it, and knows that it is still wanted.
    may_start: bool,
}

impl Attendant {
    /// Starts the keeper: the nursery does, and nobody waits for it. Where there is none, starting
    /// blocks for about as long as starting a command takes: where several are to start they do so
    /// side by side, on threads; a single one is started here, because going to a thread and back
    /// takes longer than the rest of the agent's work.
    async fn start(&self, lock_file: File) -> io::Result<StdStream> {
        let inner = &self.operations.inner;
        if let Some(stream) = inner.keepers.ask(self.operation.path(), &lock_file) {
            inner.starting.fetch_sub(1, Ordering::Relaxed);
            return Ok(stream);
        }
        let program = inner.settings.program.clone();
        let path = self.operation.path().to_owned();
        let spawn = move || keeper_process::spawn(&program, &path, lock_file);
        let spawned = if inner.starting.load(Ordering::Relaxed) > 1 {
            tokio::task::spawn_blocking(spawn).await.map_err(io::Error::other).flatten()
        } else {
            spawn()
        };
        inner.starting.fetch_sub(1, Ordering::Relaxed);
        let (mut keeper, stream) = spawned?;
        // Only so that no zombie stays; that it is gone is learnt from its lock.
        inner.tasks.spawn("reap keeper", async move { keeper.wait().await });
        inner.keepers.warm_up(&inner.tasks);
        Ok(stream)
    }

    /// No keeper was made, so nothing ran. The id stays in the journal, which is harmless: this
    /// refusal is final for it.
    fn give_up(&mut self, error: &io::Error) {
        let id = self.operation.id();
        tracing::error!(%id, %error, "no keeper could be started");
        self.commands.close();
        self.operations.write_journal(id, Event::Finished);
        let why = host::explain_no_process(error);
        let message = format!("no process could be made for it: {why}");
        let result = never_started(Outcome::Refused(refusal("start_failed", &message)));
        recover::settle_with(&self.operation, result);
        self.operations.note_change();
    }

    async fn run(mut self, mut stream: Option<StdStream>) {
        let id = self.operation.id();
        let mut pause = LOOK_AGAIN;
        loop {
            let connected = match stream.take() {
                Some(stream) => Some(stream),
                None => host::unix::open_folder(self.operation.path())
                    .and_then(|folder| host::unix::connect(folder, files::SOCKET))
                    .ok(),
            };
            if let Some(connected) = connected {
                pause = LOOK_AGAIN;
                match self.converse(connected).await {
                    // Everything is on disk; no need to see it die.
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%id, %error, "the connection to a keeper ended");
                    }
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_LOOK);
            }
            match take_lock(self.operation.path()) {
                Ok(None) => {}
                Ok(Some(lock_file)) => match self.start_again(lock_file).await {
                    Ok(None) => break,
                    Ok(started) => stream = started,
                    Err(error) => return self.give_up(&error),
                },
                Err(error) => {
                    tracing::error!(%id, %error, "the operation's folder cannot be read");
                    break;
                }
            }
        }
        // From now on the spool belongs to us.
        self.commands.close();
        let operation = self.operation.clone();
        self.operations.write_journal(id, Event::Finished);
        if !recover::settle_by_exit_file(&operation) {
            // Cleaning up after a killed keeper waits for processes to die.
            let operations = self.operations.clone();
            let lost = move || recover::settle_as_lost(&operations, &operation);
            if let Err(error) = tokio::task::spawn_blocking(lost).await {
                tracing::error!(%id, %error, "settling an operation failed");
            }
        }
        self.operations.note_change();
    }

    /// The keeper is gone, and its lock is ours: another one, where nothing can have run.
    ///
    /// # Errors
    /// Why nothing ran, and nothing will.
    async fn start_again(&mut self, lock_file: File) -> io::Result<Option<StdStream>> {
        if !recover::was_never_kept(&self.operations, &self.operation, &lock_file) {
            return Ok(None);
        }
        if !std::mem::take(&mut self.may_start) {
            return Err(io::Error::other(
                "what was to keep the command died before it could start",
            ));
        }
        tracing::warn!(id = %self.operation.id(), "its keeper died before anything ran; another is started");
        self.operations.inner.starting.fetch_add(1, Ordering::Relaxed);
        self.start(lock_file).await.map(Some)
    }

    /// Whether the keeper said that it is over.
    async fn converse(&mut self, stream: StdStream) -> io::Result<bool> {
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream)?;
        let (mut reader, mut writer) = stream.split();
        let mut incoming = Incoming::default();
        let mut buffer = vec![0; 4096];
        let (mut messages, mut frames) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                count = reader.read(&mut buffer) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(false);
                    }
                    incoming.push(&buffer[..count]);
                    while let Some(message) = incoming.take().map_err(io::Error::other)? {
                        if message == FromKeeper::Exited {
                            return Ok(true);
                        }
                        self.note(message);
                    }
                }
                1.. = self.commands.recv_many(&mut messages, MESSAGES_AT_ONCE) => {
                    frames.clear();
                    for message in messages.drain(..) {
                        add_frame(&message, &mut frames).map_err(io::Error::other)?;
                    }
                    writer.write_all(&frames).await?;
                    if frames.capacity() > KEPT_BYTES && self.commands.is_empty() {
                        frames = Vec::new();
                    }
                }
            }
        }
    }

    fn note(&self, message: FromKeeper) {
        match message {
            FromKeeper::Hello { accepted, spool_to, stdin, .. } => self.operation.update(|view| {
                view.accepted = Some(accepted);
                view.spool_to = spool_to;
                view.stdin = stdin;
            }),
            FromKeeper::Progress { to } => self.operation.update(|view| view.spool_to = to),
            FromKeeper::Stdin(stdin) => self.operation.update(|view| view.stdin = stdin),
            FromKeeper::Exited | FromKeeper::Unknown => {}
        }
    }
}
