//! Writing a stream: records, packed where that makes them smaller.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use reeve_protocol::ops::copy_stream::{COPY_HEADER_BYTES, CopyRecord, MAX_COPY_DATA};
use serde::Serialize;

/// Room for a record's header before its data, so that both go out in one call.
pub const HEADROOM: usize = COPY_HEADER_BYTES;
/// Data of one record when it is to be packed together with others, bytes.
const PACKED_DATA: usize = MAX_COPY_DATA - 2 * HEADROOM;
/// The quickest level: a link that is slower than it gains, and no other level keeps up with one
/// that is not.
const LEVEL: i32 = 1;
/// Batches that are sent as they are behind one that did not get smaller.
const REST_AFTER_FAILURE: u32 = 4;

/// Where a stream goes.
pub struct Outgoing<'w> {
    to: &'w mut BufWriter<File>,
    packer: Option<Packer>,
}

struct Packer {
    /// Whole records.
    waiting: Vec<u8>,
    packed: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    rest: u32,
}

impl<'w> Outgoing<'w> {
    /// A stream to `to`.
    ///
    /// # Errors
    /// When there is no memory for packing.
    pub fn new(to: &'w mut BufWriter<File>, compress: bool) -> io::Result<Self> {
        let packer = if compress {
            Some(Packer {
                waiting: Vec::new(),
                packed: Vec::new(),
                compressor: zstd::bulk::Compressor::new(LEVEL)?,
                rest: 0,
            })
        } else {
            None
        };
        Ok(Self { to, packer })
    }

    /// Bytes of data to hand over at once.
    pub fn data_bytes(&self) -> usize {
        if self.packer.is_some() { PACKED_DATA } else { MAX_COPY_DATA }
    }

    /// A document.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn document<T: Serialize>(&mut self, record: CopyRecord, document: &T) -> io::Result<()> {
        let bytes = serde_json::to_vec(document)?;
        if matches!(record, CopyRecord::Start | CopyRecord::End) {
            self.flush_packed()?;
            return record.write(self.to, &bytes);
        }
        self.record(record, &bytes)
    }

    /// A hole.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn hole(&mut self, length: u64) -> io::Result<()> {
        self.record(CopyRecord::Hole, &length.to_be_bytes())
    }

    /// Data, behind [`HEADROOM`] bytes that are overwritten.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn data(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len().saturating_sub(HEADROOM);
        let header = CopyRecord::Data.header(length);
        if let Some(room) = buffer.get_mut(..HEADROOM) {
            room.copy_from_slice(&header);
        }
        match &self.packer {
            None => self.to.write_all(buffer),
            Some(_) => self.pack(buffer),
        }
    }

    fn record(&mut self, record: CopyRecord, bytes: &[u8]) -> io::Result<()> {
        if self.packer.is_none() {
            return record.write(self.to, bytes);
        }
        let mut whole = Vec::with_capacity(HEADROOM + bytes.len());
        record.write(&mut whole, bytes)?;
        self.pack(&whole)
    }

    fn pack(&mut self, record: &[u8]) -> io::Result<()> {
        let full = |packer: &Packer| packer.waiting.len() + record.len() > MAX_COPY_DATA;
        if self.packer.as_ref().is_some_and(full) {
            self.flush_packed()?;
        }
        if let Some(packer) = &mut self.packer {
            packer.waiting.extend_from_slice(record);
        }
        Ok(())
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
            // A buffer that is too small is an error, and means that it would not be smaller.
            packer.packed.reserve(length);
            let done = packer.compressor.compress_to_buffer(&packer.waiting, &mut packer.packed);
            smaller = done.is_ok_and(|packed| packed < length / 8 * 7);
            if !smaller {
                packer.rest = REST_AFTER_FAILURE;
            }
        }
        if smaller {
            CopyRecord::Packed.write(self.to, &packer.packed)?;
        } else {
            self.to.write_all(&packer.waiting)?;
        }
        packer.waiting.clear();
        Ok(())
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flush_packed()?;
        self.to.flush()
    }
}
