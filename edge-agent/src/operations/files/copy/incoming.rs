//! Reading a stream: what may come next comes next, and everything adds up, or it ends.

use std::io::Read;

use reeve_protocol::ops::copy_stream::{
    BadStream, CopiedFile, CopyEnd, CopyOrder, CopyRecord, CopyStart, MAX_COPY_DATA, copy_hole,
    read_copy_record,
};
use reeve_protocol::ops::{Failure, FileEntry};
use serde::de::DeserializeOwned;

/// What is done with what comes.
pub trait Sink {
    /// The stream begins.
    fn start(&mut self, start: &CopyStart) -> Result<(), Failure>;
    /// An entry begins; of a file, data follows.
    fn entry(&mut self, entry: FileEntry) -> Result<(), Failure>;
    /// Bytes of the file.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    /// Zeros of the file.
    fn hole(&mut self, length: u64) -> Result<(), Failure>;
    /// The file has come whole.
    fn file_end(&mut self, end: &CopiedFile) -> Result<(), Failure>;
    /// The sender left something out.
    fn skipped(&mut self, failure: &Failure) -> Result<(), Failure>;
}

/// Why a stream was not taken to its end.
#[derive(Debug)]
pub enum Stopped {
    /// Because of the stream.
    Stream(BadStream),
    /// Because of what was to be done with it.
    Failed(Failure),
}

impl From<BadStream> for Stopped {
    fn from(error: BadStream) -> Self {
        Self::Stream(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Takes in a whole stream.
pub fn receive(from: &mut impl Read, sink: &mut impl Sink) -> Result<CopyEnd, Stopped> {
    let mut order = CopyOrder::new();
    let mut buffer = Vec::new();
    loop {
        let record = read_copy_record(from, &mut buffer)?.ok_or(BadStream::Cut)?;
        match record {
            CopyRecord::Start => {
                let start: CopyStart = document(record, &buffer)?;
                order.start(&start)?;
                sink.start(&start)?;
            }
            CopyRecord::End => {
                let end: CopyEnd = document(record, &buffer)?;
                order.end(&end)?;
                return Ok(end);
            }
            CopyRecord::Packed => {
                // Says no before it takes more memory than a batch may have.
                let unpacked = zstd::bulk::decompress(&buffer, MAX_COPY_DATA)
                    .map_err(|error| BadStream::Document(record, error.to_string()))?;
                let mut rest = unpacked.as_slice();
                let mut inner = Vec::new();
                while let Some(record) = read_copy_record(&mut rest, &mut inner)? {
                    take(&mut order, sink, record, &inner)?;
                }
            }
            _ => take(&mut order, sink, record, &buffer)?,
        }
    }
}

fn take(
    order: &mut CopyOrder,
    sink: &mut impl Sink,
    record: CopyRecord,
    bytes: &[u8],
) -> Result<(), Stopped> {
    match record {
        CopyRecord::Entry => {
            let entry: FileEntry = document(record, bytes)?;
            order.entry(&entry)?;
            sink.entry(entry)?;
        }
        CopyRecord::Data => {
            order.bytes(record, bytes.len() as u64)?;
            sink.data(bytes)?;
        }
        CopyRecord::Hole => {
            let length = copy_hole(bytes)?;
            order.bytes(record, length)?;
            sink.hole(length)?;
        }
        CopyRecord::FileEnd => {
            let end: CopiedFile = document(record, bytes)?;
            order.file_end(&end)?;
            sink.file_end(&end)?;
        }
        CopyRecord::Skipped => sink.skipped(&document(record, bytes)?)?,
        CopyRecord::Start | CopyRecord::Packed | CopyRecord::End => {
            return Err(BadStream::Order(record).into());
        }
    }
    Ok(())
}

fn document<T: DeserializeOwned>(record: CopyRecord, bytes: &[u8]) -> Result<T, BadStream> {
    serde_json::from_slice(bytes).map_err(|error| BadStream::Document(record, error.to_string()))
}
