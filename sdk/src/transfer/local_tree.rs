//! A folder of a machine on its way to this side.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use reeve_protocol::ops::copy_stream::{
    BadStream, CopiedFile, CopyRecord, CopyStart, check_copy_path, is_beneath, link_leads_out,
};
use reeve_protocol::ops::{
    Existing, Failure, FileEntry, FileKind, LinkRule, PARTIAL_PREFIX, RemotePath, WriteDeed,
};

use super::local_source::hash_prefix;
use super::local_target::{Placing, apply, hash_zeros, name_of, remove_old, time_of};
use super::stream::Sink;
use super::{Progress, TransferError};

/// A folder that is being filled from a machine.
pub struct TreeSink {
    root: PathBuf,
    token: String,
    placing: Placing,
    progress: Arc<dyn Progress>,
    /// Only compares.
    dry_run: bool,
    /// Folders that are being filled: their paths in the tree, and what was told of them.
    levels: Vec<(RemotePath, FileEntry, bool)>,
    file: Option<Coming>,
    /// Open while entries come.
    kept_notes: Option<File>,
    /// The last entry that is there whole.
    pub after: Option<RemotePath>,
    pub entries: u64,
    pub bytes: u64,
    pub came: u64,
    pub skipped: u64,
    pub would: Vec<(RemotePath, WriteDeed, u64)>,
}

struct Coming {
    entry: FileEntry,
    place: PathBuf,
    /// `None`: what comes goes nowhere.
    file: Option<File>,
    hasher: blake3::Hasher,
}

impl TreeSink {
    /// Goes on behind what a former attempt wrote down.
    pub fn new(
        root: PathBuf,
        token: String,
        placing: Placing,
        dry_run: bool,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, TransferError> {
        if !dry_run {
            fs::create_dir_all(&root).map_err(|error| TransferError::local(&root, error))?;
            remove_old(&root);
        }
        let mut sink = Self {
            root,
            token,
            placing,
            progress,
            dry_run,
            levels: Vec::new(),
            file: None,
            kept_notes: None,
            after: None,
            entries: 0,
            bytes: 0,
            came: 0,
            skipped: 0,
            would: Vec::new(),
        };
        let notes = sink.notes();
        if fs::symlink_metadata(&notes).is_ok_and(|about| about.is_file())
            && let Ok(text) = fs::read(&notes)
        {
            sink.after = serde_json::from_slice(&text).ok();
        }
        Ok(sink)
    }

    fn notes(&self) -> PathBuf {
        self.root.join(format!("{PARTIAL_PREFIX}{}", self.token))
    }

    /// Where the file that comes now is until it has come.
    fn partial(&self) -> PathBuf {
        self.root.join(format!("{PARTIAL_PREFIX}{}-file", self.token))
    }

    fn skip(&mut self, path: &RemotePath, why: &str) {
        self.skipped += 1;
        let text = format!("{} {why}", path.display());
        self.progress.skipped(&Failure::at("skipped", path, text));
    }

    fn place(&self, path: &RemotePath) -> PathBuf {
        let mut place = self.root.clone();
        for name in path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            place.push(name_of(name));
        }
        place
    }

    /// Leaves the folders that an entry is not in, and sees to it that it is in the last one.
    fn enter(&mut self, path: &RemotePath) -> Result<(), TransferError> {
        while let Some((folder, ..)) = self.levels.last() {
            if folder.as_bytes().is_empty() || is_beneath(path, folder) {
                break;
            }
            self.leave()?;
        }
        let bytes = path.as_bytes();
        let slash = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let above = bytes.get(..slash).unwrap_or_default();
        match self.levels.last() {
            Some((folder, ..)) if folder.as_bytes() == above => Ok(()),
            _ => Err(BadStream::Path(path.display()).into()),
        }
    }

    fn leave(&mut self) -> Result<(), TransferError> {
        let Some((path, entry, is_new)) = self.levels.pop() else { return Ok(()) };
        if self.dry_run || (!is_new && !self.placing.preserve) {
            return Ok(());
        }
        let place = self.place(&path);
        let local = |error| TransferError::local(&place, error);
        let kept = if self.placing.preserve { 0o777 } else { 0o755 };
        fs::set_permissions(&place, Permissions::from_mode(entry.mode & kept)).map_err(local)?;
        if self.placing.preserve {
            let time = time_of(entry.modified_ns);
            let times = fs::FileTimes::new().set_modified(time).set_accessed(time);
            File::open(&place).and_then(|folder| folder.set_times(times)).map_err(local)?;
        }
        Ok(())
    }

    fn folder(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        let path = entry.path.clone();
        if !path.as_bytes().is_empty() {
            self.enter(&path)?;
        }
        let place = self.place(&path);
        let local = |error| TransferError::local(&place, error);
        let mut is_new = false;
        // The root may be a link: somebody here named it. Nothing in it may.
        let about = if path.as_bytes().is_empty() {
            fs::metadata(&place)
        } else {
            fs::symlink_metadata(&place)
        };
        match about {
            _ if self.dry_run => {}
            Ok(about) if about.is_dir() => {}
            Ok(_) => {
                return Err(TransferError::Refused(format!(
                    "{} is there and is no folder",
                    place.display()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&place).map_err(local)?;
                fs::set_permissions(&place, Permissions::from_mode(0o700)).map_err(local)?;
                is_new = true;
            }
            Err(error) => return Err(local(error)),
        }
        self.levels.push((path, entry, is_new));
        Ok(())
    }

    fn link(&mut self, entry: &FileEntry) -> Result<(), TransferError> {
        let path = &entry.path;
        let Some(target) = &entry.target else { return Ok(()) };
        if !self.placing.outward_links && link_leads_out(path, target) {
            let why = format!("leads out of the folder, to {}", target.display());
            self.skip(path, &why);
            return Ok(());
        }
        if self.dry_run {
            return Ok(());
        }
        let place = self.place(path);
        let local = |error| TransferError::local(&place, error);
        let to = name_of(target.as_bytes());
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::os::unix::fs::symlink(to, &place).map_err(local)
            }
            Err(error) => Err(local(error)),
            Ok(_) if self.placing.existing == Existing::Keep => Ok(()),
            Ok(about) if about.is_dir() => {
                self.skip(path, "is a folder here, where a link was to be");
                Ok(())
            }
            Ok(_) => {
                let partial = self.partial();
                let _ = fs::remove_file(&partial);
                std::os::unix::fs::symlink(to, &partial).map_err(local)?;
                fs::rename(&partial, &place).map_err(local)
            }
        }
    }

    fn begin_file(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        let place = self.place(&entry.path);
        let local = |error| TransferError::local(&place, error);
        let mut write = true;
        let mut deed = WriteDeed::New;
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(local(error)),
            Ok(_) if self.placing.existing == Existing::Keep => {
                write = false;
                deed = WriteDeed::Kept;
            }
            Ok(about) if about.is_dir() => {
                self.skip(&entry.path, "is a folder here, where a file was to be");
                write = false;
            }
            Ok(about) if about.is_symlink() && self.placing.link != LinkRule::Replace => {
                self.skip(&entry.path, "is a link here, where a file was to be");
                write = false;
            }
            Ok(about) if !about.is_file() && !about.is_symlink() => {
                self.skip(&entry.path, "is a pipe, socket or device here, where a file was to be");
                write = false;
            }
            Ok(about) => {
                deed = WriteDeed::Overwritten;
                if self.dry_run && about.is_file() && about.len() == entry.size {
                    let hash = File::open(&place)
                        .and_then(|file| hash_prefix(&file, entry.size))
                        .map_err(local)?
                        .finalize();
                    if entry.hash.as_deref() == Some(hash.to_hex().as_str()) {
                        deed = WriteDeed::Same;
                    }
                }
            }
        }
        if self.dry_run {
            self.would.push((
                RemotePath::new(std::os::unix::ffi::OsStrExt::as_bytes(place.as_os_str())),
                deed,
                entry.size,
            ));
            return Ok(());
        }
        let file = if write {
            let partial = self.partial();
            let _ = fs::remove_file(&partial);
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
            Some(opened.map_err(local)?)
        } else {
            None
        };
        self.file = Some(Coming { entry, place, file, hasher: blake3::Hasher::new() });
        Ok(())
    }

    fn note(&mut self, path: RemotePath) {
        if self.kept_notes.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let _ = fs::remove_file(self.notes());
            self.kept_notes = options.open(self.notes()).ok();
        }
        // Kept open: a file that is truncated and closed is written to the disk each time (ext4).
        if let (Some(notes), Ok(text)) = (&self.kept_notes, serde_json::to_vec(&path)) {
            // What cannot be written down is only sent again.
            let _ = notes.write_all_at(&text, 0).and_then(|()| notes.set_len(text.len() as u64));
        }
        self.after = Some(path);
    }

    /// All of it has come.
    pub fn finish(&mut self) -> Result<(), TransferError> {
        while !self.levels.is_empty() {
            if self.levels.len() == 1 && !self.dry_run {
                let _ = fs::remove_file(self.notes());
            }
            self.leave()?;
        }
        Ok(())
    }

    /// The attempt is over before all has come.
    pub fn interrupt(&mut self) {
        self.levels.clear();
        self.file = None;
        if !self.dry_run {
            let _ = fs::remove_file(self.partial());
        }
    }
}

impl Sink for TreeSink {
    fn start(&mut self, start: &CopyStart) -> Result<(), TransferError> {
        if !start.tree || start.after != self.after {
            return Err(BadStream::Order(CopyRecord::Start).into());
        }
        Ok(())
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        check_copy_path(&entry.path)?;
        self.progress.entry(&entry.path);
        self.entries += 1;
        match entry.kind {
            FileKind::Directory => self.folder(entry),
            _ if entry.path.as_bytes().is_empty() => Err(BadStream::Path(String::new()).into()),
            FileKind::Symlink => {
                self.enter(&entry.path)?;
                self.link(&entry)?;
                if !self.dry_run {
                    self.note(entry.path);
                }
                Ok(())
            }
            FileKind::File => {
                self.enter(&entry.path)?;
                self.begin_file(entry)
            }
            _ => {
                self.skip(&entry.path, "is neither file, folder nor link");
                Ok(())
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        let Some(coming) = &mut self.file else { return Ok(()) };
        coming.hasher.update(bytes);
        self.came += bytes.len() as u64;
        self.progress.moved(bytes.len() as u64);
        match &mut coming.file {
            Some(file) => {
                file.write_all(bytes).map_err(|error| TransferError::local(&coming.place, error))
            }
            None => Ok(()),
        }
    }

    fn hole(&mut self, length: u64) -> Result<(), TransferError> {
        let Some(coming) = &mut self.file else { return Ok(()) };
        hash_zeros(&mut coming.hasher, length);
        self.progress.moved(length);
        let Some(file) = &mut coming.file else { return Ok(()) };
        file.seek(SeekFrom::Current(i64::try_from(length).unwrap_or(i64::MAX)))
            .and_then(|at| file.set_len(at))
            .map_err(|error| TransferError::local(&coming.place, error))
    }

    fn file_end(&mut self, end: &CopiedFile) -> Result<(), TransferError> {
        let Some(coming) = self.file.take() else { return Ok(()) };
        let place = coming.place;
        let local = |error| TransferError::local(&place, error);
        if coming.hasher.finalize().to_hex().as_str() != end.hash {
            return Err(TransferError::Refused(format!(
                "what came for {} is not what was sent; try again",
                place.display()
            )));
        }
        if end.changed {
            let why = "changed while it was read; --live takes it as it is";
            if coming.file.is_some() {
                let _ = fs::remove_file(self.partial());
            }
            self.skip(&coming.entry.path, why);
            return Ok(());
        }
        if let Some(file) = coming.file {
            let before = fs::symlink_metadata(&place).ok().filter(fs::Metadata::is_file);
            let mode = before.as_ref().map(|about| about.permissions().mode());
            apply(&file, &coming.entry, &self.placing, mode).map_err(local)?;
            if before.is_some() {
                // What is overwritten must not become an empty file when the power goes.
                file.sync_data().map_err(local)?;
            }
            if self.placing.existing == Existing::Replace {
                fs::rename(self.partial(), &place).map_err(local)?;
            } else {
                fs::hard_link(self.partial(), &place).map_err(local)?;
                let _ = fs::remove_file(self.partial());
            }
            self.bytes += end.size;
        }
        self.note(coming.entry.path);
        Ok(())
    }

    fn skipped(&mut self, failure: &Failure) -> Result<(), TransferError> {
        self.skipped += 1;
        self.progress.skipped(failure);
        Ok(())
    }
}
