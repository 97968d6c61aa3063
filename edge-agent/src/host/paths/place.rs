//! Something in a file system, held by a descriptor that reads nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use reeve_protocol::ops::{Failure, FileKind, RemotePath};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{describe, mounts};

/// Something at a path, open as a place only (`O_PATH`): nothing of it was read.
#[derive(Debug)]
pub struct Place {
    /// It.
    pub fd: OwnedFd,
    /// Where it really is.
    pub real: PathBuf,
    /// What it was when it was opened.
    pub about: About,
}

/// What stat(2) tells, and the mount it was reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are stat(2)'s")]
pub struct About {
    pub kind: FileKind,
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub allocated: u64,
    pub modified_ns: i64,
    pub changed_ns: i64,
    /// Number of the mount, as in proc_pid_mountinfo(5).
    pub mount: u64,
}

impl About {
    /// What it names as long as it exists.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether something can be in it.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Of an open descriptor.
    ///
    /// # Errors
    /// What statx(2) says.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(fd, "", flags, wanted) {
            Ok(stat) => {
                let has_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
                let mount = if has_mount { stat.stx_mnt_id } else { mounts::read_id(fd)? };
                Ok(Self::from_statx(&stat, mount))
            }
            Err(Errno::NOSYS) => Self::from_fstat(fd),
            Err(errno) => Err(errno.into()),
        }
    }

    fn from_statx(stat: &Statx, mount: u64) -> Self {
        let mode = u32::from(stat.stx_mode);
        Self {
            kind: kind_of(FileType::from_raw_mode(mode)),
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            mode: mode & 0o7777,
            links: u64::from(stat.stx_nlink),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            allocated: stat.stx_blocks.saturating_mul(512),
            modified_ns: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec.into()),
            changed_ns: nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec.into()),
            mount,
        }
    }

    /// Before Linux 4.11.
    #[allow(clippy::useless_conversion, reason = "widths differ between processors")]
    fn from_fstat(fd: BorrowedFd<'_>) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let stat = File::from(fd.try_clone_to_owned()?).metadata()?;
        Ok(Self {
            kind: kind_of(FileType::from_raw_mode(stat.mode())),
            device: stat.dev(),
            inode: stat.ino(),
            mode: stat.mode() & 0o7777,
            links: stat.nlink(),
            uid: stat.uid(),
            gid: stat.gid(),
            size: stat.size(),
            allocated: stat.blocks().saturating_mul(512),
            modified_ns: nanoseconds(stat.mtime(), stat.mtime_nsec()),
            changed_ns: nanoseconds(stat.ctime(), stat.ctime_nsec()),
            mount: mounts::read_id(fd)?,
        })
    }
}

fn kind_of(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Where an open file is now (`/proc/self/fd`, proc(5)).
pub(super) fn real_path(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(proc_path(fd))
}

/// A path that leads to just what a descriptor holds.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl Place {
    /// Of a descriptor, wherever it came from.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let about = About::of(fd.as_fd())?;
        let real = real_path(fd.as_fd())?;
        // What is nowhere: a pipe, something behind another root, something removed meanwhile.
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        if !real.is_absolute() {
            return Err(gone());
        }
        let place = Self { fd, real, about };
        // Something may really be called so, and some file systems count no links.
        let seems_gone = place.about.links == 0
            || place.real.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
        if seems_gone && !place.is_still_at(&place.real) {
            return Err(gone());
        }
        Ok(place)
    }

    /// Of something in a folder whose real path is known.
    pub(super) fn inside(folder: &Path, name: &std::ffi::OsStr, fd: OwnedFd) -> io::Result<Self> {
        let about = About::of(fd.as_fd())?;
        Ok(Self { fd, real: folder.join(name), about })
    }

    fn is_still_at(&self, path: &Path) -> bool {
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|fd| About::of(fd.as_fd()))
            .is_ok_and(|about| about.identity() == self.about.identity())
    }

    /// Whether it is on a file system that the kernel makes up: endless, slow, and with effects of
    /// its own when it is read.
    #[must_use]
    pub fn is_of_kernel(&self) -> bool {
        // statfs(2): proc, sysfs, cgroup2, cgroup, debugfs, tracefs, securityfs, bpf.
        const KINDS: [i64; 8] = [
            0x9fa0,
            0x6265_6572,
            0x6367_7270,
            0x0027_e0eb,
            0x6462_6720,
            0x7472_6163,
            0x7363_6673,
            0xcafe_4a11,
        ];
        #[allow(clippy::useless_conversion, reason = "widths differ between processors")]
        rustix::fs::fstatfs(&self.fd).is_ok_and(|about| KINDS.contains(&i64::from(about.f_type)))
    }

    /// What is there now.
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

    /// Opens a regular file to be read. Nothing else is opened: a pipe would wait, a device could
    /// do anything.
    ///
    /// # Errors
    /// What open(2) says, as for [`Place::open_file`].
    pub fn open(&self) -> io::Result<File> {
        match self.about.kind {
            FileKind::File => self.reopen(OFlags::RDONLY),
            FileKind::Directory => Err(io::ErrorKind::IsADirectory.into()),
            FileKind::Symlink => Err(Errno::LOOP.into()),
            kind => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}", name(kind))))
            }
        }
    }

    /// Opens a regular file to be read.
    ///
    /// # Errors
    /// `is_a_directory`, `symlink` or `not_a_file` when it is none, otherwise what open(2) says.
    pub fn open_file(&self, path: &RemotePath) -> Result<File, Failure> {
        let shown = path.display();
        let code = match self.about.kind {
            FileKind::File => return self.open().map_err(|error| describe(&error, path)),
            FileKind::Directory => "is_a_directory",
            FileKind::Symlink => "symlink",
            _ => "not_a_file",
        };
        Err(Failure::at(code, path, format!("{shown} is {}, no file", name(self.about.kind))))
    }

    /// Opens a folder to be read.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open_folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| rustix::fs::openat(&self.fd, ".", flags, Mode::empty()))?)
    }

    /// The same thing, opened anew. Never waits, never becomes this process's terminal.
    fn reopen(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = proc_path(self.fd.as_fd());
        let open = || rustix::fs::open(path.as_str(), flags, Mode::empty());
        Ok(File::from(retry_on_intr(open)?))
    }

    /// Changes its permission bits. A symbolic link has none.
    ///
    /// # Errors
    /// What chmod(2) says.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        if self.about.kind == FileKind::Symlink {
            return Err(Errno::OPNOTSUPP.into());
        }
        Ok(rustix::fs::chmod(proc_path(self.fd.as_fd()), Mode::from_raw_mode(mode))?)
    }

    /// Changes its owner or group, of a symbolic link its own.
    ///
    /// # Errors
    /// What fchownat(2) says.
    pub fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let user = user.map(rustix::fs::Uid::from_raw);
        let group = group.map(rustix::fs::Gid::from_raw);
        Ok(rustix::fs::chownat(&self.fd, "", user, group, AtFlags::EMPTY_PATH)?)
    }
}

/// A kind with its article.
#[must_use]
pub(super) fn name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::Fifo => "a named pipe",
        FileKind::Socket => "a socket",
        FileKind::CharacterDevice | FileKind::BlockDevice => "a device",
        FileKind::Unknown => "something unknown",
    }
}
