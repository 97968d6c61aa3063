//! Takes a follow stream apart. Output is handed on in the pieces it arrives in, without copying;
//! everything else is small and collected first.

use bytes::{Buf, Bytes, BytesMut};
use reeve_protocol::{Gap, OperationId, Stream};
use serde::de::DeserializeOwned;

use crate::Error;
use crate::api::follow::{FrameKind, HEADER_BYTES, Header};
use crate::api::{Job, Operation};

/// A frame, or a part of one with output.
#[derive(Debug)]
pub(crate) enum Piece {
    Job(Box<Job>),
    Operation(Box<Operation>),
    Output { operation: OperationId, stream: Stream, all: u64, offset: u64, bytes: Bytes },
    Gap { operation: OperationId, gap: Gap },
    KeepAlive,
    End,
}

pub(crate) struct Decoder {
    /// Arrived and not yet looked at.
    chunk: Bytes,
    /// The header being collected.
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// The frame whose payload is arriving, and how much of it has.
    current: Option<(Header, u32)>,
    /// The payload of a frame that is no output; at most one frame's limit.
    payload: BytesMut,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            chunk: Bytes::new(),
            header: [0; HEADER_BYTES],
            header_filled: 0,
            current: None,
            payload: BytesMut::new(),
        }
    }
}

impl Decoder {
    /// Hands over what has arrived. Only when [`Self::next`] has said `None`.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// The next piece; `None` when more has to arrive first.
    pub(crate) fn next(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            let (header, done) = match self.current {
                Some(current) => current,
                None => {
                    let wanted = (HEADER_BYTES - self.header_filled).min(self.chunk.len());
                    let end = self.header_filled + wanted;
                    self.chunk.copy_to_slice(&mut self.header[self.header_filled..end]);
                    self.header_filled = end;
                    if end < HEADER_BYTES {
                        return Ok(None);
                    }
                    self.header_filled = 0;
                    let header = Header::parse(&self.header)
                        .map_err(|error| Error::protocol(format!("the stream has an {error}")))?;
                    let length = u64::from(header.length);
                    let fits = |from: u64| from.checked_add(length).is_some();
                    if !fits(header.all) || !fits(header.offset) {
                        return Err(Error::protocol(
                            "a frame in the stream lies beyond all offsets",
                        ));
                    }
                    self.current = Some((header, 0));
                    (header, 0)
                }
            };
            let left = header.length - done;
            let wanted = (left as usize).min(self.chunk.len());
            if wanted == 0 && left > 0 {
                return Ok(None);
            }
            let bytes = self.chunk.split_to(wanted);
            let now = done + u32::try_from(wanted).unwrap_or(left);
            self.current = (now < header.length).then_some((header, now));
            if let FrameKind::Output(stream) = header.kind {
                if bytes.is_empty() {
                    continue;
                }
                return Ok(Some(Piece::Output {
                    operation: header.operation,
                    stream,
                    all: header.all + u64::from(done),
                    offset: header.offset + u64::from(done),
                    bytes,
                }));
            }
            self.payload.extend_from_slice(&bytes);
            if self.current.is_some() {
                return Ok(None);
            }
            let payload = self.payload.split();
            return Ok(Some(match header.kind {
                FrameKind::Job => Piece::Job(parse(&payload, "job")?),
                FrameKind::Operation => Piece::Operation(parse(&payload, "operation")?),
                FrameKind::Gap => {
                    Piece::Gap { operation: header.operation, gap: *parse(&payload, "gap")? }
                }
                FrameKind::End => Piece::End,
                FrameKind::KeepAlive | FrameKind::Output(_) => Piece::KeepAlive,
            }));
        }
    }
}

fn parse<T: DeserializeOwned>(payload: &[u8], what: &str) -> Result<Box<T>, Error> {
    serde_json::from_slice(payload).map(Box::new).map_err(|error| {
        Error::protocol(format!("a {what} in the stream is not understood ({error})"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn frame(kind: FrameKind, all: u64, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            kind,
            operation: OperationId(Uuid::from_u128(5)),
            all,
            offset: all,
            length: u32::try_from(payload.len()).expect("short"),
        };
        [&header.to_bytes()[..], payload].concat()
    }

    /// However the bytes are cut, the same output comes out at the same offsets.
    #[test]
    fn output_is_the_same_whatever_the_chunks() {
        let gap =
            serde_json::to_vec(&Gap { from: 9, to: 20, stdout: 11, stderr: 0 }).expect("json");
        let mut wire = frame(FrameKind::Output(Stream::Stdout), 0, b"hello");
        wire.extend(frame(FrameKind::KeepAlive, 0, b""));
        wire.extend(frame(FrameKind::Output(Stream::Stderr), 5, b"oops"));
        wire.extend(frame(FrameKind::Gap, 9, &gap));
        wire.extend(frame(FrameKind::End, 0, b""));
        for size in 1..=wire.len() {
            let mut decoder = Decoder::default();
            let (mut bytes, mut gaps, mut ended) = (Vec::new(), 0, false);
            for chunk in wire.chunks(size) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(piece) = decoder.next().expect("valid") {
                    match piece {
                        Piece::Output { all, bytes: more, .. } => {
                            assert_eq!(all, bytes.len() as u64, "chunks of {size}");
                            bytes.extend_from_slice(&more);
                        }
                        Piece::Gap { gap, .. } => gaps += gap.to - gap.from,
                        Piece::End => ended = true,
                        _ => {}
                    }
                }
            }
            assert_eq!((bytes.as_slice(), gaps, ended), (&b"hellooops"[..], 11, true));
        }
    }

    #[test]
    fn output_beyond_all_offsets_is_an_error_however_it_is_cut() {
        let wire = frame(FrameKind::Output(Stream::Stdout), u64::MAX - 3, b"hello");
        for size in 1..=wire.len() {
            let mut decoder = Decoder::default();
            let fails = wire.chunks(size).any(|chunk| {
                decoder.push(Bytes::copy_from_slice(chunk));
                loop {
                    match decoder.next() {
                        Ok(None) => break false,
                        Ok(Some(_)) => {}
                        Err(_) => break true,
                    }
                }
            });
            assert!(fails, "chunks of {size}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        let mut decoder = Decoder::default();
        decoder.push(Bytes::from_static(&[0xFF; 64]));
        assert!(matches!(decoder.next(), Err(Error::Protocol { .. })));
        let mut decoder = Decoder::default();
        decoder.push(frame(FrameKind::Job, 0, b"{not json").into());
        assert!(matches!(decoder.next(), Err(Error::Protocol { .. })));
    }
}
