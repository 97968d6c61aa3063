//! The agent's journal as a crash may have left it: any bytes. What was whole is remembered, what
//! is written behind a torn record is found again, and the journal keeps its id.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use reeve_agent::state::journal::{Event, Journal, Record};
use reeve_protocol::OperationId;
use uuid::Uuid;

const HEADER: usize = 24;
const RECORD: usize = 32;

fuzz_target!(|data: &[u8]| {
    let folder = reeve_fuzz::folder();
    let path = folder.path().join("journal");
    // With a header that is right, unless the first byte says otherwise.
    let mut bytes = Vec::new();
    if data.first().is_some_and(|first| first & 7 != 0) {
        bytes.extend(b"RVJOURN\x01");
        bytes.extend(Uuid::from_u128(9).as_bytes());
    }
    bytes.extend(data.get(1..).unwrap_or_default());
    fs::write(&path, &bytes).expect("written");
    let Ok(mut journal) = Journal::open(&path, 1) else {
        // What is no journal is left as it is, for people to look at.
        assert_eq!(fs::read(&path).expect("read"), bytes);
        return;
    };
    let id = journal.id();
    let kept = fs::read(&path).expect("read");
    assert_eq!((kept.len() - HEADER) % RECORD, 0, "a torn record stayed");
    if bytes.len() >= HEADER {
        assert!(bytes.starts_with(&kept), "something else than the end was cut off");
    }
    let known: Vec<OperationId> = kept[HEADER..]
        .chunks(RECORD)
        .map(|record| OperationId(Uuid::from_slice(&record[..16]).expect("16 bytes")))
        .collect();
    for id in &known {
        assert!(journal.find(*id).expect("read").is_some(), "a whole record was forgotten");
    }
    let own = Record { id: OperationId(Uuid::from_u128(77)), time_us: 5, event: Event::Started };
    journal.record(own).expect("recorded");
    drop(journal);
    let journal = Journal::open(&path, 1).expect("opens again");
    assert_eq!(journal.id(), id);
    assert_eq!(journal.find(own.id).expect("read"), Some(own));
    for id in &known {
        assert!(journal.find(*id).expect("read").is_some());
    }
});
