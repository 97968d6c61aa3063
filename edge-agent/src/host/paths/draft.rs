//! A file that gets its name when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use reeve_protocol::OperationId;
use reeve_protocol::ops::Failure;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::place::proc_path;
use super::spot::rename_at;
use super::{Place, Replace, Spot, describe};

/// What names of files begin with that have not got their own yet; then comes the operation's id.
pub const DRAFT_PREFIX: &str = ".reeve-draft-";

/// A file beside its future place. Until it is published it has no name at all where the file system
/// can do that (`O_TMPFILE`), so that nothing stays behind whatever happens; elsewhere it is removed
/// when this value is dropped.
#[derive(Debug)]
pub struct Draft {
    /// It, for reading and writing, empty at first, for its owner only.
    pub file: File,
    folder: Arc<Place>,
    temporary: OsString,
    /// Whether it has its temporary name.
    is_named: bool,
}

impl Draft {
    pub(super) fn new(folder: Arc<Place>, operation: OperationId) -> io::Result<Self> {
        let temporary = OsString::from(format!("{DRAFT_PREFIX}{operation}"));
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&folder.fd, ".", flags | OFlags::TMPFILE, mode);
        let unnamed = retry_on_intr(open);
        let fd = match unnamed {
            Ok(fd) => fd,
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                return Self::create_named(folder, temporary);
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self { file: fd.into(), folder, temporary, is_named: false })
    }

    fn create_named(folder: Arc<Place>, temporary: OsString) -> io::Result<Self> {
        let flags =
            OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = retry_on_intr(|| rustix::fs::openat(&folder.fd, &temporary, flags, mode))?;
        Ok(Self { file: fd.into(), folder, temporary, is_named: true })
    }

    /// As where `O_TMPFILE` does not work.
    #[cfg(test)]
    pub(super) fn named(spot: &Spot, operation: OperationId) -> io::Result<Self> {
        let temporary = OsString::from(format!("{DRAFT_PREFIX}{operation}"));
        Self::create_named(spot.folder_handle(), temporary)
    }

    /// Gives it its name, once everything is on the disk. It either has that name then, whole, or
    /// nothing has changed.
    ///
    /// # Errors
    /// `exists` when something is there that may not be replaced, `is_a_directory`, or what the
    /// file system says.
    pub fn publish(mut self, spot: &Spot, replace: Replace) -> Result<(), Failure> {
        let failed = |error: io::Error| describe(&error, spot.path());
        self.file.sync_all().map_err(failed)?;
        self.name(spot.name(), replace).map_err(failed)?;
        spot.sync().map_err(failed)
    }

    /// The same without waiting for any disk: for one of many, which are synced together.
    ///
    /// # Errors
    /// As of [`Draft::publish`].
    pub fn place(mut self, spot: &Spot, replace: Replace) -> Result<(), Failure> {
        self.name(spot.name(), replace).map_err(|error| describe(&error, spot.path()))
    }

    fn name(&mut self, name: &OsStr, replace: Replace) -> io::Result<()> {
        if !self.is_named {
            let unnamed = proc_path(self.file.as_fd());
            let link = |name: &OsStr| {
                let flags = AtFlags::SYMLINK_FOLLOW;
                let link =
                    || rustix::fs::linkat(CWD, unnamed.as_str(), &self.folder.fd, name, flags);
                retry_on_intr(link)
            };
            // Most are new, and this is the whole of it then.
            match link(name) {
                Err(Errno::EXIST) if replace == Replace::Allowed => {}
                done => return Ok(done?),
            }
            link(&self.temporary)?;
            self.is_named = true;
        }
        let folder = &self.folder.fd;
        rename_at(folder, &self.temporary, folder, name, replace)?;
        self.is_named = false;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.is_named {
            let _ = rustix::fs::unlinkat(&self.folder.fd, &self.temporary, AtFlags::empty());
        }
    }
}
