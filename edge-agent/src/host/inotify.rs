//! Being woken when something in folders changes (inotify(7)). Only a hint: what changed is looked up,
//! and where nothing can be watched (network file systems, no watches left) time wakes instead.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::paths::Place;

/// Folders watched at most; the kernel gives a user some thousand watches in all.
const MAX_FOLDERS: usize = 256;

/// Watches folders.
#[derive(Debug)]
pub struct Watch {
    fd: Option<OwnedFd>,
    folders: HashSet<Vec<u8>>,
}

impl Watch {
    /// Watches nothing yet. Where the kernel gives none, waiting is by time alone.
    #[must_use]
    pub fn new() -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Self { fd, folders: HashSet::new() }
    }

    /// Watches a folder, once; `name` is how it is known here.
    pub fn add(&mut self, name: &[u8], place: &Place) {
        let Some(fd) = &self.fd else { return };
        if self.folders.len() >= MAX_FOLDERS || self.folders.contains(name) {
            return;
        }
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE;
        let path = format!("/proc/self/fd/{}", place.fd.as_raw_fd());
        if inotify::add_watch(fd, path, flags).is_ok() {
            self.folders.insert(name.to_vec());
        }
    }

    /// Waits until something changes, or for so long.
    pub fn wait(&self, most: Duration) {
        let limit = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        let Some(fd) = &self.fd else {
            let _ = rustix::event::poll(&mut [], Some(&limit));
            return;
        };
        let mut descriptors = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        let _ = rustix::event::poll(&mut descriptors, Some(&limit));
        // What it says is not needed: everything is looked at.
        let mut buffer = [0_u8; 16 * 1024];
        while let Ok(1..) = rustix::io::read(fd, &mut buffer) {}
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}
