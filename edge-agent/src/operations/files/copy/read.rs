//! `file_read`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use reeve_protocol::ops::copy_stream::{
    COPY_FORMAT, CopiedFile, CopyEnd, CopyRecord, CopyStart, MAX_COPY_DATA,
};
use reeve_protocol::ops::{Failure, FileEntry, FileIdentity, FileKind, FileRead, RemotePath};

use super::not_a_file;
use super::outgoing::{HEADROOM, Outgoing};
use super::tree::read_tree;
use crate::host::copying;
use crate::host::paths::{self, About, LastLink, Place};
use crate::host::users::Names;
use crate::operations::files::stat::look_at;
use crate::operations::worker::{Needs, Perform, Worker, lost_answer};
use crate::versions;

/// A file that says it is no longer than this is read whole first: those below `/proc` and `/sys`
/// have more or less in them than they say (proc(5)).
const SMALL_BYTES: u64 = 64 * 1024;
/// What is taken of such a file at the most.
const MOST_OF_SMALL: u64 = 16 * 1024 * 1024;

/// Zeros, to hash holes with.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl Perform for FileRead {
    const NEEDS: Needs = Needs::Files;
    const LIMIT: Option<Duration> = None;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let failed = |error: io::Error| paths::describe(&error, &self.path);
        if let Some(version) = self.version {
            return read_version(&self, worker, version);
        }
        let place = worker.rules.find(&self.path, LastLink::Follow)?;
        let mut names = Names::default();
        let entry = look_at(&place, &self.path, &mut names).map_err(failed)?;
        match entry.kind {
            FileKind::File => read_file(&self, worker, &place, entry),
            FileKind::Directory if self.recursive => read_tree(&self, worker, &place),
            FileKind::Directory => Err(Failure::at(
                "is_a_directory",
                &self.path,
                format!("{} is a directory; -r copies it with what is in it", self.path.display()),
            )),
            kind => Err(not_a_file(&self.path, kind_word(kind))),
        }
    }
}

/// What something is, for people.
pub fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::Fifo => "a FIFO",
        FileKind::Socket => "a socket",
        FileKind::CharacterDevice | FileKind::BlockDevice => "a device",
        FileKind::Unknown => "of an unknown kind",
    }
}

fn read_version(read: &FileRead, worker: &mut Worker, version: u64) -> Result<(), Failure> {
    let (version, file) = versions::open(worker, &read.path, version)?;
    let mut names = Names::default();
    let mut entry = FileEntry {
        path: read.path.clone(),
        kind: version.kind,
        size: version.size,
        allocated: version.size,
        mode: version.mode,
        uid: version.uid,
        gid: version.gid,
        user: names.user(version.uid),
        group: names.group(version.gid),
        modified_ns: version.modified_ns,
        changed_ns: 0,
        device: 0,
        inode: 0,
        links: 1,
        target: None,
        hash: None,
    };
    let modified_ns = entry.modified_ns;
    let source = Source::of(file, &mut entry);
    entry.modified_ns = modified_ns;
    send_file(read, worker, source.map_err(|error| paths::describe(&error, &read.path))?, entry)
}

fn read_file(
    read: &FileRead,
    worker: &mut Worker,
    place: &Place,
    mut entry: FileEntry,
) -> Result<(), Failure> {
    let source = Source::open(place, &mut entry);
    let source = source.map_err(|error| paths::describe(&error, &read.path))?;
    send_file(read, worker, source, entry)
}

fn send_file(
    read: &FileRead,
    worker: &mut Worker,
    mut source: Source,
    mut entry: FileEntry,
) -> Result<(), Failure> {
    let failed = |error: io::Error| paths::describe(&error, &read.path);
    if read.if_same.is_some_and(|same| same != FileIdentity::of(&entry)) {
        return Err(changed(&read.path, "is not the file any more that it was"));
    }
    if read.if_match.is_some() || read.listing {
        let hash = source.hash(0, entry.size).map_err(failed)?.to_hex().to_string();
        if read.if_match.as_ref().is_some_and(|wanted| *wanted != hash) {
            return Err(changed(&read.path, "has not the content any more that was asked for"));
        }
        entry.hash = Some(hash);
    }
    if read.offset > entry.size {
        return Err(changed(
            &read.path,
            &format!("has {} bytes, so none at {}", entry.size, read.offset),
        ));
    }
    let mut hasher = blake3::Hasher::new();
    let mut start = CopyStart {
        format: COPY_FORMAT,
        from: read.offset,
        listing: read.listing,
        any_size: read.live,
        ..CopyStart::default()
    };
    if read.hash_prefix {
        hasher = source.hash_on(hasher, 0, read.offset).map_err(failed)?;
        start.prefix = Some(hasher.finalize().to_hex().to_string());
    }
    let to =
        read.length.map_or(entry.size, |length| entry.size.min(read.offset.saturating_add(length)));
    // What follows is what the stream says it is, also when only a part is asked for.
    entry.size = to;
    let mut outgoing =
        Outgoing::new(&mut worker.stdout, read.compress).map_err(|error| lost_answer(&error))?;
    let lost = |error: io::Error| lost_answer(&error);
    outgoing.document(CopyRecord::Start, &start).map_err(lost)?;
    outgoing.document(CopyRecord::Entry, &entry).map_err(lost)?;
    let mut was_changed = false;
    if !read.listing {
        let mut end = source.send(&mut outgoing, hasher, read.offset, to, &read.path)?;
        was_changed = end.changed;
        end.changed &= !read.live;
        outgoing.document(CopyRecord::FileEnd, &end).map_err(lost)?;
    }
    outgoing
        .document(CopyRecord::End, &CopyEnd { entries: 1, skipped: 0 })
        .and_then(|()| outgoing.flush())
        .map_err(lost)?;
    if was_changed && !read.live {
        return Err(changed(
            &read.path,
            "changed while it was read; try again, or take it as it is with --live",
        ));
    }
    Ok(())
}

fn changed(path: &RemotePath, how: &str) -> Failure {
    Failure::at("changed", path, format!("{} {how}", path.display()))
}

/// An open file on its way out.
pub struct Source {
    file: File,
    /// The whole of a small one.
    whole: Option<Vec<u8>>,
    /// When it was opened.
    about: About,
    sparse: bool,
    buffer: Vec<u8>,
}

impl Source {
    /// Opens a regular file. Its entry then says how long it really is.
    pub fn open(place: &Place, entry: &mut FileEntry) -> io::Result<Self> {
        Self::of(place.open()?, entry)
    }

    /// The same of an open one.
    pub fn of(file: File, entry: &mut FileEntry) -> io::Result<Self> {
        let about = About::of(file.as_fd())?;
        entry.size = about.size;
        entry.modified_ns = about.modified_ns;
        let whole = if about.size <= SMALL_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(about.size).unwrap_or_default() + 1);
            (&file).take(MOST_OF_SMALL).read_to_end(&mut bytes)?;
            entry.size = bytes.len() as u64;
            Some(bytes)
        } else {
            copying::will_read_all(&file, 0);
            None
        };
        let sparse = whole.is_none() && entry.allocated < about.size;
        Ok(Self { file, whole, about, sparse, buffer: Vec::new() })
    }

    /// BLAKE3 of a stretch of it.
    pub fn hash(&mut self, from: u64, to: u64) -> io::Result<blake3::Hash> {
        Ok(self.hash_on(blake3::Hasher::new(), from, to)?.finalize())
    }

    fn hash_on(
        &mut self,
        mut hasher: blake3::Hasher,
        mut from: u64,
        to: u64,
    ) -> io::Result<blake3::Hasher> {
        while from < to {
            let count = self.fill(from, to, MAX_COPY_DATA)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(self.buffer.get(HEADROOM..HEADROOM + count).unwrap_or_default());
            from += count as u64;
        }
        Ok(hasher)
    }

    /// Reads into the buffer, behind the headroom; 0 at the end of the file.
    fn fill(&mut self, from: u64, to: u64, most: usize) -> io::Result<usize> {
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX).min(most);
        if self.buffer.len() < HEADROOM + wanted {
            self.buffer.resize(HEADROOM + wanted, 0);
        }
        let into = self.buffer.get_mut(HEADROOM..HEADROOM + wanted).unwrap_or_default();
        if let Some(whole) = &self.whole {
            let begin = usize::try_from(from).unwrap_or(usize::MAX).min(whole.len());
            let bytes = whole.get(begin..).unwrap_or_default();
            let count = bytes.len().min(wanted);
            if let (Some(into), Some(bytes)) = (into.get_mut(..count), bytes.get(..count)) {
                into.copy_from_slice(bytes);
            }
            return Ok(count);
        }
        loop {
            match self.file.read_at(into, from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Sends a stretch of it, and says how it ended.
    pub fn send(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        mut hasher: blake3::Hasher,
        from: u64,
        to: u64,
        path: &RemotePath,
    ) -> Result<CopiedFile, Failure> {
        let failed = |error: io::Error| paths::describe(&error, path);
        let lost = |error: io::Error| lost_answer(&error);
        let most = outgoing.data_bytes();
        let mut at = from;
        let mut data_to = if self.sparse { at } else { to };
        while at < to {
            if at >= data_to {
                let (begin, end) =
                    copying::next_data(&self.file, at).map_err(failed)?.unwrap_or((to, to));
                let begin = begin.min(to);
                if begin > at {
                    outgoing.hole(begin - at).map_err(lost)?;
                    hash_zeros(&mut hasher, begin - at);
                    at = begin;
                }
                data_to = end.min(to);
                continue;
            }
            let count = self.fill(at, data_to, most).map_err(failed)?;
            if count == 0 {
                break;
            }
            let filled = self.buffer.get_mut(..HEADROOM + count).unwrap_or_default();
            hasher.update(filled.get(HEADROOM..).unwrap_or_default());
            outgoing.data(filled).map_err(lost)?;
            at += count as u64;
        }
        let now = About::of(self.file.as_fd()).map_err(failed)?;
        let as_it_was = (self.about.size, self.about.modified_ns, self.about.changed_ns);
        let changed = at < to || as_it_was != (now.size, now.modified_ns, now.changed_ns);
        Ok(CopiedFile { size: at, hash: hasher.finalize().to_hex().to_string(), changed })
    }
}

/// Hashes a hole.
pub fn hash_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    while length > 0 {
        let piece = length.min(ZEROS.len() as u64);
        hasher.update(ZEROS.get(..usize::try_from(piece).unwrap_or_default()).unwrap_or_default());
        length -= piece;
    }
}
