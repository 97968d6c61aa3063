//! What is private, for `tests/fuzz` alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use reeve_protocol::Stream;

use super::lane::Lane;

/// Records of a log as a machine's answer has them, and where to go on: however it was cut.
#[must_use]
pub fn records(pieces: &[&[u8]]) -> (Vec<String>, BTreeMap<String, String>, bool) {
    let mut lane = Lane::new("m".to_owned(), 0, 0);
    let mut texts = Vec::new();
    for piece in pieces {
        match lane.take(Stream::Stdout, &Bytes::copy_from_slice(piece)) {
            Ok(records) => {
                for mut record in records {
                    lane.pass(&mut record);
                    texts.push(serde_json::to_string(&record).unwrap_or_default());
                }
            }
            Err(_) => return (texts, lane.after, true),
        }
        let _ = lane.take(Stream::Stderr, &Bytes::copy_from_slice(piece));
        let _ = lane.take_warnings();
    }
    (texts, lane.after, false)
}
