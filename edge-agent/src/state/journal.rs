//! The agent's memory of what it started, so that nothing starts twice.
//!
//! `STATE/journal` is a header of 24 bytes (name and version, then the journal's id) and records of
//! 32 bytes: operation id (16), time in microseconds since 1970 (8), event (1), 1 if it is taken back
//! (1), zeros (2), checksum (4); numbers little endian. Written with plain writes: they survive the agent's death, and after
//! the machine's own death everything that ran is over anyway.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeve_protocol::{JournalId, OperationId, limits};
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"RVJOURN\x01";
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 32;

/// Compacting is considered from this size on; below it is not worth a second file.
const COMPACT_FROM_BYTES: u64 = 4 * 1024 * 1024;

/// What happened to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is about to start. Written before its keeper is made.
    Started,
    /// It is over.
    Finished,
    /// The coordinator has everything.
    Acknowledged,
    /// It was about to start and never did: it may start yet, if whoever asked asks again. Releases
    /// that do not know this read [`Event::Finished`], and start nothing.
    TakenBack,
}

/// One line of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which operation.
    pub id: OperationId,
    /// When, machine's clock, microseconds since 1970.
    pub time_us: i64,
    /// What.
    pub event: Event,
}

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    id: JournalId,
    /// The random half of every id in the file: enough to say "certainly not", and small. A hit is
    /// looked up in the file.
    known: HashSet<u64>,
    /// Bytes of whole records and header.
    size: u64,
}

impl Journal {
    /// Opens the journal, or begins one. A record that was cut short is cut off.
    ///
    /// # Errors
    /// What the file system says, or that the file is no journal.
    pub fn open(path: &Path, now_us: i64) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let length = file.metadata()?.len();
        // Shorter than a header: it was cut short while it was made, and holds nothing.
        if length < HEADER_BYTES as u64 {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&encode_header(JournalId(Uuid::new_v4())))?;
            file.rewind()?;
        }
        let mut reader = BufReader::new(&file);
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header)?;
        let id = decode_header(&header).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "this is no journal, or one of a newer version; move it away to begin a new one",
            )
        })?;
        let mut known = HashSet::new();
        let mut size = HEADER_BYTES as u64;
        let mut oldest = None;
        while let Some(record) = read_record(&mut reader)? {
            known.insert(fingerprint(record.id));
            oldest = oldest.or(Some(record.time_us));
            size += RECORD_BYTES as u64;
        }
        drop(reader);
        file.set_len(size)?;
        file.seek(SeekFrom::Start(size))?;
        let mut journal = Self { path: path.to_owned(), file, id, known, size };
        let horizon = horizon_us(now_us);
        if size >= COMPACT_FROM_BYTES && oldest.is_some_and(|oldest| oldest < horizon) {
            journal.compact(horizon)?;
        }
        Ok(journal)
    }

    /// This life of the journal.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// Writes down what happened.
    ///
    /// # Errors
    /// What the file system says; nothing is written then.
    pub fn record(&mut self, record: Record) -> io::Result<()> {
        let bytes = encode_record(&record);
        self.file.seek(SeekFrom::Start(self.size))?;
        if let Err(error) = self.file.write_all(&bytes) {
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += RECORD_BYTES as u64;
        self.known.insert(fingerprint(record.id));
        Ok(())
    }

    /// The last thing that happened to an operation, if anything did.
    ///
    /// # Errors
    /// What the file system says.
    pub fn find(&self, id: OperationId) -> io::Result<Option<Record>> {
        if !self.known.contains(&fingerprint(id)) {
            return Ok(None);
        }
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header)?;
        let mut found = None;
        while let Some(record) = read_record(&mut reader)? {
            if record.id == id {
                found = Some(record);
            }
        }
        Ok(found)
    }

    /// Writes a new file without what is too old to matter.
    fn compact(&mut self, horizon: i64) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let new = options.open(&temporary)?;
        let mut writer = BufWriter::new(&new);
        writer.write_all(&encode_header(self.id))?;
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut header = [0; HEADER_BYTES];
        reader.read_exact(&mut header)?;
        let mut known = HashSet::new();
        let mut size = HEADER_BYTES as u64;
        while let Some(record) = read_record(&mut reader)? {
            if record.time_us >= horizon {
                writer.write_all(&encode_record(&record))?;
                known.insert(fingerprint(record.id));
                size += RECORD_BYTES as u64;
            }
        }
        writer.flush()?;
        drop(writer);
        new.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        (self.file, self.known, self.size) = (new, known, size);
        Ok(())
    }
}

fn horizon_us(now_us: i64) -> i64 {
    let keep: Duration = limits::JOURNAL_KEEP + limits::MAX_WAIT;
    now_us.saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
}

fn fingerprint(id: OperationId) -> u64 {
    id.0.as_u64_pair().1
}

fn encode_header(id: JournalId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(id.0.as_bytes());
    header
}

fn decode_header(header: &[u8; HEADER_BYTES]) -> Option<JournalId> {
    let (magic, id) = header.split_first_chunk::<8>()?;
    (*magic == MAGIC).then(|| Uuid::from_slice(id).ok().map(JournalId)).flatten()
}

fn encode_record(record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..16].copy_from_slice(record.id.0.as_bytes());
    bytes[16..24].copy_from_slice(&record.time_us.to_le_bytes());
    (bytes[24], bytes[25]) = match record.event {
        Event::Started => (1, 0),
        Event::Finished => (2, 0),
        Event::Acknowledged => (3, 0),
        Event::TakenBack => (2, 1),
    };
    let sum = checksum(&bytes[..28]);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode_record(bytes: &[u8; RECORD_BYTES]) -> Option<Record> {
    let (id, rest) = bytes.split_first_chunk::<16>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let ([event, taken_back, ..], rest) = rest.split_first_chunk::<4>()?;
    let sum = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let event = match (event, taken_back) {
        (1, _) => Event::Started,
        (2, 1) => Event::TakenBack,
        (2, _) => Event::Finished,
        (3, _) => Event::Acknowledged,
        _ => return None,
    };
    (sum == checksum(&bytes[..28])).then(|| Record {
        id: OperationId(Uuid::from_bytes(*id)),
        time_us: i64::from_le_bytes(*time),
        event,
    })
}

/// The next record; `None` at the end or where the file was cut short or damaged.
fn read_record(reader: &mut impl Read) -> io::Result<Option<Record>> {
    let mut bytes = [0; RECORD_BYTES];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(decode_record(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// FNV-1a, 32 bits: tells a torn record from a whole one.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u128, event: Event) -> Record {
        Record { id: OperationId(Uuid::from_u128(number)), time_us: 1_000, event }
    }

    #[test]
    fn journal_remembers_across_openings_and_keeps_its_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, 0).expect("opens");
        let id = journal.id();
        journal.record(record(1, Event::Started)).expect("written");
        journal.record(record(2, Event::Started)).expect("written");
        journal.record(record(1, Event::Finished)).expect("written");
        let journal = Journal::open(&path, 0).expect("opens");
        assert_eq!(journal.id(), id);
        let event = |number| {
            let id = OperationId(Uuid::from_u128(number));
            journal.find(id).expect("read").map(|record| record.event)
        };
        assert_eq!(event(1), Some(Event::Finished));
        assert_eq!(event(2), Some(Event::Started));
        assert_eq!(event(3), None);
    }

    #[test]
    fn file_cut_anywhere_keeps_every_whole_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, 0).expect("opens");
        for number in 1..=3 {
            journal.record(record(number, Event::Started)).expect("written");
        }
        let whole = fs::read(&path).expect("bytes");
        for length in HEADER_BYTES..=whole.len() {
            fs::write(&path, &whole[..length]).expect("written");
            let mut journal = Journal::open(&path, 0).expect("opens");
            let kept = (length - HEADER_BYTES) / RECORD_BYTES;
            assert_eq!(journal.known.len(), kept, "cut at {length}");
            // What comes next is not glued to the torn rest.
            journal.record(record(9, Event::Started)).expect("written");
            assert_eq!(Journal::open(&path, 0).expect("opens").known.len(), kept + 1);
        }
    }

    #[test]
    fn compacting_forgets_only_what_is_too_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, 0).expect("opens");
        let id = journal.id();
        journal.record(record(1, Event::Started)).expect("written");
        let young = Record { time_us: 5_000, ..record(2, Event::Started) };
        journal.record(young).expect("written");
        journal.compact(2_000).expect("compacts");
        journal.record(Record { time_us: 6_000, ..record(3, Event::Started) }).expect("written");
        let journal = Journal::open(&path, 0).expect("opens");
        assert_eq!(journal.id(), id);
        assert_eq!(journal.known.len(), 2);
        assert_eq!(journal.find(young.id).expect("read"), Some(young));
    }

    #[test]
    fn bytes_of_version_one_stay_as_they_are() {
        let bytes = encode_record(&record(0x0102, Event::Acknowledged));
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "00000000000000000000000000000102e803000000000000030000002c8ae918");
        assert_eq!(encode_header(JournalId(Uuid::nil()))[..8], *b"RVJOURN\x01");
        // What was taken back is over for a release that does not look at the second byte.
        let bytes = encode_record(&record(0x0102, Event::TakenBack));
        assert_eq!(bytes[24..28], [2, 1, 0, 0]);
        assert_eq!(decode_record(&bytes), Some(record(0x0102, Event::TakenBack)));
    }
}
