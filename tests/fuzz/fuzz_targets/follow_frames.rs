//! The stream in which a job is followed, and records of logs in it, as the client takes them
//! apart: cut into any pieces they are the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::{choose, pieces};
use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::follow::{FrameKind, Header, MAX_PAYLOAD_BYTES};
use reeve_sdk::fuzzing::{follow, log_records};
use uuid::Uuid;

/// Bytes as a stream: as they are, or made of headers that are right.
fn stream(data: &[u8]) -> Vec<u8> {
    let Some((first, mut rest)) = choose(data) else { return Vec::new() };
    if first & 1 == 0 {
        return rest.to_vec();
    }
    let mut out = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [kind, operation, all, length] = *head;
        let (payload, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let kind = match kind % 8 {
            0 => FrameKind::Job,
            1 => FrameKind::Operation,
            2 | 3 => FrameKind::Output(Stream::Stdout),
            4 => FrameKind::Output(Stream::Stderr),
            5 => FrameKind::Gap,
            6 => FrameKind::KeepAlive,
            _ => FrameKind::End,
        };
        let all = if all == 255 { u64::MAX - 3 } else { u64::from(all) };
        let header = Header {
            kind,
            operation: OperationId(Uuid::from_u128(u128::from(operation))),
            all,
            offset: all,
            length: u32::try_from(payload.len()).expect("short"),
        };
        assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        out.extend(header.to_bytes());
        out.extend(payload);
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    let (cuts, rest) = rest.split_at(rest.len().min(3));
    if which & 1 == 0 {
        let (whole, cut) = (log_records(&[rest]), log_records(&pieces(rest, cuts)));
        assert_eq!(whole.2, cut.2);
        // What comes with a fault in one piece goes with it.
        if !whole.2 {
            assert_eq!(whole, cut);
        }
        return;
    }
    let bytes = stream(rest);
    assert!(bytes.len() < MAX_PAYLOAD_BYTES);
    let whole = follow(&[&bytes]);
    assert_eq!(whole, follow(&pieces(&bytes, cuts)), "cut, the stream says something else");
});
