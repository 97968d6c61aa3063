//! Private parsers, for `tests/fuzz` alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use reeve_protocol::{OperationId, Stream};

use crate::frames::{Decoder, Piece};

/// What a follow stream came to, however it was cut.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Bytes of each operation's streams, with the offset they began at.
    pub output: BTreeMap<(OperationId, bool), Vec<(u64, u8)>>,
    /// Everything else, in order.
    pub events: Vec<String>,
    /// It ended with a fault.
    pub fault: bool,
}

/// Takes a follow stream apart.
#[must_use]
pub fn follow(pieces: &[&[u8]]) -> Followed {
    let mut found = Followed::default();
    let mut decoder = Decoder::default();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next() {
                Ok(None) => break,
                Err(_) => {
                    found.fault = true;
                    return found;
                }
                Ok(Some(Piece::Output { operation, stream, all, bytes, .. })) => {
                    let output =
                        found.output.entry((operation, stream == Stream::Stdout)).or_default();
                    output.extend((all..=u64::MAX).zip(bytes.iter().copied()));
                }
                Ok(Some(Piece::Job(job))) => {
                    found.events.push(serde_json::to_string(&job).unwrap_or_default());
                }
                Ok(Some(Piece::Operation(operation))) => {
                    found.events.push(serde_json::to_string(&operation).unwrap_or_default());
                }
                Ok(Some(Piece::Gap { gap, .. })) => found.events.push(format!("{gap:?}")),
                Ok(Some(Piece::KeepAlive)) => found.events.push("alive".to_owned()),
                Ok(Some(Piece::End)) => found.events.push("end".to_owned()),
            }
        }
    }
    found
}

pub use crate::logs::fuzzing::records as log_records;
pub use crate::task_events::numbers as task_events;
