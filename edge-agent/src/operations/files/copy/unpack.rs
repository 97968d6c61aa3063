//! `file_write`, of a folder with everything in it. Each entry is made in the folder above it, held
//! open, so that no link made meanwhile leads anywhere else.

use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use reeve_protocol::ops::copy_stream::{CopiedFile, CopyStart, check_copy_path, link_leads_out};
use reeve_protocol::ops::{
    Existing, Failure, FileDeed, FileEntry, FileKind, FileWrite, LinkRule, PARTIAL_PREFIX,
    RemotePath, WriteAnswer, WriteDeed, WriteDone, WriteReady,
};
use serde::{Deserialize, Serialize};

use super::attributes::Attributes;
use super::incoming::{Sink, receive};
use super::look::dry_run;
use super::partial::{list, own_token};
use super::read::{hash_zeros, kind_word};
use super::target::FOLDER_MODE;
use super::write::{end_of, expect, patient, say};
use crate::host::copying;
use crate::host::paths::{self, About, Draft, LastLink, Place, Replace, Spot};
use crate::operations::files::make_all;
use crate::operations::worker::{Worker, lost_answer};
use crate::versions;

/// A name that is never used: it only makes a spot in a folder.
const ANY: &[u8] = b"x";

/// How far a broken-off transfer came, in a file of its name in the tree's root.
#[derive(Serialize, Deserialize)]
struct Reached {
    /// What is not on the disk yet is gone after another boot.
    boot: String,
    after: RemotePath,
}

/// Takes in a folder.
pub fn write_tree(write: &FileWrite, worker: &mut Worker) -> Result<(), Failure> {
    let (root, path, deed) = find_root(write, worker)?;
    if write.dry_run {
        return dry_run(write, worker, root, path);
    }
    let Some(root) = root else { return Err(not_there(&path)) };
    let inside = worker.rules.find_spot(&path.join(ANY))?;
    let mut notes = None;
    let mut ready = WriteReady::default();
    if let Some(token) = &write.resume {
        let token = own_token(token, &worker.order.state);
        let spot = inside.sibling(format!("{PARTIAL_PREFIX}{token}").as_ref())?;
        let listed = list(&worker.order.state, &spot.real());
        let file = spot.open_own()?;
        copying::take_over(&file).map_err(|error| paths::describe(&error, &path))?;
        let mut text = String::new();
        let read = io::Read::read_to_string(&mut &file, &mut text);
        let reached: Option<Reached> = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        let boot = crate::host::read_boot_id();
        ready.after = reached.filter(|reached| reached.boot == boot).map(|reached| reached.after);
        notes = Some(Notes { spot, file, listed, boot });
    }
    say(worker, &WriteAnswer::Ready(ready.clone()))?;
    let versions = versions::Session::open(&worker.order)?;
    let level = Level { path: Vec::new(), inside, folder: root, entry: None, is_new: false };
    let mut tree = Unpack {
        write,
        attributes: Attributes::of(write)?,
        worker,
        root: path.clone(),
        levels: vec![Level { is_new: deed == WriteDeed::New, ..level }],
        file: None,
        notes,
        may_go_on_after: ready.after,
        versions,
        done: WriteDone {
            path: path.clone(),
            deed,
            entries: 0,
            bytes: 0,
            hash: None,
            skipped: 0,
            versions: 0,
        },
    };
    let stdin = tree.worker.stdin.try_clone().map_err(|error| lost_answer(&error))?;
    match receive(&mut patient(&stdin), &mut tree) {
        Ok(_) => {}
        Err(stopped) => {
            let (failure, go_on) = end_of(stopped, &path);
            tree.file = None;
            if !go_on && let Some(notes) = &tree.notes {
                let _ = notes.remove();
            }
            return Err(failure);
        }
    }
    while tree.levels.len() > 1 {
        tree.leave()?;
    }
    tree.finish()
}

fn not_there(path: &RemotePath) -> Failure {
    Failure::at("not_found", path, format!("{} is not there", path.display()))
}

/// The tree's root, made if need be (not in a dry run), its path, and whether it was there.
fn find_root(
    write: &FileWrite,
    worker: &Worker,
) -> Result<(Option<Place>, RemotePath, WriteDeed), Failure> {
    let rules = &worker.rules;
    let mut path = write.path.clone();
    let found = match rules.find(&path, LastLink::Follow) {
        Ok(place) => Some(place),
        Err(failure) if failure.code == "not_found" => None,
        Err(failure) => return Err(failure),
    };
    let no_folder = |path: &RemotePath, kind: FileKind| {
        let text = format!("{} is {}, where a folder was to be", path.display(), kind_word(kind));
        Failure::at("not_a_directory", path, text)
    };
    match (found, &write.name) {
        (Some(place), _) if !place.about.is_folder() => {
            return Err(no_folder(&path, place.about.kind));
        }
        (Some(place), None) => return Ok((Some(place), path, WriteDeed::Overwritten)),
        // It was made by this very transfer, which was broken off: so it is not there to be copied
        // into, but what is to be filled.
        (Some(place), Some(_)) if has_begun(write, worker, &path) => {
            return Ok((Some(place), path, WriteDeed::New));
        }
        (Some(_), Some(name)) => path = path.join(name.as_bytes()),
        // Only a folder's content makes a folder that was named with a slash.
        (None, Some(_)) if path.as_bytes().ends_with(b"/") && !write.parents => {
            return Err(not_there(&path));
        }
        (None, Some(name)) if path.as_bytes().ends_with(b"/") => {
            path = path.join(name.as_bytes());
        }
        (None, _) => {}
    }
    if write.parents && !write.dry_run {
        let spot_path = RemotePath::new(path.as_bytes());
        return Ok((Some(make_all(rules, &spot_path, FOLDER_MODE)?), path, WriteDeed::New));
    }
    let spot = match rules.find_spot(&path) {
        Err(failure) if failure.code == "not_found" && write.dry_run => {
            return Ok((None, path, WriteDeed::New));
        }
        other => other?,
    };
    match spot.look()? {
        Some(place) if place.about.is_folder() => Ok((Some(place), path, WriteDeed::Overwritten)),
        Some(place) => Err(no_folder(&path, place.about.kind)),
        None if write.dry_run => Ok((None, path, WriteDeed::New)),
        None => Ok((Some(spot.make_folder(FOLDER_MODE)?), path, WriteDeed::New)),
    }
}

/// Whether a folder has the notes of this transfer in it.
fn has_begun(write: &FileWrite, worker: &Worker, path: &RemotePath) -> bool {
    let Some(token) = &write.resume else { return false };
    let token = own_token(token, &worker.order.state);
    let notes = path.join(format!("{PARTIAL_PREFIX}{token}").as_bytes());
    let found = worker.rules.find(&notes, LastLink::Keep);
    found.is_ok_and(|place| place.about.uid == crate::host::users::effective_uid())
}

/// A folder that is being filled.
struct Level {
    /// In the tree.
    path: Vec<u8>,
    /// Some name in it.
    inside: Spot,
    folder: Place,
    /// Gets its attributes when everything is in it.
    entry: Option<FileEntry>,
    is_new: bool,
}

/// How far it came, written down after each entry.
struct Notes {
    spot: Spot,
    file: std::fs::File,
    /// Where it is written down that they are to go when they are old.
    listed: Option<PathBuf>,
    boot: String,
}

impl Notes {
    fn remove(&self) -> Result<(), Failure> {
        self.spot.remove_file()?;
        if let Some(listed) = &self.listed {
            let _ = std::fs::remove_file(listed);
        }
        Ok(())
    }
}

struct Unpack<'w> {
    write: &'w FileWrite,
    attributes: Attributes,
    worker: &'w mut Worker,
    root: RemotePath,
    levels: Vec<Level>,
    file: Option<Coming>,
    notes: Option<Notes>,
    /// The stream may begin behind this entry.
    may_go_on_after: Option<RemotePath>,
    versions: versions::Session,
    done: WriteDone,
}

/// The file that comes now.
struct Coming {
    entry: FileEntry,
    spot: Spot,
    before: Option<About>,
    /// `None`: its place stays as it is, and what comes goes nowhere.
    draft: Option<Draft>,
    hasher: blake3::Hasher,
}

impl Unpack<'_> {
    fn shown(&self, path: &RemotePath) -> RemotePath {
        if path.as_bytes().is_empty() { self.root.clone() } else { self.root.join(path.as_bytes()) }
    }

    fn skip(&mut self, code: &str, path: &RemotePath, why: &str) {
        self.done.skipped += 1;
        let path = self.shown(path);
        self.worker.warn(&Failure::at(code, &path, format!("{} {why}", path.display())));
    }

    /// Leaves the folder that was entered last; now it can have its mode and times.
    fn leave(&mut self) -> Result<(), Failure> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let path = self.shown(&RemotePath::new(level.path.clone()));
        let failed = |error: io::Error| paths::describe(&error, &path);
        if let Some(entry) = &level.entry {
            let folder = level.folder.open_folder().map_err(failed)?;
            self.attributes.apply_to_folder(&folder, entry, level.is_new).map_err(failed)?;
        }
        Ok(())
    }

    /// The spot of an entry, in the folder above it, which has been told of before.
    fn spot(&mut self, path: &RemotePath) -> Result<Spot, Failure> {
        check_copy_path(path)
            .map_err(|error| Failure::at("bad_stream", path, error.to_string()))?;
        let bytes = path.as_bytes();
        let slash = bytes.iter().rposition(|byte| *byte == b'/');
        let (above, name) = match slash {
            Some(slash) => {
                (bytes.get(..slash).unwrap_or_default(), bytes.get(slash + 1..).unwrap_or_default())
            }
            None => (&b""[..], bytes),
        };
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.path != above) {
            self.leave()?;
        }
        match self.levels.last() {
            Some(level) if level.path == above => {
                level.inside.sibling(std::os::unix::ffi::OsStrExt::from_bytes(name))
            }
            _ => Err(Failure::at(
                "bad_stream",
                path,
                format!("{} comes before the folder that it is in", path.display()),
            )),
        }
    }

    fn folder(&mut self, entry: FileEntry) -> Result<(), Failure> {
        if entry.path.as_bytes().is_empty() {
            if let Some(root) = self.levels.first_mut() {
                root.entry = Some(entry);
            }
            return Ok(());
        }
        let spot = self.spot(&entry.path)?;
        let path = self.shown(&entry.path);
        let (folder, is_new) = match spot.look()? {
            None => (spot.make_folder(0o700)?, true),
            Some(place) if place.about.is_folder() => (place, false),
            Some(place) => {
                let kind = kind_word(place.about.kind);
                let text = format!("{} is {kind}, where a folder was to be", path.display());
                return Err(Failure::at("not_a_directory", &path, text));
            }
        };
        let inside = spot.enter(std::os::unix::ffi::OsStrExt::from_bytes(ANY))?;
        // The very folder that was looked at, not what may have its name by now.
        if inside.folder().about.identity() != folder.about.identity() {
            let text = format!("{} was swapped while it was being filled", path.display());
            return Err(Failure::at("changed", &path, text));
        }
        let path = entry.path.as_bytes().to_vec();
        self.levels.push(Level { path, inside, folder, entry: Some(entry), is_new });
        Ok(())
    }

    fn link(&mut self, entry: &FileEntry) -> Result<(), Failure> {
        let Some(target) = &entry.target else {
            self.skip("bad_stream", &entry.path, "is a link that leads nowhere");
            return Ok(());
        };
        if !self.write.outward_links && link_leads_out(&entry.path, target) {
            let why = format!("leads out of the folder, to {}; left out", target.display());
            self.skip("outward_link", &entry.path, &why);
            return Ok(());
        }
        let spot = self.spot(&entry.path)?;
        match spot.look()? {
            None => spot.make_link(target)?,
            Some(place) if place.read_link().is_ok_and(|to| to == target.as_bytes()) => {}
            Some(_) if self.write.existing == Existing::Keep => return Ok(()),
            Some(place) if place.about.is_folder() => {
                self.skip("is_a_directory", &entry.path, "is a directory, where a link was to be");
                return Ok(());
            }
            Some(_) => {
                self.keep_version(&spot)?;
                let other = format!("{PARTIAL_PREFIX}{}", self.worker.order.id);
                let beside = spot.sibling(other.as_ref())?;
                beside.make_link(target)?;
                if let Err(failure) = beside.rename(&spot, Replace::Allowed) {
                    let _ = beside.remove_file();
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// Where a file goes, unless it is left out.
    fn begin_file(&mut self, entry: FileEntry) -> Result<(), Failure> {
        let spot = self.spot(&entry.path)?;
        let place = spot.look()?;
        let mut write = true;
        match place.as_ref().map(|place| place.about.kind) {
            None => {}
            Some(_) if self.write.existing == Existing::Keep => write = false,
            Some(kind) if self.write.existing == Existing::Refuse => {
                let path = self.shown(&entry.path);
                let text = format!("{} is there already, {}", path.display(), kind_word(kind));
                return Err(Failure::at("exists", &path, text));
            }
            Some(FileKind::File) => {}
            Some(FileKind::Symlink) if self.write.link == LinkRule::Replace => {}
            Some(kind) => {
                let why = format!("is {}, where a file was to be; left out", kind_word(kind));
                self.skip("not_a_file", &entry.path, &why);
                write = false;
            }
        }
        let draft = if write { Some(spot.draft(self.worker.order.id)?) } else { None };
        if let Some(draft) = &draft
            && entry.size > WORTH_ASKING
        {
            let path = self.shown(&entry.path);
            super::write::check_room(&draft.file, &entry, 0, &path)?;
        }
        let before = place.map(|place| place.about);
        self.file = Some(Coming { entry, spot, before, draft, hasher: blake3::Hasher::new() });
        Ok(())
    }

    /// Keeps what is about to be overwritten.
    fn keep_version(&mut self, spot: &Spot) -> Result<(), Failure> {
        if self.write.no_version {
            return Ok(());
        }
        if let Some(place) = spot.look()? {
            let kept = self.versions.keep(&place, spot.path(), FileDeed::Overwritten)?;
            self.versions.commit()?;
            self.done.versions += u64::from(kept.is_some());
        }
        Ok(())
    }

    fn note(&self, path: &RemotePath) {
        if let Some(notes) = &self.notes
            && let Ok(text) =
                serde_json::to_vec(&Reached { boot: notes.boot.clone(), after: path.clone() })
        {
            // What cannot be written down is only sent again.
            let _ = notes
                .file
                .write_all_at(&text, 0)
                .and_then(|()| notes.file.set_len(text.len() as u64));
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let root = self.root.clone();
        let failed = |error: io::Error| paths::describe(&error, &root);
        let inside = self.levels.first().map(|level| level.inside.clone());
        for warning in self.versions.take_warnings() {
            self.worker.warn(&warning);
        }
        if let Some(notes) = self.notes.take() {
            notes.remove()?;
        }
        self.leave()?;
        if let Some(inside) = inside {
            copying::sync_file_system(inside.folder().fd.as_fd()).map_err(failed)?;
        }
        let done = WriteAnswer::Written(self.done);
        say(self.worker, &done)
    }
}

/// Smaller files find out by themselves that there is no room.
const WORTH_ASKING: u64 = 1024 * 1024;

impl Sink for Unpack<'_> {
    fn start(&mut self, start: &CopyStart) -> Result<(), Failure> {
        expect(start, true, false)?;
        if start.after.is_some() && start.after != self.may_go_on_after {
            return Err(Failure::at(
                "bad_stream",
                &self.root,
                "the stream begins in the middle, where nothing came before",
            ));
        }
        Ok(())
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), Failure> {
        self.done.entries += 1;
        match entry.kind {
            FileKind::Directory => self.folder(entry),
            FileKind::Symlink => {
                self.link(&entry)?;
                self.note(&entry.path);
                Ok(())
            }
            FileKind::File => self.begin_file(entry),
            kind => {
                self.skip("not_a_file", &entry.path, &format!("is {}", kind_word(kind)));
                Ok(())
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(coming) = &mut self.file else { return Ok(()) };
        coming.hasher.update(bytes);
        match &mut coming.draft {
            Some(draft) => draft
                .file
                .write_all(bytes)
                .map_err(|error| paths::describe(&error, coming.spot.path())),
            None => Ok(()),
        }
    }

    fn hole(&mut self, length: u64) -> Result<(), Failure> {
        let Some(coming) = &mut self.file else { return Ok(()) };
        hash_zeros(&mut coming.hasher, length);
        let Some(draft) = &mut coming.draft else { return Ok(()) };
        let skip = i64::try_from(length).unwrap_or(i64::MAX);
        draft
            .file
            .seek(SeekFrom::Current(skip))
            .and_then(|at| draft.file.set_len(at))
            .map_err(|error| paths::describe(&error, coming.spot.path()))
    }

    fn file_end(&mut self, end: &CopiedFile) -> Result<(), Failure> {
        let Some(coming) = self.file.take() else { return Ok(()) };
        let path = coming.spot.path().clone();
        let failed = |error: io::Error| paths::describe(&error, &path);
        let hash = coming.hasher.finalize().to_hex().to_string();
        if hash != end.hash {
            let text = format!("what came for {} is not what was sent", path.display());
            return Err(Failure::at("hash_mismatch", &path, text));
        }
        if end.changed {
            let why = "changed while it was read; left out; --live takes it as it is";
            self.skip("changed", &coming.entry.path, why);
            return Ok(());
        }
        if let Some(draft) = coming.draft {
            let before = coming.before.filter(|before| before.kind == FileKind::File);
            self.attributes.apply(&draft.file, &coming.entry, before.as_ref()).map_err(failed)?;
            if before.is_some() {
                // What is overwritten must not become an empty file when the power goes; what is
                // new is synced with everything else at the end.
                draft.file.sync_data().map_err(failed)?;
            }
            if coming.before.is_some() {
                self.keep_version(&coming.spot)?;
            }
            draft.place(&coming.spot, Replace::Allowed)?;
            self.done.bytes += end.size;
        }
        self.note(&coming.entry.path);
        Ok(())
    }

    fn skipped(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.done.skipped += 1;
        self.worker.warn(failure);
        Ok(())
    }
}
