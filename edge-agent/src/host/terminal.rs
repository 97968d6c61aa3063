//! Pseudo-terminals (pty(7)): the keeper holds the master, the command is in front of the slave.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::{self, InputModes, OptionalActions, Winsize};

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// What is written to it is typed; what is read from it is shown. Does not block.
    pub master: OwnedFd,
    /// What a program has as stdin, stdout and stderr.
    pub slave: OwnedFd,
}

/// Opens one of this size. With an `owner` it belongs to that user, who may then open it again by
/// `/dev/tty` and the like.
///
/// # Errors
/// What the kernel says; there may be no more of them (`/proc/sys/kernel/pty/max`).
pub fn open(columns: u16, rows: u16, owner: Option<u32>) -> io::Result<Terminal> {
    // Without NOCTTY it would become this process's own terminal.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    // Not by name: the name means something else in another mount namespace.
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Some(uid) = owner {
        // The group stays that of all terminals.
        rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    }
    let mut modes = termios::tcgetattr(&slave)?;
    // A backspace takes away a character and not a byte.
    modes.input_modes |= InputModes::IUTF8;
    termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    resize(&master, columns, rows)?;
    super::pipe::set_nonblocking(&master)?;
    Ok(Terminal { master, slave })
}

/// Changes its size. The kernel tells the programs in front (SIGWINCH).
///
/// # Errors
/// What the kernel says.
pub fn resize(master: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(termios::tcsetwinsize(master, size)?)
}

/// The process group that is in front, if there is one.
#[must_use]
pub fn find_foreground(master: impl AsFd) -> Option<u32> {
    let group = termios::tcgetpgrp(master).ok()?;
    Some(group.as_raw_nonzero().get().unsigned_abs())
}

/// Whether an error of reading the master says that nobody has the slave open any more.
#[must_use]
pub fn is_hangup(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
