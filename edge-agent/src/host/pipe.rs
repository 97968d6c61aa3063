//! Pipes between a keeper and its command (pipe(7)), and waiting for several descriptors at once
//! (poll(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Asked of the kernel for each pipe; more in a pipe means fewer turns between two processes. An
/// ordinary user may get less (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES: usize = 1024 * 1024;

/// A pipe: the end to read from, the end to write to.
///
/// # Errors
/// What pipe(2) says.
pub fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // Only faster; the usual 64 KiB do as well.
    let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
    Ok((reader, writer))
}

/// What always is at its end.
///
/// # Errors
/// What open(2) says.
pub fn open_null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Gives a pipe to a user, who may then open it again by `/dev/stdout` and the like.
///
/// # Errors
/// What fchown(2) says.
pub fn give(fd: impl AsFd, uid: u32) -> io::Result<()> {
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(uid));
    Ok(rustix::fs::fchown(fd, Some(user), Some(group))?)
}

/// Makes a descriptor's reads and writes return at once.
///
/// # Errors
/// What fcntl(2) says.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Reads once. 0 bytes are the end.
///
/// # Errors
/// What read(2) says; [`is_passing`] tells whether to come back later.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(fd, buffer)?)
}

/// Writes once, perhaps less than all.
///
/// # Errors
/// What write(2) says; [`is_passing`] tells whether to come back later.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(fd, bytes)?)
}

/// Whether an error only says that now is not the moment.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What to wait for on a descriptor. That its other end is gone always counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, or a connection to accept.
    Read,
    /// Bytes to read, or room to write.
    ReadOrWrite,
    /// Room to write.
    Write,
    /// Only that the other end is gone.
    End,
    /// Something exceptional: a change in a control group's events.
    Urgent,
}

/// What waiting brought for one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to do.
    pub ready: bool,
    /// The other end is gone.
    pub gone: bool,
}

/// Waits until a descriptor is ready, a signal comes, or the time is over; the answers are in the
/// order of the descriptors. Rounds the time up: waking a moment too early would spin.
///
/// # Errors
/// What poll(2) says.
pub fn wait(
    watched: &[(BorrowedFd<'_>, Interest)],
    pause: Option<Duration>,
) -> io::Result<Vec<Readiness>> {
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(fd, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::IN,
                Interest::ReadOrWrite => PollFlags::IN | PollFlags::OUT,
                Interest::Write => PollFlags::OUT,
                Interest::End => PollFlags::empty(),
                Interest::Urgent => PollFlags::PRI,
            };
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    let pause = pause.map(|pause| Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(pause.subsec_nanos().saturating_add(100_000).min(999_999_999)),
    });
    match rustix::event::poll(&mut fds, pause.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let found = fds.iter().map(|fd| {
        let events = fd.revents();
        Readiness {
            ready: !events.is_empty(),
            gone: events.intersects(PollFlags::ERR | PollFlags::HUP),
        }
    });
    Ok(found.collect())
}

/// Lets time pass where nothing tells of a change, as of room on a disk.
pub fn pause(time: Duration) {
    // A signal that cuts it short does no harm.
    let _ = wait(&[], Some(time));
}
