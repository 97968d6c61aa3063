//! From a path to a descriptor. The kernel does it (openat2(2), Linux 5.6); where it cannot, we go
//! component by component and are as strict.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use super::place::real_path;

/// Whether a symbolic link at the very end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// What it leads to is meant.
    Follow,
    /// The link itself is meant.
    Keep,
}

/// Links on one way, as many as Linux follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Links in `/proc` that are ordinary ones. All others lead to what has no path, or past one
/// ("magic links", proc(5)).
const PLAIN_PROC_LINKS: [&str; 4] = ["self", "thread-self", "mounts", "net"];

/// Why a path could not be opened.
#[derive(Debug)]
pub struct Stopped {
    /// What the kernel said.
    pub error: io::Error,
    /// The real path that it was about, as far as known.
    pub at: Option<PathBuf>,
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self { error, at: None }
    }
}

/// Opens a place (`O_PATH`): nothing is read, no device is woken.
pub fn open(path: &Path, last: LastLink, without_openat2: bool) -> Result<OwnedFd, Stopped> {
    if without_openat2 {
        return open_by_steps(path, last);
    }
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if last == LastLink::Keep {
        flags |= OFlags::NOFOLLOW;
    }
    let how = ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), how);
    match retry_on_intr(open) {
        Ok(fd) => Ok(fd),
        // ENOSYS: an older kernel. EPERM: a container's filter that does not know the call. For all
        // else the steps tell where it came to an end.
        Err(errno) => match open_by_steps(path, last) {
            Ok(fd) if matches!(errno, Errno::NOSYS | Errno::PERM) => Ok(fd),
            // It was swapped meanwhile; the kernel's answer counts.
            Ok(_) => Err(io::Error::from(errno).into()),
            Err(stopped) => Err(stopped),
        },
    }
}

/// The same without openat2(2).
fn open_by_steps(path: &Path, last: LastLink) -> Result<OwnedFd, Stopped> {
    let root = || rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mut here = root().map_err(io::Error::from)?;
    let has_slash = path.as_os_str().as_bytes().ends_with(b"/");
    let mut rest: VecDeque<OsString> = split(path).collect();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let stop = |errno: Errno| Stopped {
            error: errno.into(),
            at: real_path(here.as_fd()).ok().map(|folder| folder.join(&name)),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = retry_on_intr(|| rustix::fs::openat(&here, &name, flags, Mode::empty()))
            .map_err(stop)?;
        let stat = rustix::fs::fstat(&next).map_err(stop)?;
        let is_last = rest.is_empty() && !has_slash;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if !is_link || (is_last && last == LastLink::Keep) {
            here = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS || is_magic(&here, &name).map_err(stop)? {
            return Err(stop(Errno::LOOP));
        }
        let target = rustix::fs::readlinkat(&next, "", Vec::new()).map_err(stop)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            here = root().map_err(io::Error::from)?;
        }
        for name in split(&target).rev() {
            rest.push_front(name);
        }
    }
    let stat = rustix::fs::fstat(&here).map_err(io::Error::from)?;
    if has_slash && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let at = real_path(here.as_fd()).ok();
        return Err(Stopped { error: Errno::NOTDIR.into(), at });
    }
    Ok(here)
}

fn split(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    })
}

fn is_magic(folder: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    let kind = rustix::fs::fstatfs(folder)?.f_type;
    let is_plain = PLAIN_PROC_LINKS.iter().any(|plain| name == *plain);
    Ok(kind == rustix::fs::PROC_SUPER_MAGIC && !is_plain)
}

/// Opens a name in a folder, never through a link.
pub fn open_in(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::openat(folder, name, flags, Mode::empty()))?)
}

/// A path without links as far as it is there, the rest of it as it is.
pub fn canonical(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut here = path;
    loop {
        if let Ok(real) = std::fs::canonicalize(here) {
            return missing.iter().rev().fold(real, |path, name| path.join(name));
        }
        match (here.parent(), here.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                here = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// The same with the last name as it is, link or not.
pub fn canonical_folder(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => canonical(folder).join(name),
        _ => path.to_owned(),
    }
}
