//! The keeper's socket: one agent at a time, the newest wins. The agent that started the keeper
//! gave it a connection; the socket is made when that one ends, because only then can another
//! agent come, and most commands are over before.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::files;
use super::wire::{FromKeeper, Incoming, StdinState, ToKeeper, to_frame};
use crate::host::pipe::is_passing;

/// Bytes waiting for an agent that does not read. Only `progress` and `stdin` are sent while
/// others wait, and both are told as one, so this is never reached by an honest agent.
const MAX_WAITING: usize = 64 * 1024;

struct Connection {
    stream: UnixStream,
    incoming: Incoming,
    outgoing: Vec<u8>,
    greeted: bool,
    /// What this agent knows, so that only news is sent.
    told_progress: u64,
    told_stdin: StdinState,
}

/// Where agents come in.
pub struct Door {
    folder: OwnedFd,
    /// `None` until the first agent has left, or while the disk is too full for a socket.
    listener: Option<UnixListener>,
    connection: Option<Connection>,
}

impl Door {
    /// A door in this folder; `first` is the connection that came with the start.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(folder: OwnedFd, first: UnixStream) -> io::Result<Self> {
        let mut door = Self { folder, listener: None, connection: None };
        door.admit(first)?;
        Ok(door)
    }

    /// Opens the door when nobody is inside. Whether somebody is inside or can come in.
    pub fn open_if_alone(&mut self) -> bool {
        if self.connection.is_none() && self.listener.is_none() {
            self.listener = crate::host::unix::listen(&self.folder, files::SOCKET)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .ok();
        }
        self.connection.is_some() || self.listener.is_some()
    }

    fn admit(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.connection = Some(Connection {
            stream,
            incoming: Incoming::default(),
            outgoing: Vec::new(),
            greeted: false,
            told_progress: 0,
            told_stdin: StdinState::default(),
        });
        Ok(())
    }

    /// The listening socket, once there is one.
    #[must_use]
    pub fn listener(&self) -> Option<&UnixListener> {
        self.listener.as_ref()
    }

    /// The agent's socket, and whether bytes wait for it.
    #[must_use]
    pub fn agent(&self) -> Option<(&UnixStream, bool)> {
        self.connection.as_ref().map(|one| (&one.stream, !one.outgoing.is_empty()))
    }

    /// Takes the agents that knock.
    pub fn accept(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        while let Ok((stream, _)) = listener.accept() {
            if self.admit(stream).is_err() {
                self.connection = None;
            }
        }
        self.listener = Some(listener);
    }

    /// What the agent says. A connection that ends or makes no sense is dropped; another may come.
    pub fn receive(&mut self) -> Vec<ToKeeper> {
        let mut messages = Vec::new();
        let Some(one) = &mut self.connection else { return messages };
        let mut good = match one.incoming.read(&mut one.stream) {
            Ok(count) => count > 0,
            Err(error) => is_passing(&error),
        };
        loop {
            match one.incoming.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => {
                    good = false;
                    break;
                }
            }
        }
        if !good {
            self.connection = None;
        }
        messages
    }

    /// Tells the agent what it does not know yet, as far as its socket takes it. `hello` makes the
    /// first message.
    pub fn tell(&mut self, progress: u64, stdin: StdinState, hello: impl FnOnce() -> FromKeeper) {
        let Some(one) = &mut self.connection else { return };
        if !one.greeted {
            one.greeted = true;
            one.told_progress = progress;
            one.told_stdin = stdin;
            one.push(&hello());
        }
        // News waits until the last news has left, so that any amount of it is one message.
        if one.outgoing.is_empty() {
            if one.told_progress != progress {
                one.told_progress = progress;
                one.push(&FromKeeper::Progress { to: progress });
            }
            if one.told_stdin != stdin {
                one.told_stdin = stdin;
                one.push(&FromKeeper::Stdin(stdin));
            }
        }
        self.flush();
    }

    /// Says that it is over, if the agent listens. It looks for itself when it does not.
    pub fn tell_exited(&mut self) {
        if let Some(one) = &mut self.connection {
            one.push(&FromKeeper::Exited);
        }
        self.flush();
    }

    fn flush(&mut self) {
        let Some(one) = &mut self.connection else { return };
        let mut good = one.outgoing.len() <= MAX_WAITING;
        while good && !one.outgoing.is_empty() {
            match one.stream.write(&one.outgoing) {
                Ok(0) => good = false,
                Ok(count) => drop(one.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => good = is_passing(&error),
            }
        }
        if !good {
            self.connection = None;
        }
    }
}

impl Connection {
    fn push(&mut self, message: &FromKeeper) {
        if let Ok(frame) = to_frame(message) {
            self.outgoing.extend_from_slice(&frame);
        }
    }
}
