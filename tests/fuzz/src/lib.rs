//! What fuzz targets have in common. A target holds a property of a parser for any bytes, beyond
//! that it does not panic; what it holds is said at its top.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// That a value which was read comes back from its own bytes: written, read and written again it
/// is the same.
pub fn holds<T: Serialize + DeserializeOwned>(value: &T) {
    let once = reeve_protocol::encode(value).expect("what was read can be written");
    let again: T = reeve_protocol::decode(&once).expect("what was written can be read");
    let twice = reeve_protocol::encode(&again).expect("it can be written again");
    assert_eq!(once, twice, "written twice, it is not the same");
}

/// The same for JSON.
pub fn holds_as_json<T: Serialize + DeserializeOwned>(value: &T) {
    let once = serde_json::to_string(value).expect("what was read can be written");
    let again: T = serde_json::from_str(&once).expect("what was written can be read");
    let twice = serde_json::to_string(&again).expect("it can be written again");
    assert_eq!(once, twice, "written twice, it is not the same");
}

/// Reads bytes as a value; when they are one, holds what [`holds`] does.
pub fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = reeve_protocol::decode(bytes).ok()?;
    holds(&value);
    Some(value)
}

/// The same for JSON.
pub fn read_json<T: Serialize + DeserializeOwned>(text: &str) -> Option<T> {
    let value = serde_json::from_str(text).ok()?;
    holds_as_json(&value);
    Some(value)
}

/// A folder of one run, in memory where there is such a place: the disk is not what is tried.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// The first byte as a choice, and the rest.
pub fn choose(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

/// Cuts bytes into pieces, whose lengths come from `cuts` in turn, as a connection would.
pub fn pieces<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut cuts = cuts.iter().copied().cycle();
    while !bytes.is_empty() {
        let length = cuts.next().map_or(bytes.len(), |cut| usize::from(cut) + 1);
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// That two ways of doing something came to the same.
pub fn same<T: PartialEq + Debug>(one: &T, other: &T, what: &str) {
    assert!(one == other, "{what}:\n{one:?}\n{other:?}");
}
