//! Keys as they are pressed. Standard input is read on a thread of its own, and going there and back
//! takes longer than all else we do with a key; a terminal can be waited for like a socket.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use tokio::io::{AsyncReadExt, Stdin};
use tokio::net::unix::pipe::Receiver;

/// Our own way to the terminal on standard input: that it does not block must not be seen by others
/// who have it open.
const OWN: &str = "/proc/self/fd/0";

/// Where keys come from.
pub enum Keys {
    /// The terminal: to be waited for and read like a pipe.
    Terminal(Receiver),
    /// Whatever is on standard input.
    Stdin(Stdin),
}

impl Keys {
    /// Those of standard input.
    #[must_use]
    pub fn open() -> Self {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(OWN);
        match opened.and_then(Receiver::from_file_unchecked) {
            Ok(terminal) => Self::Terminal(terminal),
            // No such file system, or what is there cannot be waited for.
            Err(_) => Self::Stdin(tokio::io::stdin()),
        }
    }

    /// Reads once. Cancel safe.
    ///
    /// # Errors
    /// What read(2) says.
    pub async fn read(&mut self, keys: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stdin(stdin) => stdin.read(keys).await,
            Self::Terminal(terminal) => terminal.read(keys).await,
        }
    }
}
