//! Files that were packed after they were rotated, told by their first bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use super::cursor::HEAD_BYTES;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz format.
    Xz,
    /// bzip2, which is not unpacked here.
    Bzip2,
}

impl Packing {
    /// By the first bytes of a file; `None` when it is as it was written.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn of(file: &File) -> io::Result<Option<Self>> {
        let mut head = [0; 6];
        let count = file.read_at(&mut head, 0)?;
        let head = head.get(..count).unwrap_or_default();
        let magic: [(&[u8], Self); 4] = [
            (b"\x1f\x8b\x08", Self::Gzip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\xfd7zXZ\x00", Self::Xz),
            (b"BZh", Self::Bzip2),
        ];
        Ok(magic.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, packing)| packing))
    }

    /// What the file unpacks to, from its start on, wherever others of its descriptors are.
    ///
    /// # Errors
    /// When it cannot be unpacked.
    pub fn open(self, file: File) -> io::Result<Box<dyn Read>> {
        let file = BufReader::with_capacity(128 * 1024, FromStart { file, at: 0 });
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Self::Zstd => {
                Box::new(ruzstd::decoding::StreamingDecoder::new(file).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                })?)
            }
            Self::Xz => Box::new(lzma_rust2::XzReader::new(file, true)),
            Self::Bzip2 => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "bzip2 is not unpacked; unpack it on the machine first",
                ));
            }
        })
    }
}

/// A file with a position of its own: descriptors that were duplicated share theirs.
struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The first bytes of what a file holds, unpacked.
///
/// # Errors
/// What reading says.
pub fn head(file: &File, packing: Option<Packing>) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    match packing {
        None => {
            head.resize(HEAD_BYTES, 0);
            let count = file.read_at(&mut head, 0)?;
            head.truncate(count);
        }
        Some(packing) => {
            packing.open(file.try_clone()?)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        }
    }
    Ok(head)
}
