//! A name in a folder that is held open: where something is made, replaced, moved or removed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use reeve_protocol::OperationId;
use reeve_protocol::ops::{Failure, RemotePath};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::draft::Draft;
use super::{Place, Rules, describe, resolve};

/// Whether what has a name already gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It stays, and that is an error.
    Never,
    /// A file does, and an empty folder to another folder (rename(2)).
    Allowed,
}

/// A name in a folder that was found under the rules. Whatever becomes of the folder's own name,
/// this is the one that was checked.
#[derive(Clone, Debug)]
pub struct Spot {
    rules: Rules,
    folder: Arc<Place>,
    name: OsString,
    path: RemotePath,
}

impl Spot {
    pub(super) fn new(rules: Rules, folder: Place, name: &[u8], path: &RemotePath) -> Self {
        let name = OsStr::from_bytes(name).to_owned();
        Self { rules, folder: Arc::new(folder), name, path: path.clone() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Place {
        &self.folder
    }

    #[cfg(test)]
    pub(super) fn folder_handle(&self) -> Arc<Place> {
        self.folder.clone()
    }

    /// The name in it.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// As it was asked for.
    #[must_use]
    pub fn path(&self) -> &RemotePath {
        &self.path
    }

    /// Where it really is, whether or not something is there.
    #[must_use]
    pub fn real(&self) -> PathBuf {
        self.folder.real.join(&self.name)
    }

    /// What is there now, not through a link; `None` when nothing is.
    ///
    /// # Errors
    /// `policy_path` when it is blocked by what it is, otherwise what open(2) says.
    pub fn look(&self) -> Result<Option<Place>, Failure> {
        let opened = resolve::open_in(self.folder.fd.as_fd(), &self.name)
            .and_then(|fd| Place::inside(&self.folder.real, &self.name, fd));
        match opened {
            Ok(place) => {
                self.rules.check(&place, &self.path)?;
                Ok(Some(place))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(describe(&error, &self.path)),
        }
    }

    /// The same, where nothing is an error.
    ///
    /// # Errors
    /// `not_found` besides.
    pub fn find(&self) -> Result<Place, Failure> {
        let nothing = || describe(&io::ErrorKind::NotFound.into(), &self.path);
        self.look()?.ok_or_else(nothing)
    }

    /// Makes a folder there.
    ///
    /// # Errors
    /// What mkdir(2) says, `exists` among it.
    pub fn make_folder(&self, mode: u32) -> Result<Place, Failure> {
        let failed = |error: io::Error| describe(&error, &self.path);
        let make = || rustix::fs::mkdirat(&self.folder.fd, &self.name, Mode::from_raw_mode(0o700));
        retry_on_intr(make).map_err(|errno| failed(errno.into()))?;
        let place = self.find()?;
        // Past the umask, and on what was made rather than on its name.
        place.set_mode(mode).map_err(failed)?;
        self.sync().map_err(failed)?;
        Ok(place)
    }

    /// Makes a symbolic link there. Where it leads is not checked: nothing follows it but under the
    /// rules.
    ///
    /// # Errors
    /// What symlink(2) says, `exists` among it.
    pub fn make_link(&self, target: &RemotePath) -> Result<(), Failure> {
        let target = OsStr::from_bytes(target.as_bytes());
        retry_on_intr(|| rustix::fs::symlinkat(target, &self.folder.fd, &self.name))
            .map_err(|errno| describe(&errno.into(), &self.path))
    }

    /// Removes what is there, unless it is a folder.
    ///
    /// # Errors
    /// What unlink(2) says.
    pub fn remove_file(&self) -> Result<(), Failure> {
        retry_on_intr(|| rustix::fs::unlinkat(&self.folder.fd, &self.name, AtFlags::empty()))
            .map_err(|errno| describe(&errno.into(), &self.path))
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// What rmdir(2) says.
    pub fn remove_folder(&self) -> Result<(), Failure> {
        retry_on_intr(|| rustix::fs::unlinkat(&self.folder.fd, &self.name, AtFlags::REMOVEDIR))
            .map_err(|errno| describe(&errno.into(), &self.path))
    }

    /// Gives what is here the name over there, in one step.
    ///
    /// # Errors
    /// What rename(2) says; `exists` when something is there and may not be replaced.
    pub fn rename(&self, to: &Self, replace: Replace) -> Result<(), Failure> {
        rename_at(&self.folder.fd, &self.name, &to.folder.fd, &to.name, replace)
            .map_err(|error| describe(&error, &to.path))
    }

    /// Another name in the same folder.
    ///
    /// # Errors
    /// `invalid` when it is no name, `policy_path` when it is blocked.
    pub fn sibling(&self, name: &OsStr) -> Result<Self, Failure> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || matches!(bytes, b"." | b"..") || bytes.contains(&b'/') {
            return Err(Failure::at("invalid", &self.path, "that is no name for a file"));
        }
        let cut = self.path.as_bytes().len().saturating_sub(self.name.len());
        let parent = RemotePath::new(self.path.as_bytes().get(..cut).unwrap_or_default());
        let path = parent.join(bytes);
        let spot = Self { name: name.to_owned(), path, ..self.clone() };
        self.rules.check_change(&spot.real(), &spot.path)?;
        Ok(spot)
    }

    /// A spot in a folder that is there: for making trees. The folder is opened without following a
    /// link.
    ///
    /// # Errors
    /// `not_a_directory`, `policy_path`, or what open(2) says.
    pub fn enter(&self, name: &OsStr) -> Result<Self, Failure> {
        let folder = self.find()?;
        if !folder.about.is_folder() {
            let message = format!("{} is no directory", self.path.display());
            return Err(Failure::at("not_a_directory", &self.path, message));
        }
        let path = self.path.join(name.as_bytes());
        let placeholder = Self {
            rules: self.rules.clone(),
            folder: Arc::new(folder),
            name: OsString::from("x"),
            path: self.path.join(b"x"),
        };
        Ok(Self { path, ..placeholder.sibling(name)? })
    }

    /// Opens a file of this very name to read and write it, made if need be and only for its owner:
    /// for what is to be found again by its name. What is there is taken only if it is a regular
    /// file of ours with this one name.
    ///
    /// # Errors
    /// `not_a_file`, or what open(2) says.
    pub fn open_own(&self) -> Result<std::fs::File, Failure> {
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let failed = |error: io::Error| describe(&error, &self.path);
        if let Some(place) = self.look()?
            && place.about.kind != reeve_protocol::ops::FileKind::File
        {
            return Err(self.not_ours());
        }
        let fd = retry_on_intr(|| rustix::fs::openat(&self.folder.fd, &self.name, flags, mode))
            .map_err(|errno| failed(errno.into()))?;
        let about = super::About::of(fd.as_fd()).map_err(failed)?;
        let is_ours = about.kind == reeve_protocol::ops::FileKind::File
            && about.links == 1
            && about.uid == crate::host::users::effective_uid();
        if is_ours { Ok(fd.into()) } else { Err(self.not_ours()) }
    }

    fn not_ours(&self) -> Failure {
        let shown = self.path.display();
        Failure::at("not_a_file", &self.path, format!("{shown} is no file of the agent's own"))
    }

    /// A file without a name yet, beside what is here.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn draft(&self, operation: OperationId) -> Result<Draft, Failure> {
        Draft::new(self.folder.clone(), operation).map_err(|error| describe(&error, &self.path))
    }

    /// Makes what was done in the folder last through a power cut.
    ///
    /// # Errors
    /// What fsync(2) says.
    pub fn sync(&self) -> io::Result<()> {
        let folder = self.folder.open_folder()?;
        Ok(retry_on_intr(|| rustix::fs::fsync(&folder))?)
    }
}

/// renameat2(2). Where a file system does not know how not to replace, the name is taken by a link
/// (files) or an empty folder (folders) first, which fails just as surely when there is something.
pub(super) fn rename_at(
    from: &OwnedFd,
    name: &OsStr,
    to: &OwnedFd,
    new_name: &OsStr,
    replace: Replace,
) -> io::Result<()> {
    if replace == Replace::Allowed {
        return Ok(retry_on_intr(|| rustix::fs::renameat(from, name, to, new_name))?);
    }
    let keeping = RenameFlags::NOREPLACE;
    match retry_on_intr(|| rustix::fs::renameat_with(from, name, to, new_name, keeping)) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        done => return Ok(done?),
    }
    match rustix::fs::linkat(from, name, to, new_name, AtFlags::empty()) {
        Ok(()) => Ok(rustix::fs::unlinkat(from, name, AtFlags::empty())?),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ISDIR) => {
            rustix::fs::mkdirat(to, new_name, Mode::RWXU)?;
            let renamed = rustix::fs::renameat(from, name, to, new_name);
            if renamed.is_err() {
                let _ = rustix::fs::unlinkat(to, new_name, AtFlags::REMOVEDIR);
            }
            Ok(renamed?)
        }
        Err(errno) => Err(errno.into()),
    }
}
