//! Append-only files that hold larger pieces of output of all operations, one after the other.
//!
//! A piece counts only once its row is committed. What lies behind the last committed piece of a
//! segment, after a crash or a failed write, belongs to nobody: a program never appends to a segment
//! that another run began.
//!
//! Whole blocks go straight to the disk where its file system takes them so: what is synced at once
//! gains nothing from the page cache.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use reeve_disk::{Stage, direct_flag, is_unfit};

/// A segment is sealed when it has reached this size. Space comes back by whole segments.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Written at once.
const STAGE_BYTES: usize = 4 * 1024 * 1024;

/// The folder of segments.
#[derive(Clone, Debug)]
pub struct Segments {
    folder: PathBuf,
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

/// Appends pieces, one segment after the other.
pub struct Appender {
    segments: Segments,
    /// The number of the next segment to make.
    next: i64,
    open: Option<Open>,
    /// What is to be written next, where a disk can take it from.
    stage: Stage,
    /// With this files are opened; nothing where the file system does not take blocks straight to the
    /// disk.
    direct: Option<i32>,
}

/// The segment that is being written.
struct Open {
    number: i64,
    file: File,
    /// Where the next block goes. Bytes beyond it may exist and mean nothing.
    end: u64,
}

impl Appender {
    /// Goes on behind the segments there are.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new(segments: Segments) -> io::Result<Self> {
        let next = segments.list()?.last().map_or(1, |last| last + 1);
        Ok(Self { segments, next, open: None, stage: Stage::default(), direct: direct_flag() })
    }

    /// Appends pieces and makes them durable. Where each is.
    ///
    /// # Errors
    /// When the disk does not take them. None counts then, and the next ones go into a new segment:
    /// after a failed fsync nobody knows what the kernel still holds (fsync(2)).
    pub fn append(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<Place>> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.stage.make(total.min(STAGE_BYTES));
        let appended = self.append_all(pieces);
        if appended.is_err() {
            self.open = None;
        }
        self.stage.clear();
        if total < STAGE_BYTES {
            // No more than that is expected soon.
            self.stage = Stage::default();
        }
        appended
    }

    fn append_all(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<Place>> {
        let mut places = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let at = self.end();
            if self.open.is_none() || at >= SEGMENT_BYTES {
                self.sync()?;
                self.open = None;
                // A number that failed may be in use by a file of nobody's: the next try takes
                // another.
                let number = self.next;
                self.next += 1;
                self.open = Some(self.create(number)?);
            }
            let open = self.open.as_ref().ok_or_else(|| io::Error::other("no segment"))?;
            places.push(Place { segment: open.number, position: self.end() });
            let mut rest = *piece;
            while !rest.is_empty() {
                rest = self.stage.take(rest);
                if self.stage.is_full() {
                    self.write()?;
                }
            }
        }
        self.sync()?;
        Ok(places)
    }

    /// Where the next piece goes in the open segment.
    fn end(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.end + self.stage.length() as u64)
    }

    /// Makes a segment with this number, which must be new.
    fn create(&mut self, number: i64) -> io::Result<Open> {
        let path = self.segments.path(number);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let created =
            options.clone().create_new(true).custom_flags(self.direct.unwrap_or(0)).open(&path);
        let file = match created {
            Err(error) if self.direct.is_some() && is_unfit(&error) => {
                // Some file systems make the file before they say so.
                self.direct = None;
                options.create(true).truncate(true).open(&path)?
            }
            created => created?,
        };
        // The name has to survive a crash as surely as the bytes.
        File::open(&self.segments.folder)?.sync_all()?;
        Ok(Open { number, file, end: 0 })
    }

    /// Writes what is staged, filled up to whole blocks.
    fn write(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let blocks = self.stage.filled_up();
        match open.file.write_all_at(blocks, open.end) {
            Err(error) if self.direct.is_some() && is_unfit(&error) => {
                self.direct = None;
                open.file = OpenOptions::new().write(true).open(self.segments.path(open.number))?;
                open.file.write_all_at(blocks, open.end)?;
            }
            written => written?,
        }
        open.end += blocks.len() as u64;
        self.stage.clear();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            return Ok(());
        }
        if self.stage.length() > 0 {
            self.write()?;
        }
        self.open.as_ref().map_or(Ok(()), |open| open.file.sync_data())
    }
}

#[cfg(test)]
mod tests {
    use reeve_disk::BLOCK;

    use super::*;

    #[test]
    fn number_that_cannot_be_had_is_left_behind() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let segments = Segments::open(folder.path()).expect("segments");
        let mut appender = Appender::new(segments.clone()).expect("an appender");
        // As after a full disk: the file was made, its name could not be synced.
        std::fs::write(segments.path(1), b"").expect("a file in the way");
        assert!(appender.append(&[b"piece"]).is_err());
        let places = appender.append(&[b"piece"]).expect("the next number");
        assert_eq!(places, [Place { segment: 2, position: 0 }]);
        assert_eq!(segments.read(places[0], 5).expect("the piece"), b"piece");
    }

    #[test]
    fn pieces_come_back_whatever_their_sizes() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let segments = Segments::open(folder.path()).expect("segments");
        let mut appender = Appender::new(segments.clone()).expect("an appender");
        let piece = |length: usize| -> Vec<u8> { (0..length).map(|n| (n % 251) as u8).collect() };
        appender.append(&[&[0; BLOCK]]).expect("written");
        // Where the disk takes blocks at all, it takes all of ours.
        let direct = appender.direct;
        let lengths = [1, BLOCK - 1, BLOCK, BLOCK + 1, STAGE_BYTES - 5000, STAGE_BYTES + 1, 7];
        for round in 0..3 {
            let pieces: Vec<Vec<u8>> = lengths.iter().map(|length| piece(length + round)).collect();
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let places = appender.append(&slices).expect("written");
            for (place, piece) in places.iter().zip(&pieces) {
                assert!(segments.read(*place, piece.len()).expect("read") == *piece);
            }
        }
        assert_eq!(appender.direct, direct);
    }

    #[test]
    fn full_segment_is_followed_by_another_and_its_end_is_whole() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let segments = Segments::open(folder.path()).expect("segments");
        let mut appender = Appender::new(segments.clone()).expect("an appender");
        let piece = vec![7; 9 * 1024 * 1024 + 1];
        let places = appender.append(&[piece.as_slice(); 9]).expect("written");
        let numbers: Vec<i64> = places.iter().map(|place| place.segment).collect();
        assert_eq!(numbers, [1, 1, 1, 1, 1, 1, 1, 1, 2]);
        assert!(
            places.iter().all(|place| segments.read(*place, piece.len()).expect("read") == piece)
        );
    }

    #[test]
    fn pieces_come_back_where_nothing_goes_straight_to_the_disk() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let segments = Segments::open(folder.path()).expect("segments");
        let mut appender = Appender::new(segments.clone()).expect("an appender");
        appender.direct = None;
        let place = appender.append(&[b"piece"]).expect("written")[0];
        assert_eq!(segments.read(place, 5).expect("the piece"), b"piece");
    }
}
