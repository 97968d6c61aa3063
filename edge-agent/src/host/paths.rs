//! Paths that others ask for, opened under the machine owner's rules. What was opened is checked, by
//! its descriptor, never a name: between a look at a name and its use it may come to mean something
//! else.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use reeve_protocol::ops::{Failure, RemotePath};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::sandbox;

/// Where file operations may look and what they never touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    allowed: Vec<PathBuf>,
    blocked: Vec<PathBuf>,
}

/// Whether a symbolic link at the very end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// What it leads to is meant.
    Follow,
    /// The link itself is meant.
    Keep,
}

/// Something at a path, open as a place only (`O_PATH`): nothing of it was read.
#[derive(Debug)]
pub struct Place {
    /// It.
    pub fd: OwnedFd,
    /// Where it really is.
    pub real: PathBuf,
}

impl Rules {
    /// Rules with every user's home put in for `~`; `own` is the agent's state, which is never
    /// touched.
    ///
    /// # Errors
    /// When the blocked paths make no sense on this machine.
    pub fn new(allowed: &[String], blocked: &[String], own: &Path) -> Result<Self, Failure> {
        let own = own.to_string_lossy().into_owned();
        let patterns = blocked.iter().chain([&own]).map(String::as_str);
        let blocked = sandbox::expand(patterns)
            .map_err(|error| Failure::new("policy_path", error.to_string()))?;
        let blocked = blocked.into_iter().map(PathBuf::from).collect();
        let allowed = allowed
            .iter()
            .map(|path| std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path)))
            .collect();
        Ok(Self { allowed, blocked })
    }

    /// Opens the place at a path.
    ///
    /// # Errors
    /// `policy_path` when the rules forbid it, otherwise what openat2(2) says.
    pub fn find(&self, path: &RemotePath, last: LastLink) -> Result<Place, Failure> {
        path.check().map_err(|error| Failure::at("invalid", path, error.to_string()))?;
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if last == LastLink::Keep {
            flags |= OFlags::NOFOLLOW;
        }
        let name = OsStr::from_bytes(path.as_bytes());
        let fd = rustix::fs::openat2(
            rustix::fs::CWD,
            name,
            flags,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(|errno| describe(&errno.into(), path))?;
        let real = real_path(fd.as_fd()).map_err(|error| describe(&error, path))?;
        self.check(&real, path)?;
        Ok(Place { fd, real })
    }

    fn check(&self, real: &Path, path: &RemotePath) -> Result<(), Failure> {
        let allowed = self.allowed.iter().any(|base| real.starts_with(base));
        if !allowed || self.blocked.iter().any(|base| real.starts_with(base)) {
            return Err(Failure::at(
                "policy_path",
                path,
                format!(
                    "this machine's policy does not let Reeve touch {} ([paths] in \
                     /etc/reeve/agent.toml); only its owner can change that",
                    path.display()
                ),
            ));
        }
        Ok(())
    }
}

/// Where an open file is now (`/proc/self/fd`, proc(5)).
fn real_path(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(link)
}

impl Place {
    /// What is there.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn metadata(&self) -> io::Result<std::fs::Metadata> {
        File::from(self.fd.try_clone()?).metadata()
    }

    /// Where it leads, when it is a symbolic link.
    ///
    /// # Errors
    /// What readlink(2) says.
    pub fn read_link(&self) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, "", Vec::new())?.into_bytes())
    }

    /// Opens it to be read.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

/// What the system says, as a failure about a path.
#[must_use]
pub fn describe(error: &io::Error, path: &RemotePath) -> Failure {
    let shown = path.display();
    let (code, message) = match error.kind() {
        io::ErrorKind::NotFound => ("not_found", format!("{shown} is not there")),
        io::ErrorKind::PermissionDenied => {
            ("not_permitted", format!("the agent may not use {shown}: permission denied"))
        }
        io::ErrorKind::NotADirectory => {
            ("not_a_directory", format!("a part of {shown} is no directory"))
        }
        io::ErrorKind::IsADirectory => ("is_a_directory", format!("{shown} is a directory")),
        io::ErrorKind::AlreadyExists => ("exists", format!("{shown} is there already")),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("disk_full", format!("there is no space for {shown}; free some on the machine"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ("read_only", format!("{shown} is on a file system that is mounted read-only"))
        }
        io::ErrorKind::DirectoryNotEmpty => ("not_empty", format!("{shown} is not empty")),
        _ => ("io", format!("{shown}: {error}")),
    };
    Failure::at(code, path, message)
}
