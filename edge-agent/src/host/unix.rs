//! Unix sockets below a folder of any depth. A socket's path may have 108 bytes (unix(7)); through
//! `/proc/self/fd` the folder costs only a few of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a folder, to be used as the base of other calls.
///
/// # Errors
/// What open(2) says.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?)
}

fn short_path(folder: BorrowedFd<'_>, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())
}

/// Listens on `name` in `folder`, replacing what was left of an earlier socket.
///
/// # Errors
/// What bind(2) says.
pub fn listen(folder: impl AsFd, name: &str) -> io::Result<std::os::unix::net::UnixListener> {
    let folder = folder.as_fd();
    let remove = || rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty());
    match rustix::io::retry_on_intr(remove) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    std::os::unix::net::UnixListener::bind(short_path(folder, name))
}

/// Connects to `name` in `folder`.
///
/// # Errors
/// What connect(2) says.
pub fn connect(folder: impl AsFd, name: &str) -> io::Result<std::os::unix::net::UnixStream> {
    std::os::unix::net::UnixStream::connect(short_path(folder.as_fd(), name))
}
