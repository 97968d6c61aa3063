//! `file_read`, of a folder with everything in it.

use std::io;

use reeve_protocol::ops::copy_stream::{
    COPY_FORMAT, CopyEnd, CopyRecord, CopyStart, is_beneath, is_told_before,
};
use reeve_protocol::ops::{Failure, FileEntry, FileKind, FileRead, RemotePath};

use super::outgoing::Outgoing;
use super::read::{Source, kind_word};
use crate::host::paths::{self, Place, Step, Visit, WalkOptions};
use crate::host::users::Names;
use crate::operations::files::stat::look_at;
use crate::operations::worker::{Worker, lost_answer};

/// Sends a folder. What cannot be read is left out and told of.
pub fn read_tree(read: &FileRead, worker: &mut Worker, place: &Place) -> Result<(), Failure> {
    let lost = |error: io::Error| lost_answer(&error);
    let mut names = Names::default();
    let mut walk = worker.rules.walk(place, &RemotePath::new(""), WalkOptions::default())?;
    let outgoing = Outgoing::new(&mut worker.stdout, read.compress).map_err(lost)?;
    let (listing, live) = (read.listing, read.live);
    let mut tree = Tree { outgoing, listing, live, end: CopyEnd::default() };
    let start = CopyStart {
        format: COPY_FORMAT,
        tree: true,
        after: read.after.clone(),
        listing,
        any_size: live,
        ..CopyStart::default()
    };
    tree.outgoing.document(CopyRecord::Start, &start).map_err(lost)?;
    let root = look_at(place, &RemotePath::new(""), &mut names)
        .map_err(|error| paths::describe(&error, &read.path))?;
    tree.entry(&root).map_err(lost)?;
    while let Some(step) = walk.next() {
        let visit = match step {
            Step::Found(visit) => visit,
            Step::Left(_) => continue,
            Step::Skipped(failure) => {
                tree.skip(failure).map_err(lost)?;
                continue;
            }
        };
        let path = inner(&visit.path);
        let is_known = read.after.as_ref().is_some_and(|after| is_told_before(&path, after));
        if is_known && !read.after.as_ref().is_some_and(|after| is_beneath(after, &path)) {
            walk.skip_folder();
            continue;
        }
        // Folders on the way to where it goes on are told again, with what is behind.
        tree.visit(&visit, path, &mut names)?;
    }
    let end = tree.end;
    tree.outgoing.document(CopyRecord::End, &end).and_then(|()| tree.outgoing.flush()).map_err(lost)
}

/// A walk that began nowhere tells paths with a slash before them.
fn inner(path: &RemotePath) -> RemotePath {
    let bytes = path.as_bytes();
    RemotePath::new(bytes.strip_prefix(b"/").unwrap_or(bytes))
}

struct Tree<'w> {
    outgoing: Outgoing<'w>,
    listing: bool,
    live: bool,
    end: CopyEnd,
}

impl Tree<'_> {
    fn entry(&mut self, entry: &FileEntry) -> io::Result<()> {
        self.end.entries += 1;
        self.outgoing.document(CopyRecord::Entry, entry)
    }

    fn skip(&mut self, mut failure: Failure) -> io::Result<()> {
        self.end.skipped += 1;
        failure.path = failure.path.as_ref().map(inner);
        self.outgoing.document(CopyRecord::Skipped, &failure)
    }

    fn visit(&mut self, visit: &Visit, path: RemotePath, names: &mut Names) -> Result<(), Failure> {
        let lost = |error: io::Error| lost_answer(&error);
        let mut entry = match look_at(&visit.place, &path, names) {
            Ok(entry) => entry,
            Err(error) => return self.skip(paths::describe(&error, &path)).map_err(lost),
        };
        match entry.kind {
            FileKind::Directory | FileKind::Symlink => self.entry(&entry).map_err(lost),
            FileKind::File => match Source::open(&visit.place, &mut entry) {
                Ok(source) => self.file(source, entry),
                Err(error) => self.skip(paths::describe(&error, &path)).map_err(lost),
            },
            kind => {
                let text =
                    format!("{} is {}, which is not copied", path.display(), kind_word(kind));
                self.skip(Failure::at("not_a_file", &path, text)).map_err(lost)
            }
        }
    }

    fn file(&mut self, mut source: Source, mut entry: FileEntry) -> Result<(), Failure> {
        let lost = |error: io::Error| lost_answer(&error);
        if self.listing {
            match source.hash(0, entry.size) {
                Ok(hash) => entry.hash = Some(hash.to_hex().to_string()),
                Err(error) => return self.skip(paths::describe(&error, &entry.path)).map_err(lost),
            }
            return self.entry(&entry).map_err(lost);
        }
        self.entry(&entry).map_err(lost)?;
        let (size, hasher) = (entry.size, blake3::Hasher::new());
        let mut end = source.send(&mut self.outgoing, hasher, 0, size, &entry.path)?;
        end.changed &= !self.live;
        self.outgoing.document(CopyRecord::FileEnd, &end).map_err(lost)
    }
}
