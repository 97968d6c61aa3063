//! The folder of versions: contents by their hash, and the index. Several workers may use it at the
//! same time; whoever changes it holds its lock.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeve_protocol::ops::FileVersion;

use super::index::{self, Index};
use crate::host;
use crate::policy::VersionRules;

/// Versions at the most: the index is read whole, and has some 300 bytes of each.
pub const MAX_VERSIONS: usize = 20_000;

/// An index larger than this is not ours.
const MAX_INDEX_BYTES: u64 = 256 * 1024 * 1024;

/// What is left of a worker that died while it copied, after this long.
const STALE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    rules: VersionRules,
    index: Index,
    /// Bytes of all contents in it, each once.
    total: u64,
    /// How many versions have which content.
    users: HashMap<String, u32>,
    /// Inode and length of the index as it was read.
    known: Option<(u64, u64)>,
}

/// Held while something is changed.
pub struct Locked(#[allow(dead_code, reason = "held for its lock")] File);

impl Store {
    /// One that need not be there yet.
    pub fn new(path: PathBuf, rules: VersionRules) -> Self {
        let (index, users) = (Index::default(), HashMap::new());
        Self { path, rules, index, total: 0, users, known: None }
    }

    /// Makes its folders if need be.
    pub fn create(&self) -> io::Result<()> {
        for folder in [self.path.join("blobs"), self.path.join("incoming")] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(())
    }

    /// Bytes that may be kept, after everything else was given up for them.
    pub fn most_bytes(&self) -> u64 {
        self.rules.max_bytes - self.rules.max_bytes / 10
    }

    /// Every version there is, oldest first.
    pub fn read(&self) -> io::Result<Vec<FileVersion>> {
        match read_whole(&self.path.join("index")) {
            Ok((_, bytes)) => Ok(Index::parse(&bytes)?.versions),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn blob(&self, hash: &str) -> PathBuf {
        self.path.join("blobs").join(hash.get(..2).unwrap_or("xx")).join(hash)
    }

    /// Opens a content.
    pub fn open_blob(&self, hash: &str) -> io::Result<File> {
        File::open(self.blob(hash))
    }

    /// A file to write a content to, and its name until it is [`Store::add`]ed.
    pub fn incoming(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let path = self.path.join("incoming").join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path)?;
        Ok((path, file))
    }

    /// Bytes that are free where it is.
    pub fn free_bytes(&self) -> io::Result<u64> {
        host::files::free_bytes(&File::open(&self.path)?)
    }

    /// Waits for its turn to change something. Nobody holds this for longer than a few writes.
    pub fn lock(&self) -> io::Result<Locked> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path.join("lock"))?;
        host::files::wait_for_lock(&file)?;
        Ok(Locked(file))
    }

    /// Reads the index again if somebody else changed it, and cuts off what a crash left half
    /// written.
    fn refresh(&mut self, _locked: &Locked) -> io::Result<File> {
        let path = self.path.join("index");
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path)?;
        let about = file.metadata()?;
        if self.known == Some((about.ino(), about.len())) {
            return Ok(file);
        }
        if about.len() > MAX_INDEX_BYTES {
            return Err(io::Error::other("the index of versions is too large to be one"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.index = Index::parse(&bytes)?;
        self.count_anew();
        if bytes.is_empty() {
            let head = Index::write(&[], self.index.next)?;
            self.index.whole = u64::try_from(head.len()).unwrap_or(0);
            file.write_all(&head)?;
        } else if self.index.whole < about.len() {
            file.set_len(self.index.whole)?;
        }
        self.known = Some((about.ino(), self.index.whole));
        Ok(file)
    }

    /// Adds a version, with its content if it has one: the content first, then its line. Neither is
    /// on the disk for sure before [`Store::sync`].
    pub fn add(
        &mut self,
        mut version: FileVersion,
        content: Option<&Path>,
    ) -> io::Result<FileVersion> {
        let locked = self.lock()?;
        let mut file = self.refresh(&locked)?;
        if let (Some(content), Some(hash)) = (content, &version.hash) {
            let blob = self.blob(hash);
            if fs::metadata(&blob).is_ok_and(|about| about.len() == version.size) {
                fs::remove_file(content)?;
            } else {
                if let Some(folder) = blob.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                }
                fs::rename(content, &blob)?;
            }
        }
        version.id = self.index.next;
        let line = index::line(&version)?;
        let end = self.index.whole;
        if let Err(error) = file.write_all(&line) {
            let _ = file.set_len(end);
            return Err(error);
        }
        self.index.whole += u64::try_from(line.len()).unwrap_or(0);
        self.known = Some((file.metadata()?.ino(), self.index.whole));
        self.index.next += 1;
        self.count(&version);
        self.index.versions.push(version.clone());
        self.evict(&locked)?;
        Ok(version)
    }

    /// Makes what was added last through a power cut: these contents and the index.
    pub fn sync(&self, hashes: &[String]) -> io::Result<()> {
        // One by one it is a wait for the disk each; beyond a few, all at once is quicker.
        const FEW: usize = 8;
        if hashes.len() > FEW {
            return host::files::sync_file_system(&File::open(&self.path)?);
        }
        let mut folders = HashSet::from([self.path.clone(), self.path.join("blobs")]);
        for hash in hashes {
            let blob = self.blob(hash);
            match File::open(&blob) {
                Ok(file) => file.sync_all()?,
                // It was evicted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            folders.extend(blob.parent().map(Path::to_owned));
        }
        for folder in folders {
            File::open(folder)?.sync_all()?;
        }
        File::open(self.path.join("index"))?.sync_all()
    }

    /// Removes what is too old or too much, oldest first, and what nothing refers to.
    pub fn tidy(&mut self) -> io::Result<()> {
        self.create()?;
        let locked = self.lock()?;
        self.refresh(&locked)?;
        self.evict(&locked)?;
        self.sweep(&locked)
    }

    fn evict(&mut self, locked: &Locked) -> io::Result<()> {
        let keep_from = self.find_first_kept();
        if keep_from == 0 {
            return Ok(());
        }
        let kept = self.index.versions.split_off(keep_from);
        let dropped = std::mem::replace(&mut self.index.versions, kept);
        let bytes = Index::write(&self.index.versions, self.index.next)?;
        let (new, path) = (self.path.join("index.new"), self.path.join("index"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        // The index forgets first: it never names what is gone.
        let mut file = options.open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        self.index.whole = u64::try_from(bytes.len()).unwrap_or(0);
        self.known = Some((file.metadata()?.ino(), self.index.whole));
        self.count_anew();
        for hash in dropped.iter().filter_map(hash_of) {
            if self.users.contains_key(hash) {
                continue;
            }
            // Named twice among those that were dropped, perhaps.
            let _ = fs::remove_file(self.blob(hash));
        }
        let _ = locked;
        Ok(())
    }

    fn count_anew(&mut self) {
        self.total = 0;
        self.users.clear();
        let versions = std::mem::take(&mut self.index.versions);
        for version in &versions {
            self.count(version);
        }
        self.index.versions = versions;
    }

    fn count(&mut self, version: &FileVersion) {
        let Some(hash) = hash_of(version) else { return };
        let users = self.users.entry(hash.to_owned()).or_default();
        *users += 1;
        if *users == 1 {
            self.total = self.total.saturating_add(version.size);
        }
    }

    /// How many of the oldest have to go.
    fn find_first_kept(&self) -> usize {
        let versions = &self.index.versions;
        let age = i64::try_from(self.rules.max_age.as_micros()).unwrap_or(i64::MAX);
        let oldest = host::now_us().saturating_sub(age);
        let mut first = versions.iter().take_while(|version| version.kept_us < oldest).count();
        if versions.len() > MAX_VERSIONS {
            first = first.max(versions.len() - (MAX_VERSIONS - MAX_VERSIONS / 10));
        }
        if self.total <= self.rules.max_bytes {
            return first;
        }
        // Each content once, at its newest version.
        let (mut seen, mut total) = (HashSet::new(), 0u64);
        for (at, version) in versions.iter().enumerate().rev() {
            if let Some(hash) = hash_of(version)
                && seen.insert(hash)
            {
                total = total.saturating_add(version.size);
                if total > self.most_bytes() {
                    return first.max(at + 1);
                }
            }
        }
        first
    }

    /// Removes contents that no line names, and what was never finished.
    fn sweep(&self, _locked: &Locked) -> io::Result<()> {
        for folder in fs::read_dir(self.path.join("blobs"))?.flatten() {
            for blob in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if !blob.file_name().to_str().is_some_and(|name| self.users.contains_key(name)) {
                    fs::remove_file(blob.path())?;
                }
            }
        }
        for left in fs::read_dir(self.path.join("incoming"))?.flatten() {
            let age = left.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > STALE {
                fs::remove_file(left.path())?;
            }
        }
        Ok(())
    }
}

fn hash_of(version: &FileVersion) -> Option<&str> {
    version.hash.as_deref()
}

fn read_whole(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAX_INDEX_BYTES).read_to_end(&mut bytes)?;
    Ok((about.ino(), bytes))
}
