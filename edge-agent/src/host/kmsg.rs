//! The kernel's own buffer of messages, `/dev/kmsg`
//! (<https://docs.kernel.org/admin-guide/abi-testing.html#abi-dev-kmsg>): each read gives one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::time::ClockId;

use super::paths::Place;

/// It, from its oldest message on.
#[derive(Debug)]
pub struct KernelMessages(File);

impl KernelMessages {
    /// Opens it where it was found.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(place: &Place) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", place.fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Self(File::from(rustix::fs::open(path, flags, Mode::empty())?)))
    }

    /// The next message; `None` when there is none now.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn next<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                Ok(count) => return Ok(Some(buffer.get(..count).unwrap_or_default())),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // The next one was overwritten before it was read; there are newer ones.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until there is one, or for so long.
    pub fn wait(&self, most: Duration) {
        let limit = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        let mut descriptors = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        let _ = rustix::event::poll(&mut descriptors, Some(&limit));
    }
}

/// When the clock of the kernel's messages was at 0, microseconds since 1970.
#[must_use]
pub fn began_us() -> i64 {
    let since = rustix::time::clock_gettime(ClockId::Monotonic);
    let micros = since.tv_sec.saturating_mul(1_000_000).saturating_add(since.tv_nsec / 1_000);
    super::now_us().saturating_sub(micros)
}
