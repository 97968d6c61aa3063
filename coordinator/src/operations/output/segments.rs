//! Append-only files that hold larger pieces of output of all operations, one after the other.
//!
//! A piece counts only once its row is committed. What lies behind the last committed piece of a
//! segment, after a crash or a failed write, belongs to nobody: a program never appends to a segment
//! that another run began.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A segment is sealed when it has reached this size. Space comes back by whole segments.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The folder of segments.
#[derive(Clone, Debug)]
pub struct Segments {
    folder: PathBuf,
}

/// The segment that is being written.
pub struct Open {
    number: i64,
    file: File,
    /// Where the next piece goes. Bytes beyond it may exist and mean nothing.
    end: u64,
    unsynced: bool,
}

/// Where a piece lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's number.
    pub segment: i64,
    /// Offset of the piece's first byte.
    pub position: u64,
}

impl Segments {
    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, number: i64) -> PathBuf {
        self.folder.join(format!("{number:010}.segment"))
    }

    /// Numbers of the segments there are.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> io::Result<BTreeSet<i64>> {
        let mut numbers = BTreeSet::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".segment"));
            numbers.extend(number.and_then(|number| number.parse::<i64>().ok()));
        }
        Ok(numbers)
    }

    /// Makes a segment with this number, which must be new.
    fn create(&self, number: i64) -> io::Result<Open> {
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(number))?;
        // The name has to survive a crash as surely as the bytes.
        File::open(&self.folder)?.sync_all()?;
        Ok(Open { number, file, end: 0, unsynced: false })
    }

    /// Appends a piece, going on to a new segment when the open one is full. Not durable before
    /// [`Open::sync`].
    ///
    /// # Errors
    /// When the disk does not take it; nothing has changed then.
    pub fn append(
        &self,
        open: &mut Option<Open>,
        next_number: &mut i64,
        piece: &[u8],
    ) -> io::Result<Place> {
        if open.as_ref().is_some_and(|segment| segment.end >= SEGMENT_BYTES) {
            if let Some(full) = open.as_mut() {
                full.sync()?;
            }
            *open = None;
        }
        let segment = match open {
            Some(segment) => segment,
            None => {
                // A number that failed may be in use by a file of nobody's: the next try takes
                // another.
                let number = *next_number;
                *next_number += 1;
                open.insert(self.create(number)?)
            }
        };
        segment.file.write_all_at(piece, segment.end)?;
        let place = Place { segment: segment.number, position: segment.end };
        segment.end += piece.len() as u64;
        segment.unsynced = true;
        Ok(place)
    }

    /// Reads a part of a piece.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub fn read(&self, place: Place, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        File::open(self.path(place.segment))?.read_exact_at(&mut bytes, place.position)?;
        Ok(bytes)
    }

    /// Removes a segment that no row refers to any more.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, number: i64) -> io::Result<()> {
        match std::fs::remove_file(self.path(number)) {
            // Somebody else who sweeps was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

impl Open {
    /// Makes everything appended durable.
    ///
    /// # Errors
    /// When the disk refuses. What was not synced must then be written again, elsewhere: after a
    /// failed fsync nobody knows what the kernel still holds (fsync(2)).
    pub fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_that_cannot_be_had_is_left_behind() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let segments = Segments::open(folder.path()).expect("segments");
        // As after a full disk: the file was made, its name could not be synced.
        std::fs::write(segments.path(1), b"").expect("a file in the way");
        let (mut open, mut next) = (None, 1);
        assert!(segments.append(&mut open, &mut next, b"piece").is_err());
        let place = segments.append(&mut open, &mut next, b"piece").expect("the next number");
        assert_eq!(place, Place { segment: 2, position: 0 });
        assert_eq!(segments.read(place, 5).expect("the piece"), b"piece");
    }
}
