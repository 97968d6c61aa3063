//! The spool of an operation as a crash may have left it: segments with any bytes in them. What is
//! read is in order, without a byte that is not there, and the same however large the pieces are
//! asked for; what is torn is an end or an error.
#![no_main]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reeve_agent::host::unix::open_folder;
use reeve_agent::keeper::spool::{
    self, MAGIC, Piece, SpoolReader, list_segments, read_tail, release,
};
use reeve_protocol::Stream;

/// `[how many segments][each: header? offset (3), length (2)]` and the bytes of them.
fn lay_out(folder: &Path, mut data: &[u8]) -> Option<u64> {
    let (count, rest) = data.split_first()?;
    data = rest;
    let mut total = 0;
    for _ in 0..(count % 4) {
        let (head, rest) = data.split_first_chunk::<6>()?;
        let [kind, a, b, c, l0, l1] = *head;
        // Small offsets are what segments follow each other by; large ones are what overflows.
        let from = match kind & 3 {
            3 => u64::MAX - u64::from(a),
            _ => u64::from_le_bytes([a, b & 1, 0, 0, 0, 0, 0, 0]),
        };
        let length = usize::from(u16::from_le_bytes([l0, l1])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        data = rest;
        let mut bytes = Vec::new();
        if kind & 4 == 0 {
            bytes.extend(MAGIC);
            bytes.extend(from.to_le_bytes());
            bytes.extend(u64::from(c).to_le_bytes());
            bytes.extend(from.wrapping_sub(u64::from(c)).to_le_bytes());
        }
        bytes.extend(body);
        total += bytes.len() as u64;
        let name = if kind & 8 == 0 { "spool" } else { "taken" };
        fs::write(folder.join(format!("{name}.{from:020}")), bytes).expect("written");
    }
    Some(total)
}

fn open(path: &Path) -> OwnedFd {
    open_folder(path).expect("the folder")
}

/// Everything from an offset on: bytes with their stream, and gaps.
fn read(path: &Path, from: u64, room: usize, most: u64) -> (Vec<(Option<Stream>, u64)>, Vec<u8>) {
    let (mut runs, mut content) = (Vec::<(Option<Stream>, u64)>::new(), Vec::new());
    let Ok(mut reader) = SpoolReader::open(open(path), from) else { return (runs, content) };
    let mut at = reader.position();
    assert_eq!(at, from);
    loop {
        match reader.next(u64::MAX, room) {
            Ok(Some(Piece::Bytes { stream, at: begin, bytes })) => {
                assert_eq!(begin.all, at);
                assert!(!bytes.is_empty() && bytes.len() <= room);
                at += bytes.len() as u64;
                match runs.last_mut() {
                    Some((Some(last), length)) if *last == stream => *length += bytes.len() as u64,
                    _ => runs.push((Some(stream), bytes.len() as u64)),
                }
                content.extend(bytes);
            }
            Ok(Some(Piece::Gap { at: begin, gap })) => {
                assert_eq!(begin.all, at);
                assert_eq!(gap.from, at);
                assert!(gap.to > gap.from);
                at = gap.to;
                runs.push((None, gap.to - gap.from));
            }
            Ok(None) | Err(_) => break,
        }
        assert_eq!(reader.position(), at);
        assert!(content.len() as u64 <= most, "more was read than is there");
    }
    (runs, content)
}

fuzz_target!(|data: &[u8]| {
    let folder = reeve_fuzz::folder();
    let path = folder.path();
    let Some(total) = lay_out(path, data) else { return };
    let segments = list_segments(open(path)).expect("listed");
    let tail = read_tail(open(path), 64).expect("the tail is read");
    assert!(tail.last.is_none_or(|(_, bytes)| bytes.len() <= 64));
    let first = segments.first().copied().unwrap_or(0);
    let whole = read(path, first, 64 * 1024, total);
    assert_eq!(whole, read(path, first, 3, total), "the size of pieces makes a difference");
    if let Ok(mut reader) = SpoolReader::open(open(path), first) {
        let _ = reader.find_end();
    }
    for from in segments.iter().copied().chain([1, u64::MAX]) {
        let _ = release(open(path), from);
        assert!(
            list_segments(open(path)).expect("listed").iter().all(|name| segments.contains(name))
        );
    }
    assert!(!spool::is_segment("spool."));
});
