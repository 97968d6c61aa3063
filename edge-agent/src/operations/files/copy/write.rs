//! `file_write`, of one file.

use std::io::{self, Write};
use std::time::Duration;

use reeve_protocol::ops::copy_stream::{BadStream, CopiedFile, CopyStart};
use reeve_protocol::ops::{
    Existing, Failure, FileDeed, FileEntry, FileKind, FileWrite, RemotePath, WriteAnswer,
    WriteDeed, WriteDone, WriteReady, Written,
};

use super::attributes::Attributes;
use super::incoming::{Sink, Stopped, receive};
use super::partial::{self, Partial};
use super::read::hash_zeros;
use super::target::Target;
use super::unpack::write_tree;
use crate::host::copying::{self, Patient};
use crate::host::paths::{self, About, Replace};
use crate::operations::files::check_content;
use crate::operations::worker::{Needs, Perform, Worker, lost_answer};
use crate::versions;

/// A sender that says nothing for this long has gone; what came of a transfer with a name is kept.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Room that stays free, so that the machine itself goes on.
const SPARE_ROOM: u64 = 4 * 1024 * 1024;

impl Perform for FileWrite {
    const NEEDS: Needs = Needs::Files;
    const LIMIT: Option<Duration> = None;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        partial::remove_old(&worker.rules, &worker.order.state);
        if self.recursive {
            return write_tree(&self, worker);
        }
        write_file(&self, worker)
    }
}

/// One line of the answer, at once.
pub fn say(worker: &mut Worker, answer: &WriteAnswer) -> Result<(), Failure> {
    worker.answer(answer)?;
    worker.stdout.flush().map_err(|error| lost_answer(&error))
}

/// What ends a write that did not come to its end. `true`: what came may be gone on with.
pub fn end_of(stopped: Stopped, path: &RemotePath) -> (Failure, bool) {
    match stopped {
        Stopped::Failed(failure) => (failure, false),
        Stopped::Stream(BadStream::Cut) => {
            (Failure::at("cut", path, "the sender went before all had come"), true)
        }
        Stopped::Stream(BadStream::Read(error)) if error.kind() == io::ErrorKind::TimedOut => {
            let text = format!("the sender sent nothing for {} s", PATIENCE.as_secs());
            (Failure::at("cut", path, text), true)
        }
        Stopped::Stream(error) => (Failure::at("bad_stream", path, error.to_string()), false),
    }
}

/// Stdin, as long as somebody is there.
pub fn patient(stdin: &std::fs::File) -> Patient<'_> {
    Patient::new(stdin, PATIENCE)
}

fn write_file(write: &FileWrite, worker: &mut Worker) -> Result<(), Failure> {
    // Said before anything is sent.
    Attributes::of(write)?;
    let target = Target::find(&worker.rules, write)?;
    let failed = |error: io::Error| paths::describe(&error, &target.path);
    check_content(target.spot.look()?.as_ref(), &target.path, write.if_match.as_deref())?;
    if target.before.is_some() && write.existing == Existing::Keep {
        let size = target.before.map(|before| before.size).unwrap_or_default();
        return finish(worker, &target, WriteDeed::Kept, size, None, 0);
    }
    if write.dry_run {
        say(worker, &WriteAnswer::Ready(WriteReady::default()))?;
        let mut look = Look { target: &target, found: None };
        let done = receive(&mut patient(&worker.stdin), &mut look);
        done.map_err(|stopped| end_of(stopped, &target.path).0)?;
        let (deed, size) = look.found.unwrap_or((WriteDeed::Unknown, 0));
        let path = target.path.clone();
        return say(worker, &WriteAnswer::Would(Written { path, deed, size }));
    }
    let mut partial = Partial::open(&target.spot, write.resume.as_deref(), &worker.order)?;
    let came = partial.length();
    let mut ready = WriteReady { from: came, ..WriteReady::default() };
    let mut known = None;
    if came > 0 {
        let hasher = partial.hash_prefix(came).map_err(failed)?;
        ready.prefix = Some(hasher.finalize().to_hex().to_string());
        known = Some(hasher);
    }
    // From here on the end of this process, however it comes about, leaves what came.
    partial.keep();
    say(worker, &WriteAnswer::Ready(ready))?;
    let mut file =
        Incoming { write, target: &target, partial, known, hasher: None, entry: None, end: None };
    match receive(&mut patient(&worker.stdin), &mut file) {
        Ok(_) => {}
        Err(stopped) => {
            let (failure, go_on) = end_of(stopped, &target.path);
            if !go_on || file.partial.length() == 0 {
                file.partial.drop_it();
            }
            return Err(failure);
        }
    }
    let size = file.partial.length();
    let hash = file.end.take();
    let versions = file.place(worker)?;
    let deed = match target.before {
        Some(_) => WriteDeed::Overwritten,
        None => WriteDeed::New,
    };
    finish(worker, &target, deed, size, hash, versions)
}

fn finish(
    worker: &mut Worker,
    target: &Target,
    deed: WriteDeed,
    bytes: u64,
    hash: Option<String>,
    versions: u64,
) -> Result<(), Failure> {
    let done = WriteDone {
        path: target.path.clone(),
        deed,
        entries: u64::from(deed != WriteDeed::Kept),
        bytes,
        hash,
        skipped: 0,
        versions,
    };
    say(worker, &WriteAnswer::Written(done))
}

fn is_file(about: &About) -> bool {
    about.kind == FileKind::File
}

/// BLAKE3 of what is at a target.
fn hash_of(target: &Target) -> Result<String, Failure> {
    let file = target.spot.find()?.open_file(&target.path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(|error| paths::describe(&error, &target.path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A dry run: compares, and writes nothing.
struct Look<'t> {
    target: &'t Target,
    found: Option<(WriteDeed, u64)>,
}

impl Sink for Look<'_> {
    fn start(&mut self, start: &CopyStart) -> Result<(), Failure> {
        expect(start, false, true)
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), Failure> {
        let deed = match self.target.before {
            None => WriteDeed::New,
            Some(before) if is_file(&before) && before.size == entry.size => {
                let hash = hash_of(self.target)?;
                if entry.hash == Some(hash) { WriteDeed::Same } else { WriteDeed::Overwritten }
            }
            Some(_) => WriteDeed::Overwritten,
        };
        self.found = Some((deed, entry.size));
        Ok(())
    }

    fn data(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn hole(&mut self, _length: u64) -> Result<(), Failure> {
        Ok(())
    }

    fn file_end(&mut self, _end: &CopiedFile) -> Result<(), Failure> {
        Ok(())
    }

    fn skipped(&mut self, _failure: &Failure) -> Result<(), Failure> {
        Ok(())
    }
}

/// Whether a stream is what the request said would come.
pub fn expect(start: &CopyStart, tree: bool, listing: bool) -> Result<(), Failure> {
    if start.tree != tree {
        let (is, wanted) = if tree { ("one file", "a folder") } else { ("a folder", "one file") };
        return Err(Failure::new("bad_stream", format!("{is} was sent instead of {wanted}")));
    }
    if start.listing != listing {
        return Err(Failure::new(
            "bad_stream",
            "a listing goes with dry_run, and with nothing else",
        ));
    }
    Ok(())
}

/// Whether the disk has room for what is missing of a file, which is taken at once where the file
/// has no holes.
pub fn check_room(
    file: &std::fs::File,
    entry: &FileEntry,
    came: u64,
    path: &RemotePath,
) -> Result<(), Failure> {
    let failed = |error: io::Error| paths::describe(&error, path);
    let dense = entry.allocated == 0 || entry.allocated >= entry.size;
    let whole = if dense { entry.size } else { entry.allocated.min(entry.size) };
    let needed = whole.saturating_sub(came);
    let free = copying::free_room(file).map_err(failed)?;
    if needed > free.saturating_sub(SPARE_ROOM) && needed > 0 {
        let text = format!(
            "{} needs {needed} bytes more, and only {free} are free on its disk; free some",
            path.display()
        );
        return Err(Failure::at("disk_full", path, text));
    }
    if dense && entry.size > came {
        copying::take_room(file, came, entry.size - came).map_err(failed)?;
    }
    Ok(())
}

/// One file that comes.
struct Incoming<'w> {
    write: &'w FileWrite,
    target: &'w Target,
    partial: Partial,
    /// Has seen all that had come before.
    known: Option<blake3::Hasher>,
    hasher: Option<blake3::Hasher>,
    entry: Option<FileEntry>,
    end: Option<String>,
}

impl Incoming<'_> {
    fn failed(&self, error: &io::Error) -> Failure {
        paths::describe(error, &self.target.path)
    }

    fn hasher(&mut self) -> &mut blake3::Hasher {
        self.hasher.get_or_insert_with(blake3::Hasher::new)
    }
}

impl Sink for Incoming<'_> {
    fn start(&mut self, start: &CopyStart) -> Result<(), Failure> {
        expect(start, false, false)?;
        let came = self.partial.length();
        if start.from > came {
            return Err(Failure::at(
                "bad_stream",
                &self.target.path,
                format!("the stream begins at {}, but only {came} bytes are here", start.from),
            ));
        }
        let hasher = match self.known.take() {
            Some(hasher) if start.from == came => {
                let here = hasher.finalize().to_hex().to_string();
                if start.prefix.as_ref().is_some_and(|prefix| *prefix != here) {
                    let text = format!(
                        "what came of {} before is of another file; send it from its start",
                        self.target.path.display()
                    );
                    return Err(Failure::at("hash_mismatch", &self.target.path, text));
                }
                hasher
            }
            _ => {
                self.partial.cut_to(start.from).map_err(|error| self.failed(&error))?;
                self.partial.hash_prefix(start.from).map_err(|error| self.failed(&error))?
            }
        };
        self.hasher = Some(hasher);
        Ok(())
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), Failure> {
        check_room(self.partial.file(), &entry, self.partial.length(), &self.target.path)?;
        self.entry = Some(entry);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.hasher().update(bytes);
        self.partial.append(bytes).map_err(|error| self.failed(&error))
    }

    fn hole(&mut self, length: u64) -> Result<(), Failure> {
        hash_zeros(self.hasher(), length);
        self.partial.append_hole(length).map_err(|error| self.failed(&error))
    }

    fn file_end(&mut self, end: &CopiedFile) -> Result<(), Failure> {
        let hash = self.hasher().finalize().to_hex().to_string();
        if hash != end.hash {
            return Err(Failure::at(
                "hash_mismatch",
                &self.target.path,
                format!(
                    "what came for {} is not what was sent: BLAKE3 {hash} instead of {}; send it \
                     again",
                    self.target.path.display(),
                    end.hash
                ),
            ));
        }
        if end.changed {
            return Err(Failure::at(
                "changed",
                &self.target.path,
                "the source changed while it was read; send it again, or take it as it is with \
                 --live",
            ));
        }
        self.end = Some(hash);
        Ok(())
    }

    fn skipped(&mut self, failure: &Failure) -> Result<(), Failure> {
        Err(failure.clone())
    }
}

impl Incoming<'_> {
    /// Puts what has come whole in its place.
    fn place(mut self, worker: &mut Worker) -> Result<u64, Failure> {
        let kept = match self.complete(worker) {
            Ok(kept) => kept,
            Err(failure) => {
                self.partial.drop_it();
                return Err(failure);
            }
        };
        let replace = match self.write.existing {
            Existing::Refuse => Replace::Never,
            Existing::Replace | Existing::Keep => Replace::Allowed,
        };
        let target = self.target;
        self.partial.place(&target.spot, replace)?;
        target.spot.sync().map_err(|error| paths::describe(&error, &target.path))?;
        Ok(kept)
    }

    /// Makes it whole, on the disk, and keeps a version of what it replaces. How many were kept.
    fn complete(&mut self, worker: &mut Worker) -> Result<u64, Failure> {
        let target = self.target;
        let failed = |error: io::Error| paths::describe(&error, &target.path);
        self.partial.finish().map_err(failed)?;
        if let Some(entry) = &self.entry {
            let before = target.before.filter(is_file);
            let mut attributes = Attributes::of(self.write)?;
            attributes.apply(self.partial.file(), entry, before.as_ref()).map_err(failed)?;
        }
        self.partial.file().sync_all().map_err(failed)?;
        if self.write.if_match.is_some() && !target.is_as_before()? {
            return Err(Failure::at(
                "changed",
                &target.path,
                format!("{} was changed while it was being written", target.path.display()),
            ));
        }
        if self.write.no_version {
            return Ok(0);
        }
        // The new file is whole before the old one is kept, and that before the name changes hands.
        let Some(now) = target.spot.look()? else { return Ok(0) };
        let version = versions::keep(worker, &now, &target.path, FileDeed::Overwritten)?;
        Ok(u64::from(version.is_some()))
    }
}
