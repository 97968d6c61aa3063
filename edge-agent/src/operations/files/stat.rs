//! `file_stat`.

use std::io;
use std::os::fd::AsFd;

use reeve_protocol::ops::{Failure, FileEntry, FileKind, FileStat, RemotePath};

use crate::host::paths::{self, About, LastLink, Place};
use crate::host::users::Names;
use crate::operations::worker::{Needs, Perform, Worker};

/// Bytes of a file that are hashed at once.
const HASH_BYTES: usize = 128 * 1024;

impl Perform for FileStat {
    const NEEDS: Needs = Needs::Files;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let last = if self.follow { LastLink::Follow } else { LastLink::Keep };
        let place = worker.rules.find(&self.path, last)?;
        let mut entry = entry_at(&place, &self.path, &mut Names::default())?;
        if self.hash && entry.kind == FileKind::File {
            let mut file = place.open_file(&self.path)?;
            let hash = hash_file(&mut file).map_err(|error| paths::describe(&error, &self.path))?;
            entry.hash = Some(hash);
        }
        worker.answer(&entry)
    }
}

/// BLAKE3 of what a file holds from where it stands, hexadecimal.
///
/// # Errors
/// What read(2) says.
pub fn hash_file(file: &mut impl io::Read) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        };
    }
}

/// What is at a place, as it is to be reported.
///
/// # Errors
/// What fstat(2) says.
pub fn entry_at(place: &Place, path: &RemotePath, names: &mut Names) -> Result<FileEntry, Failure> {
    look_at(place, path, names).map_err(|error| paths::describe(&error, path))
}

/// What is at a place.
///
/// # Errors
/// What fstat(2) says.
pub fn look_at(place: &Place, path: &RemotePath, names: &mut Names) -> io::Result<FileEntry> {
    let about = About::of(place.fd.as_fd())?;
    let target = match about.kind {
        FileKind::Symlink => Some(RemotePath::new(place.read_link()?)),
        _ => None,
    };
    Ok(FileEntry {
        path: path.clone(),
        kind: about.kind,
        size: about.size,
        allocated: about.allocated,
        mode: about.mode,
        uid: about.uid,
        gid: about.gid,
        user: names.user(about.uid),
        group: names.group(about.gid),
        modified_ns: about.modified_ns,
        changed_ns: about.changed_ns,
        device: about.device,
        inode: about.inode,
        links: about.links,
        target,
        hash: None,
    })
}
