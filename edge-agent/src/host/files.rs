//! Files by their name in an open folder (openat(2) and its kin), at offsets, and locked. A folder
//! that is moved or that has a long path makes no difference.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::retry_on_intr;

/// Files are for their owner only.
const OWNER_ONLY: Mode = Mode::RUSR.union(Mode::WUSR);

fn open_with(folder: impl AsFd, name: &str, flags: OFlags) -> io::Result<File> {
    let folder = folder.as_fd();
    let open = || rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, OWNER_ONLY);
    Ok(File::from(retry_on_intr(open)?))
}

/// Opens a file to read it.
///
/// # Errors
/// What open(2) says.
pub fn open(folder: impl AsFd, name: &str) -> io::Result<File> {
    open_with(folder, name, OFlags::RDONLY)
}

/// Opens an empty file to write it; one that is there is emptied.
///
/// Not by `O_TRUNC`: ext4 takes that for the replacing of a file even where it was empty, writes
/// what comes to disk at close(2) (`auto_da_alloc`, ext4(5)), and has whoever empties it next wait
/// for that: 4 to 80 ms on a busy disk, twice for each command.
///
/// # Errors
/// What open(2) and ftruncate(2) say.
pub fn create(folder: impl AsFd, name: &str) -> io::Result<File> {
    let file = open_with(folder, name, OFlags::WRONLY | OFlags::CREATE)?;
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Opens a file, which is made if need be and otherwise kept as it is.
///
/// # Errors
/// What open(2) says.
pub fn open_or_create(folder: impl AsFd, name: &str) -> io::Result<File> {
    open_with(folder, name, OFlags::RDWR | OFlags::CREATE)
}

/// Gives a file another name in the same folder, in one step; a file that has it is replaced.
///
/// # Errors
/// What rename(2) says.
pub fn rename(folder: impl AsFd, from: &str, to: &str) -> io::Result<()> {
    let folder = folder.as_fd();
    Ok(retry_on_intr(|| rustix::fs::renameat(folder, from, folder, to))?)
}

/// Removes a file.
///
/// # Errors
/// What unlink(2) says.
pub fn remove(folder: impl AsFd, name: &str) -> io::Result<()> {
    let folder = folder.as_fd();
    Ok(retry_on_intr(|| rustix::fs::unlinkat(folder, name, AtFlags::empty()))?)
}

/// Names of everything in the folder; names that are no UTF-8 are none of ours and left out.
///
/// # Errors
/// What readdir(3) says.
pub fn list(folder: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let folder = folder.as_fd();
    for entry in retry_on_intr(|| rustix::fs::Dir::read_from(folder))? {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// Writes `head`, then `tail`, at an offset, in one call as far as the kernel takes them in one.
///
/// # Errors
/// What pwritev(2) says. How much was written before is not known then.
pub fn write_at(file: &File, head: &[u8], tail: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < head.len() + tail.len() {
        let parts = [
            io::IoSlice::new(head.get(done..).unwrap_or_default()),
            io::IoSlice::new(&tail[done.saturating_sub(head.len())..]),
        ];
        match retry_on_intr(|| rustix::io::pwritev(file, &parts, offset + done as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => done += count,
        }
    }
    Ok(())
}

/// Takes the file's lock, without waiting. `false` when another open file has it: the lock belongs
/// to the open file and to whoever inherited it (flock(2)), so no process id can be mistaken for it.
///
/// # Errors
/// What flock(2) says.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes a file this long. What is added takes no room on the disk.
///
/// # Errors
/// What ftruncate(2) says.
pub fn set_length(file: impl AsFd, bytes: u64) -> io::Result<()> {
    let file = file.as_fd();
    Ok(retry_on_intr(|| rustix::fs::ftruncate(file, bytes))?)
}

/// Takes the file's lock, waiting for it.
///
/// # Errors
/// What flock(2) says.
pub fn wait_for_lock(file: impl AsFd) -> io::Result<()> {
    let file = file.as_fd();
    Ok(retry_on_intr(|| rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive))?)
}

/// Makes an empty file share another one's content, where the file system can (FICLONE,
/// ioctl_ficlone(2)): at once, and without taking up space until one of them changes. False where
/// it cannot.
///
/// # Errors
/// When the disk fails.
pub fn share_content(from: impl AsFd, to: impl AsFd) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::IO) => Err(Errno::IO.into()),
        // It says many things where it cannot: EOPNOTSUPP, EXDEV, EINVAL, ENOTTY, EPERM.
        Err(_) => Ok(false),
    }
}

/// Bytes that are free for us on the file system that something is on.
///
/// # Errors
/// What statvfs(3) says.
pub fn free_bytes(on: impl AsFd) -> io::Result<u64> {
    let about = rustix::fs::fstatvfs(on)?;
    Ok(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Whose an open file is.
///
/// # Errors
/// What fchown(2) says.
pub fn set_owner(file: impl AsFd, user: u32, group: u32) -> io::Result<()> {
    let user = rustix::fs::Uid::from_raw(user);
    let group = rustix::fs::Gid::from_raw(group);
    Ok(rustix::fs::fchown(file, Some(user), Some(group))?)
}

/// The permission bits of an open file, whatever the umask.
///
/// # Errors
/// What fchmod(2) says.
pub fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?)
}

/// When an open file's content was changed, nanoseconds since 1970.
///
/// # Errors
/// What futimens(3) says.
pub fn set_modified(file: impl AsFd, at_ns: i64) -> io::Result<()> {
    let second = 1_000_000_000;
    let time = rustix::fs::Timespec {
        tv_sec: at_ns.div_euclid(second),
        tv_nsec: at_ns.rem_euclid(second),
    };
    let as_it_is = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = rustix::fs::Timestamps { last_access: as_it_is, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Writes everything of the file system that something is on to its disk (syncfs(2)).
///
/// # Errors
/// What it says.
pub fn sync_file_system(on: impl AsFd) -> io::Result<()> {
    let on = on.as_fd();
    Ok(retry_on_intr(|| rustix::fs::syncfs(on))?)
}

/// Whether an error says that the disk did not do it, which a disk behind a network or a loose cable may do
/// the next time (EIO).
#[must_use]
pub fn is_disk_failing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether an error says that the disk, or the share of it we may use, is full.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
