//! What copying needs of the kernel besides paths: holes, room on disks, attributes, locks, and
//! writing out early so that the sync at the end has little left to do.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::{
    Advice, FallocateFlags, FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, Uid,
};
use rustix::io::retry_on_intr;
use rustix::process::{Flock, FlockType, PidfdFlags, Signal};

use super::pipe::{self, Interest};

/// What is written without a sync until it is asked to go to the disk meanwhile, bytes.
pub const WRITE_OUT_BYTES: u64 = 8 * 1024 * 1024;

/// Who holds a partial file has this long to end when another takes it over.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Has everything on a file system written to its disk.
///
/// # Errors
/// What syncfs(2) says.
pub fn sync_file_system(of: impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let of = of.as_fd();
    let opened = retry_on_intr(|| rustix::fs::openat(of, ".", flags, Mode::empty()))?;
    Ok(retry_on_intr(|| rustix::fs::syncfs(&opened))?)
}

/// Sets permission bits.
///
/// # Errors
/// What fchmod(2) says.
pub fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?)
}

/// Sets who something belongs to; takes set-user-id bits away (chown(2)).
///
/// # Errors
/// What fchown(2) says.
pub fn set_owner(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?)
}

fn stamps(modified_ns: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: modified_ns.div_euclid(1_000_000_000),
        tv_nsec: modified_ns.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets when something was changed and read.
///
/// # Errors
/// What futimens(3) says.
pub fn set_modified(file: impl AsFd, modified_ns: i64) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &stamps(modified_ns))?)
}

/// Says that a file will be read from front to back. Only faster, so errors do not matter.
pub fn will_read_all(file: impl AsFd, from: u64) {
    let _ = rustix::fs::fadvise(file, from, None::<NonZeroU64>, Advice::Sequential);
}

/// The next stretch of data at or behind `from`: where it begins and ends. `None` when there is
/// only a hole left. A file system that knows no holes has one stretch.
///
/// # Errors
/// What lseek(2) says.
pub fn next_data(file: impl AsFd, from: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::SeekFrom;
    let begin = match rustix::fs::seek(&file, SeekFrom::Data(from)) {
        Ok(begin) => begin,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(rustix::io::Errno::INVAL) => return Ok(Some((from, u64::MAX))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(&file, SeekFrom::Hole(begin))?;
    Ok(Some((begin, end)))
}

/// Takes room on the disk for bytes to come; the file's length stays. Where the file system cannot,
/// nothing happens.
///
/// # Errors
/// `StorageFull` and the like.
pub fn take_room(file: impl AsFd, from: u64, length: u64) -> io::Result<()> {
    let file = file.as_fd();
    let reserve = || rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, length);
    match retry_on_intr(reserve) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

/// Bytes that may still be written to a file system.
///
/// # Errors
/// What fstatvfs(3) says.
pub fn free_room(of: impl AsFd) -> io::Result<u64> {
    let about = rustix::fs::fstatvfs(of)?;
    let blocks = if super::users::is_root() { about.f_bfree } else { about.f_bavail };
    Ok(blocks.saturating_mul(about.f_frsize))
}

/// Asks the kernel to begin writing a stretch to the disk, and does not wait for it
/// (sync_file_range(2)). Only faster, so errors do not matter.
pub fn write_out(file: &File, from: u64, length: u64) {
    let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(length)) else { return };
    // SAFETY: passes an open descriptor and numbers; touches no memory of ours.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::sync_file_range(
            file.as_raw_fd(),
            from,
            length,
            nix::libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// Whoever writes to a partial file holds its lock (fcntl(2)); takes it, and asks a former writer to
/// end when it has it: its sender is here, so nothing more comes to it.
///
/// # Errors
/// What the kernel says, or when the former writer cannot be ended.
pub fn take_over(file: &File) -> io::Result<()> {
    let mut signal = Signal::TERM;
    for _ in 0..4 {
        match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
        let holder = || -> io::Result<Option<rustix::process::Pid>> {
            let wanted = Flock::from(FlockType::WriteLock);
            let found = rustix::process::fcntl_getlk(file, &wanted)?;
            Ok(found.and_then(|lock| lock.pid))
        };
        let Some(pid) = holder()? else { continue };
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Asked again behind the open: the number is still the holder's, so the descriptor is, too.
        if holder()? == Some(pid) {
            let _gone = rustix::process::pidfd_send_signal(&process, signal);
            pipe::wait(&[(process.as_fd(), Interest::Read)], Some(TAKE_OVER))?;
            signal = Signal::KILL;
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another transfer is writing it"))
}

/// Whether nobody holds the lock of a partial file.
#[must_use]
pub fn is_abandoned(file: &File) -> bool {
    rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// A pipe whose writer may be slow but not silent for ever.
#[derive(Debug)]
pub struct Patient<'f> {
    file: &'f File,
    limit: Duration,
}

impl<'f> Patient<'f> {
    /// Waits up to `limit` for each read.
    #[must_use]
    pub fn new(file: &'f File, limit: Duration) -> Self {
        Self { file, limit }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd: BorrowedFd<'_> = self.file.as_fd();
        let found = pipe::wait(&[(fd, Interest::Read)], Some(self.limit))?;
        if !found.iter().any(|readiness| readiness.ready) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(buffer)
    }
}
