//! Files of this side on their way to a machine.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use reeve_protocol::ops::copy_stream::{
    COPY_FORMAT, CopiedFile, CopyEnd, CopyRecord, CopyStart, MAX_COPY_DEPTH, is_beneath,
    is_told_before,
};
use reeve_protocol::ops::{Failure, FileEntry, FileKind, RemotePath};

use super::stream::StreamWriter;
use super::{Progress, TransferError};

/// Zeros of a sparse file at least so long are told instead of sent.
const HOLE_BYTES: usize = 64 * 1024;

/// The code of what is left out on this side, which the machine is told of and says again.
pub const LEFT_OUT_HERE: &str = "skipped";

/// What stat(2) says, as an entry.
pub fn entry_of(path: RemotePath, about: &Metadata) -> FileEntry {
    let kind = about.file_type();
    let kind = match kind {
        _ if kind.is_file() => FileKind::File,
        _ if kind.is_dir() => FileKind::Directory,
        _ if kind.is_symlink() => FileKind::Symlink,
        _ if kind.is_fifo() => FileKind::Fifo,
        _ if kind.is_socket() => FileKind::Socket,
        _ if kind.is_char_device() => FileKind::CharacterDevice,
        _ if kind.is_block_device() => FileKind::BlockDevice,
        _ => FileKind::Unknown,
    };
    let time = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    FileEntry {
        path,
        kind,
        size: about.size(),
        allocated: about.blocks().saturating_mul(512),
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
        user: None,
        group: None,
        modified_ns: time(about.mtime(), about.mtime_nsec()),
        changed_ns: time(about.ctime(), about.ctime_nsec()),
        device: about.dev(),
        inode: about.ino(),
        links: about.nlink(),
        target: None,
        hash: None,
    }
}

/// The entry as a machine is told of it: what means something only here is left out, and what the
/// file system may change by itself, so that the same file makes the same stream again.
fn told_of(path: RemotePath, about: &Metadata) -> FileEntry {
    let entry = entry_of(path, about);
    let allocated = entry.allocated.min(entry.size);
    FileEntry { allocated, changed_ns: 0, device: 0, inode: 0, links: 1, ..entry }
}

/// Where a source really is, and what tells its states apart: of a folder nothing does.
pub fn identity_of(path: &Path) -> Result<(PathBuf, String), TransferError> {
    let local = |error| TransferError::local(path, error);
    let real = fs::canonicalize(path).map_err(local)?;
    let about = fs::metadata(path).map_err(local)?;
    if about.is_dir() {
        return Ok((real, String::new()));
    }
    let entry = entry_of(RemotePath::new(""), &about);
    let state = format!("{} {} {} {}", entry.device, entry.inode, entry.size, entry.modified_ns);
    Ok((real, state))
}

/// Where a transfer goes on, and how it travels.
pub struct Plan<'p> {
    pub from: u64,
    pub after: Option<RemotePath>,
    pub compress: bool,
    pub listing: bool,
    pub live: bool,
    pub progress: &'p dyn Progress,
}

/// Opens a regular file of this side.
pub fn open_file(path: &Path) -> Result<(File, Metadata), TransferError> {
    let local = |error| TransferError::local(path, error);
    // Looked at first: opening a FIFO would wait for its writer.
    let about = fs::metadata(path).map_err(local)?;
    if about.is_dir() {
        return Err(TransferError::Refused(format!(
            "{} is a directory; -r copies it with what is in it",
            path.display()
        )));
    }
    if !about.is_file() {
        return Err(TransferError::Refused(format!(
            "{} is neither a file nor a directory, so it is not copied",
            path.display()
        )));
    }
    let file = File::open(path).map_err(local)?;
    let about = file.metadata().map_err(local)?;
    Ok((file, about))
}

/// BLAKE3 of the beginning of a file.
pub fn hash_prefix(file: &File, length: u64) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    let (mut at, mut buffer) = (0, vec![0; 1024 * 1024]);
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        let into = buffer.get_mut(..wanted).unwrap_or_default();
        match file.read_at(into, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                hasher.update(into.get(..count).unwrap_or_default());
                at += count as u64;
            }
        }
    }
    Ok(hasher)
}

fn begin(
    out: &mut StreamWriter<impl Write>,
    plan: &Plan<'_>,
    tree: bool,
    any_size: bool,
) -> io::Result<()> {
    let start = CopyStart {
        format: COPY_FORMAT,
        tree,
        from: plan.from,
        after: plan.after.clone(),
        listing: plan.listing,
        any_size,
        prefix: None,
    };
    out.document(CopyRecord::Start, &start)
}

/// Writes one file as a stream; the hasher has seen what lies before `plan.from`.
pub fn send_file(
    path: &Path,
    file: &File,
    about: &Metadata,
    hasher: blake3::Hasher,
    to: impl Write,
    plan: &Plan<'_>,
) -> Result<u64, TransferError> {
    let local = |error| TransferError::local(path, error);
    let mut out = StreamWriter::new(to, plan.compress).map_err(local)?;
    let mut entry = told_of(RemotePath::new(path.as_os_str().as_bytes()), about);
    if plan.listing {
        let hash = hash_prefix(file, entry.size).map_err(local)?.finalize();
        entry.hash = Some(hash.to_hex().to_string());
    }
    begin(&mut out, plan, false, plan.live).map_err(local)?;
    out.document(CopyRecord::Entry, &entry).map_err(local)?;
    let mut sent = 0;
    if !plan.listing {
        let end = send_content(path, file, &entry, hasher, &mut out, plan)?;
        sent = end.size.saturating_sub(plan.from);
        out.document(CopyRecord::FileEnd, &end).map_err(local)?;
    }
    out.document(CopyRecord::End, &CopyEnd { entries: 1, skipped: 0 }).map_err(local)?;
    out.finish().map_err(local)?;
    Ok(sent)
}

fn send_content(
    path: &Path,
    file: &File,
    entry: &FileEntry,
    mut hasher: blake3::Hasher,
    out: &mut StreamWriter<impl Write>,
    plan: &Plan<'_>,
) -> Result<CopiedFile, TransferError> {
    let local = |error| TransferError::local(path, error);
    let sparse = entry.allocated < entry.size;
    let mut buffer = Vec::new();
    let mut at = plan.from;
    while at < entry.size {
        let most = usize::try_from(entry.size - at).unwrap_or(usize::MAX).min(out.data_bytes());
        if buffer.len() < most {
            buffer.resize(most, 0);
        }
        let into = buffer.get_mut(..most).unwrap_or_default();
        let count = match file.read_at(into, at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(local(error)),
        };
        let bytes = into.get(..count).unwrap_or_default();
        hasher.update(bytes);
        if sparse {
            send_with_holes(out, bytes).map_err(local)?;
        } else {
            out.record(CopyRecord::Data, bytes).map_err(local)?;
        }
        at += count as u64;
        plan.progress.moved(count as u64);
    }
    let now = entry_of(entry.path.clone(), &file.metadata().map_err(local)?);
    let same = (now.size, now.modified_ns) == (entry.size, entry.modified_ns);
    let changed = (at < entry.size || !same) && !plan.live;
    Ok(CopiedFile { size: at, hash: hasher.finalize().to_hex().to_string(), changed })
}

fn send_with_holes(out: &mut StreamWriter<impl Write>, bytes: &[u8]) -> io::Result<()> {
    let is_hole = |piece: &[u8]| piece.len() == HOLE_BYTES && piece.iter().all(|byte| *byte == 0);
    for group in
        bytes.chunks(HOLE_BYTES).collect::<Vec<_>>().chunk_by(|a, b| is_hole(a) == is_hole(b))
    {
        let length: usize = group.iter().map(|piece| piece.len()).sum();
        if group.first().is_some_and(|piece| is_hole(piece)) {
            out.record(CopyRecord::Hole, &(length as u64).to_be_bytes())?;
        } else {
            out.record(CopyRecord::Data, &group.concat())?;
        }
    }
    Ok(())
}

/// Writes what a reader yields, however long that is, as a stream of one file.
pub fn send_reader(
    mut reader: impl Read,
    mode: u32,
    to: impl Write,
    plan: &Plan<'_>,
) -> Result<u64, TransferError> {
    let local = |error| TransferError::local(Path::new("-"), error);
    let mut out = StreamWriter::new(to, plan.compress).map_err(local)?;
    begin(&mut out, plan, false, true).map_err(local)?;
    let entry = FileEntry {
        path: RemotePath::from("-"),
        kind: FileKind::File,
        size: 0,
        allocated: 0,
        mode,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        modified_ns: 0,
        changed_ns: 0,
        device: 0,
        inode: 0,
        links: 1,
        target: None,
        hash: None,
    };
    out.document(CopyRecord::Entry, &entry).map_err(local)?;
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    let mut buffer = vec![0; out.data_bytes()];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                hasher.update(bytes);
                out.record(CopyRecord::Data, bytes).map_err(local)?;
                size += count as u64;
                plan.progress.moved(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(local(error)),
        }
    }
    let hash = hasher.finalize().to_hex().to_string();
    let end = CopiedFile { size, hash, changed: false };
    out.document(CopyRecord::FileEnd, &end).map_err(local)?;
    out.document(CopyRecord::End, &CopyEnd { entries: 1, skipped: 0 }).map_err(local)?;
    out.finish().map_err(local)?;
    Ok(size)
}

/// Writes a folder with everything in it as a stream. What cannot be read is left out and told of.
pub fn send_tree(root: &Path, to: impl Write, plan: &Plan<'_>) -> Result<u64, TransferError> {
    let local = |error| TransferError::local(root, error);
    let out = StreamWriter::new(to, plan.compress).map_err(local)?;
    let mut tree = Tree { out, plan, entries: 0, skipped: 0, sent: 0 };
    begin(&mut tree.out, plan, true, plan.live).map_err(local)?;
    let about = fs::metadata(root).map_err(local)?;
    tree.entry(&told_of(RemotePath::new(""), &about)).map_err(local)?;
    tree.folder(root, &[], 0)?;
    let end = CopyEnd { entries: tree.entries, skipped: tree.skipped };
    tree.out.document(CopyRecord::End, &end).map_err(local)?;
    tree.out.finish().map_err(local)?;
    Ok(tree.sent)
}

struct Tree<'p, W: Write> {
    out: StreamWriter<W>,
    plan: &'p Plan<'p>,
    entries: u64,
    skipped: u64,
    sent: u64,
}

impl<W: Write> Tree<'_, W> {
    fn entry(&mut self, entry: &FileEntry) -> io::Result<()> {
        self.entries += 1;
        self.out.document(CopyRecord::Entry, entry)
    }

    fn skip(&mut self, path: &RemotePath, why: &str) -> io::Result<()> {
        self.skipped += 1;
        let failure = Failure::at(LEFT_OUT_HERE, path, format!("{}: {why}", path.display()));
        self.plan.progress.skipped(&failure);
        self.out.document(CopyRecord::Skipped, &failure)
    }

    fn folder(&mut self, folder: &Path, inner: &[u8], depth: usize) -> Result<(), TransferError> {
        let local = |error| TransferError::local(folder, error);
        let path_of = |name: &[u8]| match inner {
            [] => RemotePath::new(name),
            _ => RemotePath::new(inner).join(name),
        };
        let listed = fs::read_dir(folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
        });
        let mut names = match listed {
            Ok(names) => names,
            Err(error) => {
                return self.skip(&RemotePath::new(inner), &error.to_string()).map_err(local);
            }
        };
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            let (place, path) = (folder.join(&name), path_of(name.as_bytes()));
            // Folders on the way to where it goes on are told again, with what is behind.
            let known = self.plan.after.as_ref().is_some_and(|after| is_told_before(&path, after));
            if known && !self.plan.after.as_ref().is_some_and(|after| is_beneath(after, &path)) {
                continue;
            }
            let about = match fs::symlink_metadata(&place) {
                Ok(about) => about,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.skip(&path, &error.to_string()).map_err(local)?;
                    continue;
                }
            };
            let mut entry = told_of(path.clone(), &about);
            self.plan.progress.entry(&path);
            match entry.kind {
                FileKind::Directory if depth + 1 < MAX_COPY_DEPTH => {
                    self.entry(&entry).map_err(local)?;
                    self.folder(&place, path.as_bytes(), depth + 1)?;
                }
                FileKind::Symlink => {
                    let target = fs::read_link(&place).map_err(local)?;
                    entry.target = Some(RemotePath::new(target.as_os_str().as_bytes()));
                    self.entry(&entry).map_err(local)?;
                }
                FileKind::File => match open_file(&place) {
                    Ok((file, about)) => self.file(&place, &file, &about, path)?,
                    Err(error) => self.skip(&path, &error.to_string()).map_err(local)?,
                },
                _ => self.skip(&path, "is neither a file, folder nor link").map_err(local)?,
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        place: &Path,
        file: &File,
        about: &Metadata,
        path: RemotePath,
    ) -> Result<(), TransferError> {
        let local = |error| TransferError::local(place, error);
        let mut entry = told_of(path, about);
        if self.plan.listing {
            let hash = hash_prefix(file, entry.size).map_err(local)?.finalize();
            entry.hash = Some(hash.to_hex().to_string());
            return self.entry(&entry).map_err(local);
        }
        self.entry(&entry).map_err(local)?;
        let hasher = blake3::Hasher::new();
        let end = send_content(place, file, &entry, hasher, &mut self.out, self.plan)?;
        self.sent += end.size;
        self.out.document(CopyRecord::FileEnd, &end).map_err(local)
    }
}
