//! Reading and writing streams on this side.

use std::io::{self, Read, Write};

use reeve_protocol::ops::copy_stream::{
    BadStream, CopiedFile, CopyEnd, CopyOrder, CopyRecord, CopyStart, MAX_COPY_DATA, copy_hole,
    read_copy_record,
};
use reeve_protocol::ops::{Failure, FileEntry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TransferError;

/// What is done with what comes.
pub trait Sink {
    fn start(&mut self, start: &CopyStart) -> Result<(), TransferError>;
    fn entry(&mut self, entry: FileEntry) -> Result<(), TransferError>;
    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError>;
    fn hole(&mut self, length: u64) -> Result<(), TransferError>;
    fn file_end(&mut self, end: &CopiedFile) -> Result<(), TransferError>;
    fn skipped(&mut self, failure: &Failure) -> Result<(), TransferError>;
}

/// Takes in a whole stream. Nothing of it is believed: it comes from a machine.
pub fn receive(from: &mut impl Read, sink: &mut dyn Sink) -> Result<CopyEnd, TransferError> {
    let mut taker = Taker::default();
    let mut buffer = Vec::new();
    loop {
        let record = read_copy_record(from, &mut buffer)?.ok_or(BadStream::Cut)?;
        if let Some(end) = taker.take(record, &buffer, sink)? {
            return Ok(end);
        }
    }
}

/// Takes records one by one, and only in an order that makes sense.
#[derive(Default)]
pub struct Taker {
    order: CopyOrder,
    unpacked: Vec<u8>,
}

impl Taker {
    /// One record. The end, when it was that.
    pub fn take(
        &mut self,
        record: CopyRecord,
        bytes: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<Option<CopyEnd>, TransferError> {
        match record {
            CopyRecord::Start => {
                let start: CopyStart = document(record, bytes)?;
                self.order.start(&start)?;
                sink.start(&start)?;
            }
            CopyRecord::End => {
                let end: CopyEnd = document(record, bytes)?;
                self.order.end(&end)?;
                return Ok(Some(end));
            }
            CopyRecord::Packed => {
                // Says no before it takes more memory than a batch may have.
                let unpacked = zstd::bulk::decompress(bytes, MAX_COPY_DATA)
                    .map_err(|error| BadStream::Document(record, error.to_string()))?;
                let mut rest = unpacked.as_slice();
                let mut inner = std::mem::take(&mut self.unpacked);
                while let Some(record) = read_copy_record(&mut rest, &mut inner)? {
                    self.take_inner(record, &inner, sink)?;
                }
                self.unpacked = inner;
            }
            _ => self.take_inner(record, bytes, sink)?,
        }
        Ok(None)
    }

    /// One that may be packed.
    fn take_inner(
        &mut self,
        record: CopyRecord,
        bytes: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), TransferError> {
        match record {
            CopyRecord::Entry => {
                let entry: FileEntry = document(record, bytes)?;
                self.order.entry(&entry)?;
                sink.entry(entry)
            }
            CopyRecord::Data => {
                self.order.bytes(record, bytes.len() as u64)?;
                sink.data(bytes)
            }
            CopyRecord::Hole => {
                let length = copy_hole(bytes)?;
                self.order.bytes(record, length)?;
                sink.hole(length)
            }
            CopyRecord::FileEnd => {
                let end: CopiedFile = document(record, bytes)?;
                self.order.file_end(&end)?;
                sink.file_end(&end)
            }
            CopyRecord::Skipped => sink.skipped(&document(record, bytes)?),
            CopyRecord::Start | CopyRecord::Packed | CopyRecord::End => {
                Err(BadStream::Order(record).into())
            }
        }
    }
}

fn document<T: DeserializeOwned>(record: CopyRecord, bytes: &[u8]) -> Result<T, BadStream> {
    serde_json::from_slice(bytes).map_err(|error| BadStream::Document(record, error.to_string()))
}

/// Writes records, packed where that makes them smaller.
pub struct StreamWriter<W: Write> {
    to: W,
    packer: Option<Packer>,
}

struct Packer {
    waiting: Vec<u8>,
    packed: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    /// Batches that are sent as they are behind one that did not get smaller.
    rest: u32,
}

impl<W: Write> StreamWriter<W> {
    pub fn new(to: W, compress: bool) -> io::Result<Self> {
        let packer = if compress {
            let compressor = zstd::bulk::Compressor::new(1)?;
            Some(Packer { waiting: Vec::new(), packed: Vec::new(), compressor, rest: 0 })
        } else {
            None
        };
        Ok(Self { to, packer })
    }

    /// Bytes of data to hand over at once.
    pub fn data_bytes(&self) -> usize {
        if self.packer.is_some() { MAX_COPY_DATA / 2 } else { MAX_COPY_DATA }
    }

    pub fn document<T: Serialize>(&mut self, record: CopyRecord, document: &T) -> io::Result<()> {
        let bytes = serde_json::to_vec(document)?;
        if matches!(record, CopyRecord::Start | CopyRecord::End) {
            self.flush_packed()?;
            return record.write(&mut self.to, &bytes);
        }
        self.record(record, &bytes)
    }

    pub fn record(&mut self, record: CopyRecord, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() + 5;
        let Some(packer) = &mut self.packer else { return record.write(&mut self.to, bytes) };
        if packer.waiting.len() + length > MAX_COPY_DATA {
            self.flush_packed()?;
        }
        match &mut self.packer {
            Some(packer) => record.write(&mut packer.waiting, bytes),
            None => Ok(()),
        }
    }

    fn flush_packed(&mut self) -> io::Result<()> {
        let Some(packer) = self.packer.as_mut().filter(|packer| !packer.waiting.is_empty()) else {
            return Ok(());
        };
        let length = packer.waiting.len();
        let mut smaller = false;
        if packer.rest > 0 {
            packer.rest -= 1;
        } else {
            packer.packed.clear();
            packer.packed.reserve(length);
            let done = packer.compressor.compress_to_buffer(&packer.waiting, &mut packer.packed);
            smaller = done.is_ok_and(|packed| packed < length / 8 * 7);
            packer.rest = if smaller { 0 } else { 4 };
        }
        if smaller {
            CopyRecord::Packed.write(&mut self.to, &packer.packed)?;
        } else {
            self.to.write_all(&packer.waiting)?;
        }
        packer.waiting.clear();
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.flush_packed()?;
        self.to.flush()
    }
}
