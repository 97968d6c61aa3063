//! Secrets in output: what is replaced is replaced however the bytes come, nothing else is lost, and
//! what is held back is bounded.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use reeve_agent::keeper::redact::{Redactor, plain};
use reeve_fuzz::pieces;
use reeve_protocol::Stream;

fuzz_target!(|data: &[u8]| {
    let (cuts, data) = data.split_at(data.len().min(3));
    let now = Instant::now();
    let mut redactor = Redactor::new();
    let mut out = Vec::new();
    for piece in pieces(data, cuts) {
        redactor.push(Stream::Stdout, piece, now, &mut out);
        let _ = redactor.is_due(now);
    }
    redactor.finish(Stream::Stdout, &mut out);
    // The same redactor, so that its marks are the same.
    let mut whole = Vec::new();
    redactor.push(Stream::Stderr, data, now, &mut whole);
    redactor.finish(Stream::Stderr, &mut whole);
    assert!(out == whole, "cut:\n{}\nwhole:\n{}", out.escape_ascii(), whole.escape_ascii());
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    if !data.windows(5).any(|word| word == b"-----") {
        assert_eq!(lines(&whole), lines(data), "a line was lost");
    }
    let text = plain(data);
    assert!(text.len() <= data.len() * 24 + 64);
});
