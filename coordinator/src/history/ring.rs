//! One machine's history on the disk: a file of fixed size with a ring for each resolution. Where a
//! record is follows from its time, so nothing is ever searched, moved or swept, and what is older than
//! a ring is long is written over. Each record says which time it is of: one that says another is
//! from a former turn of the ring, and counts as not there.
//!
//! Written in place and not synced: after a power cut some minutes may be missing or older than they
//! ought to be, which is told by their times.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::number::{ABSENT, decode, encode};
use super::series::COLUMNS;

/// Begins every file: the kind of file and its version.
const MAGIC: [u8; 8] = *b"RVHIST.\x01";
/// Before the first ring.
const HEADER_BYTES: u64 = 64;

/// Seconds of one sample.
pub const SAMPLE_SECONDS: i64 = 5;

/// How finely something is known, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Seconds of one record.
    pub seconds: i64,
    /// Records it holds.
    pub records: i64,
    /// Bytes of one record.
    bytes: usize,
    /// Where it begins.
    offset: u64,
}

/// A sample: its number, and one code per column.
const SAMPLE_BYTES: usize = 4 + 2 * COLUMNS;
/// A roll-up: its number, how many it is of, and least, mean and most of each column.
const ROLLED_BYTES: usize = 4 + 4 + 6 * COLUMNS;

/// Each sample, for an hour.
pub const SAMPLES: Ring =
    Ring { seconds: SAMPLE_SECONDS, records: 720, bytes: SAMPLE_BYTES, offset: HEADER_BYTES };
/// Each minute, for a day.
pub const MINUTES: Ring = Ring {
    seconds: 60,
    records: 1440,
    bytes: ROLLED_BYTES,
    offset: SAMPLES.offset + (SAMPLES.records as u64) * (SAMPLE_BYTES as u64),
};
/// Each quarter of an hour, for thirty days.
pub const QUARTERS: Ring = Ring {
    seconds: 900,
    records: 2880,
    bytes: ROLLED_BYTES,
    offset: MINUTES.offset + (MINUTES.records as u64) * (ROLLED_BYTES as u64),
};
/// Bytes of a whole file.
pub const FILE_BYTES: u64 = QUARTERS.offset + (QUARTERS.records as u64) * (ROLLED_BYTES as u64);

/// One column over some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The least.
    pub min: f64,
    /// The mean.
    pub avg: f64,
    /// The most.
    pub max: f64,
}

/// All columns over some time; `None` is not known.
pub type Spans = [Option<Span>; COLUMNS];

/// All columns at one time.
pub type Values = [Option<f64>; COLUMNS];

/// A machine's file.
pub struct History {
    file: File,
}

impl History {
    /// Opens the file, which is made if need be. One of another version begins anew.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut magic = [0; MAGIC.len()];
        let known = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
        if !known {
            file.set_len(0)?;
            // Holes until they are written: a machine that was here for an hour takes up an hour.
            file.set_len(FILE_BYTES)?;
            file.write_all_at(&MAGIC, 0)?;
        }
        Ok(Self { file })
    }

    /// Opens the file to read it; `None` when there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut magic = [0; MAGIC.len()];
        let known = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
        Ok(known.then_some(Self { file }))
    }

    /// Writes samples, each with the number of its five seconds since 1970, and rolls up the minutes and
    /// quarters they are in.
    ///
    /// # Errors
    /// What the file system says.
    pub fn record(&self, samples: &[(i64, Values)]) -> io::Result<()> {
        for (number, values) in samples {
            let mut record = Vec::with_capacity(SAMPLE_BYTES);
            record.extend_from_slice(&stamp(*number));
            for value in values {
                record.extend_from_slice(&value.map_or(ABSENT, encode).to_le_bytes());
            }
            self.write(SAMPLES, *number, &record)?;
        }
        let mut minutes: Vec<i64> =
            samples.iter().map(|(number, _)| number.div_euclid(ratio(MINUTES, SAMPLES))).collect();
        minutes.sort_unstable();
        minutes.dedup();
        for minute in minutes {
            let is_new =
                self.read(MINUTES, minute, minute + 1)?.iter().all(|(found, _)| found.is_none());
            self.roll_up(SAMPLES, MINUTES, minute)?;
            let quarter = minute.div_euclid(ratio(QUARTERS, MINUTES));
            if is_new {
                // The minute before is complete now; the quarter it is in need not be this one's.
                self.roll_up(MINUTES, QUARTERS, (minute - 1).div_euclid(ratio(QUARTERS, MINUTES)))?;
            }
            self.roll_up(MINUTES, QUARTERS, quarter)?;
        }
        Ok(())
    }

    fn roll_up(&self, from: Ring, to: Ring, number: i64) -> io::Result<()> {
        let each = ratio(to, from);
        let parts = self.read(from, number * each, (number + 1) * each)?;
        let mut count: u32 = 0;
        let mut rolled: [Option<(Span, u32)>; COLUMNS] = [None; COLUMNS];
        for (spans, weight) in parts.iter().filter_map(|(spans, n)| Some((spans.as_ref()?, *n))) {
            count = count.saturating_add(weight);
            for (sum, span) in rolled.iter_mut().zip(spans) {
                let Some(span) = span else { continue };
                *sum = Some(match *sum {
                    None => (*span, weight),
                    Some((sum, before)) => {
                        let all = before.saturating_add(weight);
                        let part = f64::from(weight) / f64::from(all.max(1));
                        let avg = sum.avg + (span.avg - sum.avg) * part;
                        let span =
                            Span { min: sum.min.min(span.min), avg, max: sum.max.max(span.max) };
                        (span, all)
                    }
                });
            }
        }
        if count == 0 {
            return Ok(());
        }
        let mut record = Vec::with_capacity(ROLLED_BYTES);
        record.extend_from_slice(&stamp(number));
        record.extend_from_slice(&count.to_le_bytes());
        for column in rolled {
            let codes = column.map_or([ABSENT; 3], |(span, _)| {
                [encode(span.min), encode(span.avg), encode(span.max)]
            });
            for code in codes {
                record.extend_from_slice(&code.to_le_bytes());
            }
        }
        self.write(to, number, &record)
    }

    fn write(&self, ring: Ring, number: i64, record: &[u8]) -> io::Result<()> {
        self.file.write_all_at(record, ring.place(number))
    }

    /// Records `from` to `to` (exclusive) of a ring, each with how many samples it is of; `None` where
    /// there is none of that time.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, ring: Ring, from: i64, to: i64) -> io::Result<Vec<(Option<Spans>, u32)>> {
        let to = to.min(from.saturating_add(ring.records));
        let mut found = Vec::with_capacity(usize::try_from(to - from).unwrap_or_default());
        let mut next = from;
        while next < to {
            // Up to where the ring begins again.
            let run = (ring.records - next.rem_euclid(ring.records)).min(to - next);
            let length = usize::try_from(run).unwrap_or_default() * ring.bytes;
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, ring.place(next))?;
            for (number, record) in (next..).zip(bytes.chunks_exact(ring.bytes)) {
                found.push(parse(ring, number, record));
            }
            next += run;
        }
        Ok(found)
    }
}

impl Ring {
    fn place(self, number: i64) -> u64 {
        let index = u64::try_from(number.rem_euclid(self.records)).unwrap_or_default();
        self.offset + index * self.bytes as u64
    }
}

/// How many records of the finer are one of the coarser.
const fn ratio(coarse: Ring, fine: Ring) -> i64 {
    coarse.seconds / fine.seconds
}

/// A record's number as it is written; 0 is what was never written.
fn stamp(number: i64) -> [u8; 4] {
    u32::try_from(number).unwrap_or(0).to_le_bytes()
}

fn parse(ring: Ring, number: i64, record: &[u8]) -> (Option<Spans>, u32) {
    let absent = (None, 0);
    let Some((written, rest)) = record.split_first_chunk::<4>() else { return absent };
    if number <= 0 || *written != stamp(number) {
        return absent;
    }
    let mut spans: Spans = [None; COLUMNS];
    if ring == SAMPLES {
        for (span, code) in spans.iter_mut().zip(codes(rest)) {
            *span = decode(code).map(|value| Span { min: value, avg: value, max: value });
        }
        return (Some(spans), 1);
    }
    let Some((count, rest)) = rest.split_first_chunk::<4>() else { return absent };
    let mut codes = codes(rest);
    for span in &mut spans {
        let mut next = || codes.next().and_then(decode);
        let (min, avg, max) = (next(), next(), next());
        *span = min.zip(avg).zip(max).map(|((min, avg), max)| Span { min, avg, max });
    }
    (Some(spans), u32::from_le_bytes(*count))
}

fn codes(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = bytes.as_chunks::<2>().0.iter();
    pairs.map(|pair| u16::from_le_bytes(*pair))
}
