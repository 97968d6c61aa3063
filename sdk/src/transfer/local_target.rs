//! Files of a machine on their way to this side. Nothing that the machine says is believed: names
//! stay beneath the folder that was chosen here, and nothing is written through a link.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reeve_disk::Straight;
use reeve_protocol::ops::copy_stream::{BadStream, CopiedFile, CopyStart};
use reeve_protocol::ops::{Existing, Failure, FileEntry, LinkRule, PARTIAL_PREFIX, WriteDeed};

use super::local_source::hash_prefix;
use super::stream::Sink;
use super::{Progress, TransferError};

/// What a usual umask takes away of modes that were not asked for.
const MASK: u32 = 0o022;

/// How long what came is kept after a cut, as [`PARTIAL_PREFIX`] files on machines are.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Zeros, to hash holes with.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Where a download goes.
#[derive(Clone, Debug)]
pub enum LocalTarget {
    /// To this very path: the place of the file, or the root of the tree.
    Path(PathBuf),
    /// To this process's stdout.
    Stdout,
}

/// How files get their place here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placing {
    /// What may be there.
    pub existing: Existing,
    /// What becomes of a link that is there.
    pub link: LinkRule,
    /// Mode and times as they are on the machine.
    pub preserve: bool,
    /// This mode instead.
    pub mode: Option<u32>,
    /// Take links in a tree that lead out of it.
    pub outward_links: bool,
}

pub fn hash_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    while length > 0 {
        let piece = length.min(ZEROS.len() as u64);
        hasher.update(ZEROS.get(..usize::try_from(piece).unwrap_or_default()).unwrap_or_default());
        length -= piece;
    }
}

/// A file that has not come whole, beside its place.
pub struct LocalPartial {
    pub path: PathBuf,
    pub file: File,
    pub length: u64,
    straight: Straight,
    keep: bool,
}

impl LocalPartial {
    /// Opens the one of a transfer beside `target`. One that somebody else put there is not used.
    pub fn open(target: &Path, token: &str) -> Result<Self, TransferError> {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let path = folder.join(format!("{PARTIAL_PREFIX}{token}"));
        remove_old(folder);
        let local = |error| TransferError::local(&path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = match options.clone().create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_ours(&path).map_err(local)? {
                    options.open(&path).map_err(local)?
                } else {
                    fs::remove_file(&path).map_err(local)?;
                    options.create_new(true).open(&path).map_err(local)?
                }
            }
            // About the place that was asked for, not about ours beside it.
            other => other.map_err(|error| TransferError::local(target, error))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(TransferError::Refused(format!(
                    "another transfer is writing {} now",
                    target.display()
                )));
            }
            // A file system without locks.
            Err(fs::TryLockError::Error(_)) => {}
        }
        let (there, here) =
            (fs::symlink_metadata(&path).map_err(local)?, file.metadata().map_err(local)?);
        if (there.dev(), there.ino()) != (here.dev(), here.ino()) {
            return Err(TransferError::Refused(format!("{} was swapped", path.display())));
        }
        Ok(Self { length: here.len(), path, file, straight: Straight::default(), keep: true })
    }

    /// Forgets what has come from `length` on.
    pub fn cut_to(&mut self, length: u64) -> Result<(), TransferError> {
        self.finish()?;
        self.file.set_len(length).map_err(|error| TransferError::local(&self.path, error))?;
        self.length = length;
        Ok(())
    }

    /// What has come is of no use.
    pub fn discard(&mut self) {
        self.keep = false;
    }

    /// The last bytes are in the file after [`Self::finish`].
    fn append(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.straight
            .append(&self.file, self.length, bytes)
            .map_err(|error| TransferError::local(&self.path, error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// All that has come is in the file.
    fn finish(&mut self) -> Result<(), TransferError> {
        self.straight
            .finish(&self.file, self.length)
            .map_err(|error| TransferError::local(&self.path, error))
    }

    fn append_hole(&mut self, length: u64) -> Result<(), TransferError> {
        let now = self.length.saturating_add(length);
        self.cut_to(now)
    }
}

impl Drop for LocalPartial {
    fn drop(&mut self) {
        if !self.keep || self.length == 0 {
            // It may have its place already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what came of transfers into a folder that nobody went on with.
pub fn remove_old(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().as_bytes().starts_with(PARTIAL_PREFIX.as_bytes()) {
            continue;
        }
        let age = entry.metadata().and_then(|about| about.modified()).map(|time| time.elapsed());
        let is_old = matches!(age, Ok(Ok(age)) if age >= KEEP);
        let path = entry.path();
        if is_old && is_ours(&path).unwrap_or(false) {
            // Somebody may just have begun to go on with it.
            let is_free = File::open(&path)
                .is_ok_and(|file| !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)));
            if is_free {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// A regular file of ours with one name.
fn is_ours(path: &Path) -> io::Result<bool> {
    let about = fs::symlink_metadata(path)?;
    let own = fs::metadata("/proc/self").map_or(about.uid(), |about| about.uid());
    Ok(about.is_file() && about.uid() == own && about.nlink() == 1 && about.mode() & 0o022 == 0)
}

/// Gives a file its mode and times.
pub fn apply(
    file: &File,
    entry: &FileEntry,
    placing: &Placing,
    before: Option<u32>,
) -> io::Result<()> {
    let mode = match (placing.mode, before) {
        (Some(mode), _) => mode,
        // Never set-user-id bits: whose the file is here is another matter.
        (None, _) if placing.preserve => entry.mode & 0o777,
        (None, Some(before)) => before & 0o7777,
        (None, None) => entry.mode & 0o777 & !MASK,
    };
    file.set_permissions(Permissions::from_mode(mode))?;
    if placing.preserve {
        let time = time_of(entry.modified_ns);
        file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time))?;
    }
    Ok(())
}

pub fn time_of(ns: i64) -> SystemTime {
    let span = Duration::from_nanos(ns.unsigned_abs());
    let time = if ns < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(span)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(span)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// One file to one place.
pub struct FileSink {
    pub target: PathBuf,
    pub partial: LocalPartial,
    pub placing: Placing,
    pub progress: Arc<dyn Progress>,
    hasher: blake3::Hasher,
    entry: Option<FileEntry>,
    hash: Option<String>,
    /// Bytes that came in this attempt.
    pub came: u64,
}

impl FileSink {
    /// Goes on with what came before, and knows its hash.
    pub fn new(
        target: PathBuf,
        partial: LocalPartial,
        placing: Placing,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, TransferError> {
        let hasher = hash_prefix(&partial.file, partial.length)
            .map_err(|error| TransferError::local(&partial.path, error))?;
        Ok(Self { target, partial, placing, progress, hasher, entry: None, hash: None, came: 0 })
    }

    /// Puts what has come whole in its place.
    pub fn place(mut self) -> Result<(WriteDeed, String, u64), TransferError> {
        let target = self.target.clone();
        let local = |error| TransferError::local(&target, error);
        let hash = self.hash.take().unwrap_or_default();
        let size = self.partial.length;
        let before = match fs::symlink_metadata(&target) {
            Ok(about) => Some(about),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(local(error)),
        };
        self.partial.finish()?;
        if let Some(entry) = &self.entry {
            let mode = before.as_ref().filter(|about| about.is_file()).map(MetadataExt::mode);
            apply(&self.partial.file, entry, &self.placing, mode).map_err(local)?;
        }
        self.partial.file.sync_all().map_err(local)?;
        place(&self.partial.path, &target, self.placing.existing).map_err(local)?;
        self.partial.discard();
        let deed = if before.is_some() { WriteDeed::Overwritten } else { WriteDeed::New };
        Ok((deed, hash, size))
    }
}

/// Gives a whole file its name. A link that has it gives it up; what it leads to stays.
fn place(partial: &Path, target: &Path, existing: Existing) -> io::Result<()> {
    if existing == Existing::Replace {
        fs::rename(partial, target)?;
    } else {
        // Fails when something has the name, whoever was quicker.
        fs::hard_link(partial, target)?;
        fs::remove_file(partial)?;
    }
    if let Some(folder) = target.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

impl Sink for FileSink {
    fn start(&mut self, start: &CopyStart) -> Result<(), TransferError> {
        let here = self.hasher.finalize().to_hex().to_string();
        let same = start.prefix.as_ref().is_some_and(|prefix| *prefix == here);
        if start.from == 0 {
            self.partial.cut_to(0)?;
            self.hasher = blake3::Hasher::new();
        } else if start.from != self.partial.length || !same {
            // Another file than the one whose beginning is here: from the start.
            self.partial.cut_to(0)?;
            return Err(BadStream::Cut.into());
        } else {
            self.progress.resumed(start.from);
        }
        Ok(())
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        self.progress.total(entry.size);
        self.entry = Some(entry);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.hasher.update(bytes);
        self.partial.append(bytes)?;
        self.came += bytes.len() as u64;
        self.progress.moved(bytes.len() as u64);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), TransferError> {
        hash_zeros(&mut self.hasher, length);
        self.partial.append_hole(length)?;
        self.progress.moved(length);
        Ok(())
    }

    fn file_end(&mut self, end: &CopiedFile) -> Result<(), TransferError> {
        let hash = self.hasher.finalize().to_hex().to_string();
        if hash != end.hash {
            self.partial.discard();
            return Err(TransferError::Refused(format!(
                "what came for {} is not what was sent: BLAKE3 {hash} instead of {}; try again",
                self.target.display(),
                end.hash
            )));
        }
        self.hash = Some(hash);
        Ok(())
    }

    fn skipped(&mut self, failure: &Failure) -> Result<(), TransferError> {
        self.progress.skipped(failure);
        Ok(())
    }
}

/// A file to a pipe: what was written is written, so nothing is repeated.
pub struct PipeSink<W: Write> {
    to: W,
    hasher: blake3::Hasher,
    /// Bytes written.
    pub length: u64,
    /// Of the source when it began.
    pub entry: Option<FileEntry>,
    pub progress: Arc<dyn Progress>,
    pub hash: Option<String>,
}

impl<W: Write> PipeSink<W> {
    pub fn new(to: W, progress: Arc<dyn Progress>) -> Self {
        Self { to, hasher: blake3::Hasher::new(), length: 0, entry: None, progress, hash: None }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.hasher.update(bytes);
        self.to.write_all(bytes).map_err(|error| TransferError::local(Path::new("-"), error))?;
        self.length += bytes.len() as u64;
        self.progress.moved(bytes.len() as u64);
        Ok(())
    }
}

impl<W: Write> Sink for PipeSink<W> {
    fn start(&mut self, start: &CopyStart) -> Result<(), TransferError> {
        let here = self.hasher.finalize().to_hex().to_string();
        if start.from == self.length && (start.from == 0 || start.prefix == Some(here)) {
            return Ok(());
        }
        Err(TransferError::Refused(
            "the file on the machine changed while it was written to stdout".to_owned(),
        ))
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        self.progress.total(entry.size);
        self.entry = Some(entry);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.put(bytes)
    }

    fn hole(&mut self, mut length: u64) -> Result<(), TransferError> {
        while length > 0 {
            let piece = length.min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..usize::try_from(piece).unwrap_or_default());
            self.put(zeros.unwrap_or_default())?;
            length -= piece;
        }
        Ok(())
    }

    fn file_end(&mut self, end: &CopiedFile) -> Result<(), TransferError> {
        self.to.flush().map_err(|error| TransferError::local(Path::new("-"), error))?;
        let hash = self.hasher.finalize().to_hex().to_string();
        if hash != end.hash {
            return Err(TransferError::Refused("what came is not what was sent".to_owned()));
        }
        self.hash = Some(hash);
        Ok(())
    }

    fn skipped(&mut self, failure: &Failure) -> Result<(), TransferError> {
        self.progress.skipped(failure);
        Ok(())
    }
}

/// A dry run of one file: compares, and writes nothing.
pub struct LookSink {
    /// Where it would go.
    pub target: PathBuf,
    /// What would become of it.
    pub found: Option<(WriteDeed, u64)>,
}

impl Sink for LookSink {
    fn start(&mut self, _start: &CopyStart) -> Result<(), TransferError> {
        Ok(())
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        let local = |error| TransferError::local(&self.target, error);
        let deed = match fs::symlink_metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => WriteDeed::New,
            Err(error) => return Err(local(error)),
            Ok(about) if about.is_file() && about.len() == entry.size => {
                let file = File::open(&self.target).map_err(local)?;
                let hash = hash_prefix(&file, entry.size).map_err(local)?.finalize();
                match entry.hash.as_deref() == Some(hash.to_hex().as_str()) {
                    true => WriteDeed::Same,
                    false => WriteDeed::Overwritten,
                }
            }
            Ok(_) => WriteDeed::Overwritten,
        };
        self.found = Some((deed, entry.size));
        Ok(())
    }

    fn data(&mut self, _bytes: &[u8]) -> Result<(), TransferError> {
        Ok(())
    }

    fn hole(&mut self, _length: u64) -> Result<(), TransferError> {
        Ok(())
    }

    fn file_end(&mut self, _end: &CopiedFile) -> Result<(), TransferError> {
        Ok(())
    }

    fn skipped(&mut self, _failure: &Failure) -> Result<(), TransferError> {
        Ok(())
    }
}

/// A name of the machine's as one of ours.
pub fn name_of(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_went_on_with_for_a_day_is_removed() {
        let folder = std::env::temp_dir().join(format!("reeve-old-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).expect("a folder");
        let long_ago = SystemTime::now() - KEEP - Duration::from_secs(1);
        let make = |name: &str, old: bool| {
            let file = File::create(folder.join(name)).expect("a file");
            file.set_permissions(Permissions::from_mode(0o600)).expect("a mode");
            if old {
                file.set_modified(long_ago).expect("a time");
            }
            file
        };
        make(".reeve-copy-old", true);
        make(".reeve-copy-new", false);
        make("another", true);
        let held = make(".reeve-copy-held", true);
        held.try_lock().expect("locked");
        remove_old(&folder);
        let left = fs::read_dir(&folder).expect("a folder");
        let mut left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
        left.sort();
        assert_eq!(left, [".reeve-copy-held", ".reeve-copy-new", "another"]);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
