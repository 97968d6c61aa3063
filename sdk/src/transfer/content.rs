//! The content of one file, for programs that look at it rather than keep it.

use std::io;
use std::path::Path;

use reeve_protocol::ops::copy_stream::{
    BadStream, COPY_HEADER_BYTES, CopiedFile, CopyEnd, CopyRecord, CopyStart,
};
use reeve_protocol::ops::{Failure, FileEntry};

use super::local_source::{self, Plan};
use super::stream::{Sink, Taker};
use super::{TransferError, Unwatched};

/// Zeros of a hole that are handed on at once.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What is done with content.
pub type Take<'t> = &'t mut dyn FnMut(&[u8]) -> io::Result<()>;

/// What `file_read` writes of one file, taken as it comes and in whatever pieces.
#[derive(Default)]
pub struct Content {
    /// The beginning of a record that has not come whole.
    buffer: Vec<u8>,
    taker: Taker,
    file: Coming,
    end: Option<CopyEnd>,
}

#[derive(Default)]
struct Coming {
    entry: Option<FileEntry>,
    length: u64,
    hasher: blake3::Hasher,
}

impl Content {
    /// Hands on what of the content has come with these bytes.
    ///
    /// # Errors
    /// When they make no sense, or are not what was sent; and what `take` says.
    pub fn push(&mut self, bytes: &[u8], take: Take<'_>) -> Result<(), TransferError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let mut rest = buffer.as_slice();
        while let Some((header, behind)) = rest.split_first_chunk::<COPY_HEADER_BYTES>() {
            let (record, length) = CopyRecord::parse(*header)?;
            let Some((body, behind)) = behind.split_at_checked(length) else { break };
            let mut sink = Passing { file: &mut self.file, take: &mut *take };
            self.end = self.taker.take(record, body, &mut sink)?.or(self.end);
            rest = behind;
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    /// Bytes of the file that have come.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.file.length
    }

    /// What was told of the file, when all of it has come.
    #[must_use]
    pub fn finish(self) -> Option<FileEntry> {
        self.end.and(self.file.entry)
    }
}

struct Passing<'p> {
    file: &'p mut Coming,
    take: Take<'p>,
}

impl Sink for Passing<'_> {
    fn start(&mut self, start: &CopyStart) -> Result<(), TransferError> {
        if start.tree {
            return Err(BadStream::Order(CopyRecord::Start).into());
        }
        Ok(())
    }

    fn entry(&mut self, entry: FileEntry) -> Result<(), TransferError> {
        self.file.entry = Some(entry);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.file.hasher.update(bytes);
        self.file.length += bytes.len() as u64;
        (self.take)(bytes).map_err(|error| TransferError::local(Path::new("-"), error))
    }

    fn hole(&mut self, mut length: u64) -> Result<(), TransferError> {
        while length > 0 {
            let count = length.min(ZEROS.len() as u64);
            let zeros = usize::try_from(count).ok().and_then(|count| ZEROS.get(..count));
            self.data(zeros.unwrap_or_default())?;
            length -= count;
        }
        Ok(())
    }

    fn file_end(&mut self, end: &CopiedFile) -> Result<(), TransferError> {
        if end.hash != self.file.hasher.finalize().to_hex().as_str() {
            return Err(TransferError::Refused(
                "what came is not what was sent; try again".to_owned(),
            ));
        }
        Ok(())
    }

    fn skipped(&mut self, failure: &Failure) -> Result<(), TransferError> {
        Err(TransferError::Refused(failure.message.clone()))
    }
}

/// What `file_write` takes, of this content.
///
/// # Errors
/// When it cannot be written, which memory can.
pub fn stream_of(content: &[u8]) -> Result<Vec<u8>, TransferError> {
    let plan = Plan {
        from: 0,
        after: None,
        compress: false,
        listing: false,
        live: false,
        progress: &Unwatched,
    };
    let mut stream = Vec::with_capacity(content.len() + 1024);
    local_source::send_reader(content, 0o644, &mut stream, &plan)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_out_as_it_went_in_however_it_is_cut() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let stream = stream_of(&bytes).expect("a stream");
        for piece in [stream.len() / 5000, 65_536, stream.len()] {
            let mut content = Content::default();
            let mut got = Vec::new();
            for part in stream.chunks(piece) {
                let mut take = |it: &[u8]| {
                    got.extend_from_slice(it);
                    Ok(())
                };
                content.push(part, &mut take).expect("taken");
            }
            assert!(got == bytes && content.finish().is_some(), "{piece}");
        }
        let mut damaged = stream.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        assert!(Content::default().push(&damaged, &mut |_| Ok(())).is_err());
        let mut cut = Content::default();
        cut.push(&stream[..stream.len() - 1], &mut |_| Ok(())).expect("taken");
        assert!(cut.finish().is_none());
    }
}
