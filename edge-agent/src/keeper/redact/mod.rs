//! Secrets in output are replaced before anything of it is stored or sent. What counts as one is
//! in `tokens.rs` (by how it looks), `names.rs` and `values.rs` (by what stands before it) and
//! `find.rs`; `stream.rs` does it to bytes that come piece by piece.
//!
//! No regular expressions: the engine would be larger than the rest of the keeper.

mod find;
mod names;
mod tokens;
mod values;

/// Replaces secrets in a text that is there as a whole, by placeholders that say only of what kind
/// they are.
#[must_use]
pub fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut done = 0;
        for span in find::find_secrets(line) {
            result.extend_from_slice(&line[done..span.start]);
            result.extend_from_slice(format!("[redacted:{}]", span.kind).as_bytes());
            done = span.end;
        }
        result.extend_from_slice(&line[done..]);
    }
    result
}
