//! `file_stat`.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use reeve_protocol::ops::{Failure, FileEntry, FileKind, FileStat, RemotePath};

use crate::host::paths::{self, LastLink, Place};
use crate::host::users::Names;
use crate::operations::worker::{Needs, Perform, Worker};

/// Bytes of a file that are hashed at once.
const HASH_BYTES: usize = 128 * 1024;

impl Perform for FileStat {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let last = if self.follow { LastLink::Follow } else { LastLink::Keep };
        let place = worker.rules.find(&self.path, last)?;
        let failed = |error: io::Error| paths::describe(&error, &self.path);
        let mut entry = look_at(&place, &self.path, &mut Names::default()).map_err(failed)?;
        if self.hash && entry.kind == FileKind::File {
            entry.hash = Some(hash(&place).map_err(failed)?);
        }
        worker.answer(&entry)
    }
}

fn hash(place: &Place) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = place.open()?;
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        };
    }
}

/// What is at a place.
///
/// # Errors
/// What fstat(2) says.
pub fn look_at(place: &Place, path: &RemotePath, names: &mut Names) -> io::Result<FileEntry> {
    let about = place.metadata()?;
    let kind = about.file_type();
    let kind = if kind.is_file() {
        FileKind::File
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Symlink
    } else if kind.is_fifo() {
        FileKind::Fifo
    } else if kind.is_socket() {
        FileKind::Socket
    } else if kind.is_char_device() {
        FileKind::CharacterDevice
    } else if kind.is_block_device() {
        FileKind::BlockDevice
    } else {
        FileKind::Unknown
    };
    let target = match kind {
        FileKind::Symlink => Some(RemotePath::new(place.read_link()?)),
        _ => None,
    };
    Ok(FileEntry {
        path: path.clone(),
        kind,
        size: about.size(),
        allocated: about.blocks().saturating_mul(512),
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
        user: names.user(about.uid()),
        group: names.group(about.gid()),
        modified_ns: nanoseconds(about.mtime(), about.mtime_nsec()),
        changed_ns: nanoseconds(about.ctime(), about.ctime_nsec()),
        device: about.dev(),
        inode: about.ino(),
        links: about.nlink(),
        target,
        hash: None,
    })
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
