//! One record: bytes of one stream, with a checksum, as they lie in pieces.
//!
//! ```text
//! stream u8 (0 stdout, 1 stderr) | length u32 LE | CRC-32 of the bytes u32 LE | bytes
//! ```

use reeve_protocol::Stream;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 9;

/// A record read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whose bytes.
    pub stream: Stream,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A piece that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored output is damaged")]
pub struct Damaged;

/// Appends a record.
pub fn push(piece: &mut Vec<u8>, stream: Stream, bytes: &[u8]) {
    piece.reserve(HEADER_BYTES + bytes.len());
    piece.push(match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    });
    // Data frames are at most 64 KiB, so the length always fits.
    piece.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    piece.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    piece.extend_from_slice(bytes);
}

/// Takes the first record off a piece.
///
/// # Errors
/// When the bytes are not what was written.
pub fn take<'a>(piece: &mut &'a [u8]) -> Result<Option<Record<'a>>, Damaged> {
    let checked = take_unchecked(piece)?;
    match checked {
        Some((record, checksum)) if crc32fast::hash(record.bytes) != checksum => Err(Damaged),
        checked => Ok(checked.map(|(record, _)| record)),
    }
}

/// Takes the first record off a piece that has never left memory, and its checksum.
///
/// # Errors
/// When the bytes are not what was written.
pub fn take_unchecked<'a>(piece: &mut &'a [u8]) -> Result<Option<(Record<'a>, u32)>, Damaged> {
    if piece.is_empty() {
        return Ok(None);
    }
    let (header, rest) = piece.split_at_checked(HEADER_BYTES).ok_or(Damaged)?;
    let stream = match header[0] {
        0 => Stream::Stdout,
        1 => Stream::Stderr,
        _ => return Err(Damaged),
    };
    let number = |at: usize| -> Result<u32, Damaged> {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or(Damaged)
    };
    let length = usize::try_from(number(1)?).map_err(|_| Damaged)?;
    let (bytes, rest) = rest.split_at_checked(length).ok_or(Damaged)?;
    *piece = rest;
    Ok(Some((Record { stream, bytes }, number(5)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order() {
        let mut piece = Vec::new();
        push(&mut piece, Stream::Stdout, b"one");
        push(&mut piece, Stream::Stderr, b"");
        push(&mut piece, Stream::Stdout, &[0, 255, 10]);
        let mut rest = piece.as_slice();
        let mut found = Vec::new();
        while let Some(record) = take(&mut rest).expect("whole") {
            found.push((record.stream, record.bytes.to_vec()));
        }
        assert_eq!(
            found,
            [
                (Stream::Stdout, b"one".to_vec()),
                (Stream::Stderr, vec![]),
                (Stream::Stdout, vec![0, 255, 10])
            ]
        );
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let mut piece = Vec::new();
        push(&mut piece, Stream::Stdout, b"some bytes");
        for at in 0..piece.len() {
            let mut wrong = piece.clone();
            wrong[at] ^= 1;
            let read = take(&mut wrong.as_slice());
            // The stream's byte is the only one without a checksum over it; it must still differ.
            assert!(read != take(&mut piece.as_slice()), "byte {at}");
        }
        for length in 1..piece.len() {
            assert_eq!(take(&mut &piece[..length]), Err(Damaged), "{length} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while let Ok(Some(_)) = take(&mut rest) {}
        }
    }
}
