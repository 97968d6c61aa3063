//! `file_write` of a folder as a dry run: what would become of each file.

use reeve_protocol::ops::copy_stream::{CopiedFile, CopyStart};
use reeve_protocol::ops::{
    Existing, Failure, FileEntry, FileKind, FileWrite, RemotePath, WriteAnswer, WriteDeed,
    WriteReady, Written,
};

use super::incoming::{Sink, receive};
use super::write::{end_of, expect, patient, say};
use crate::host::paths::{self, Place};
use crate::operations::worker::{Worker, lost_answer};

/// Takes in a listing, and writes nothing.
pub fn dry_run(
    write: &FileWrite,
    worker: &mut Worker,
    root: Option<Place>,
    path: RemotePath,
) -> Result<(), Failure> {
    say(worker, &WriteAnswer::Ready(WriteReady::default()))?;
    let stdin = worker.stdin.try_clone().map_err(|error| lost_answer(&error))?;
    let is_there = root.is_some();
    let mut look = Look { write, worker, path: path.clone(), is_there };
    receive(&mut patient(&stdin), &mut look).map_err(|stopped| end_of(stopped, &path).0)?;
    Ok(())
}

/// Compares, and writes nothing.
struct Look<'w> {
    write: &'w FileWrite,
    worker: &'w mut Worker,
    path: RemotePath,
    is_there: bool,
}

impl Sink for Look<'_> {
    fn start(&mut self, start: &CopyStart) -> Result<(), Failure> {
        expect(start, true, true)
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), Failure> {
        if entry.kind != FileKind::File {
            return Ok(());
        }
        let path = self.path.join(entry.path.as_bytes());
        let place = match self.worker.rules.find_spot(&path).and_then(|spot| spot.look()) {
            _ if !self.is_there => None,
            Ok(place) => place,
            Err(failure) if failure.code == "not_found" => None,
            Err(failure) => return Err(failure),
        };
        let deed = match place {
            None => WriteDeed::New,
            Some(_) if self.write.existing == Existing::Keep => WriteDeed::Kept,
            Some(place) if place.about.size == entry.size && place.about.kind == FileKind::File => {
                let mut hasher = blake3::Hasher::new();
                hasher
                    .update_reader(place.open_file(&path)?)
                    .map_err(|error| paths::describe(&error, &path))?;
                let hash = hasher.finalize().to_hex().to_string();
                if entry.hash == Some(hash) { WriteDeed::Same } else { WriteDeed::Overwritten }
            }
            Some(_) => WriteDeed::Overwritten,
        };
        let would = Written { path, deed, size: entry.size };
        say(self.worker, &WriteAnswer::Would(would))
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

    fn skipped(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.worker.warn(failure);
        Ok(())
    }
}
