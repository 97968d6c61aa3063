//! The stream of a task's events, as the client takes it apart: cut into any pieces it is the same,
//! kept events come once and in order, and no line makes it keep more than an event may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::{choose, pieces};
use reeve_sdk::fuzzing::task_events;

/// Bytes as a stream: as they are, or events of which each has the fields of one.
fn stream(data: &[u8]) -> Vec<u8> {
    let Some((first, mut rest)) = choose(data) else { return Vec::new() };
    if first & 1 == 0 {
        return rest.to_vec();
    }
    let mut out = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<3>() {
        let [kind, sequence, length] = *head;
        let (text, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let name = ["task", "plan", "step", "output", "end", "note"][usize::from(kind % 6)];
        let text = String::from_utf8_lossy(text).into_owned();
        let event = serde_json::json!({
            "sequence": sequence, "type": name, "kind": name, "at": "2026-11-21T12:00:00Z",
            "task": "01a1fe94-6b60-73b5-80e7-d9fc2f29b100", "text": text, "data": { "text": text },
        });
        let event_name = if kind & 64 == 0 { "event" } else { name };
        out.extend(format!("event: {event_name}\nid: {sequence}\ndata: {event}\n\n").bytes());
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let (cuts, rest) = data.split_at(data.len().min(3));
    let bytes = stream(rest);
    let whole = task_events(&[&bytes]);
    assert_eq!(whole, task_events(&pieces(&bytes, cuts)), "cut, the stream says something else");
    let kept: Vec<u64> = whole.iter().filter(|number| **number > 0).copied().collect();
    assert!(kept.is_sorted_by(|one, next| one < next), "an event came twice or too late: {kept:?}");
});
