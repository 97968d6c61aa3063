//! Reading logs: journal entries, lines of files, times and levels in them, cursors. However bytes
//! are cut they are the same entries, every record is one line of JSON that the other end reads, and offsets
//! only go forward.
#![no_main]

use std::convert::Infallible;
use std::fs::{self, File};

use libfuzzer_sys::fuzz_target;
use reeve_agent::operations::logs::calendar::Zone;
use reeve_agent::operations::logs::cursor::FileCursor;
use reeve_agent::operations::logs::export::{Entry, Parser};
use reeve_agent::operations::logs::family::is_rotated;
use reeve_agent::operations::logs::filter::Filter;
use reeve_agent::operations::logs::levels;
use reeve_agent::operations::logs::lines::{Body, Lines};
use reeve_agent::operations::logs::packing;
use reeve_agent::operations::logs::record::{MAX_TEXT, Record, quoted};
use reeve_agent::operations::logs::scan::{Scan, Tools};
use reeve_agent::operations::logs::times::Times;
use reeve_fuzz::{choose, pieces, same};
use reeve_protocol::ops::{LogRead, LogRecord, Work as _};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    match which % 5 {
        0 => journal(rest),
        1 => file(rest),
        2 => line(rest),
        3 => packed(rest),
        _ => cursor(rest),
    }
});

fn entries(pieces: &[&[u8]]) -> Vec<Entry> {
    let mut parser = Parser::default();
    let mut found = Vec::new();
    for piece in pieces {
        let each = &mut |entry: &Entry| {
            assert!(entry.message.len() <= MAX_TEXT);
            found.push(entry.clone());
            Ok::<(), Infallible>(())
        };
        parser.push(piece, each).expect("never");
    }
    found
}

fn journal(data: &[u8]) {
    let (cuts, data) = data.split_at(data.len().min(3));
    let whole = entries(&[data]);
    same(&whole, &entries(&pieces(data, cuts)), "cut, the journal says something else");
    for entry in &whole {
        told(&Record {
            time_us: entry.time_us,
            text: Some(&entry.message),
            length: Some(entry.length),
            priority: entry.priority,
            pid: Some(&entry.pid),
            identifier: Some(&entry.identifier),
            host: Some(&entry.host),
            ..Record::default()
        });
    }
}

fn told(record: &Record<'_>) {
    let mut bytes = Vec::new();
    record.write(&mut bytes).expect("written");
    assert_eq!(bytes.pop(), Some(b'\n'));
    assert!(!bytes.contains(&b'\n'), "a record of several lines");
    let read: LogRecord = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&bytes));
    });
    assert_eq!(read.time_us, record.time_us);
}

/// `[length of a pattern]`, the pattern, and lines.
fn file(data: &[u8]) {
    let Some((length, data)) = choose(data) else { return };
    let (pattern, data) = data.split_at(usize::from(length % 24).min(data.len()));
    let mut request = LogRead::default();
    request.files.push("/log".into());
    if let Ok(pattern) = std::str::from_utf8(pattern)
        && !pattern.is_empty()
    {
        request.grep = Some(pattern.to_owned());
    }
    if request.validate().is_err() {
        return;
    }
    let Ok(filter) = Filter::new(&request) else { return };
    let folder = reeve_fuzz::folder();
    let path = folder.path().join("log");
    fs::write(&path, data).expect("written");
    let mut tools = Tools::new(&filter, Times::new(Zone::utc(), 1_795_000_000_000_000));
    for capacity in [64, 64 * 1024] {
        let body = Body::Plain(File::open(&path).expect("opened"));
        let mut scan = Scan::new(Lines::new(body, 0, capacity));
        let mut at = 0;
        while scan.peek(&mut tools, true).expect("read").is_some() {
            let hit = scan.pop().expect("peeked");
            assert!(at <= hit.from && hit.from < hit.next && hit.next <= data.len() as u64);
            at = hit.next;
            let text = scan.text(&hit);
            told(&Record {
                time_us: hit.time_us,
                time_from: hit.time_from,
                text: Some(text),
                length: hit.length,
                priority: hit.level,
                ..Record::default()
            });
        }
        assert_eq!(scan.lines.position(), data.len() as u64);
    }
}

fn line(data: &[u8]) {
    assert!(levels::find(data).is_none_or(|level| level <= 7));
    for zone in [Zone::utc(), Zone::of_the_machine()] {
        let mut times = Times::new(zone, 1_795_000_000_000_000);
        let once = times.find(data);
        assert_eq!(once, times.find(data));
    }
    told(&Record { text: Some(data), ..Record::default() });
    if let Ok(text) = std::str::from_utf8(data) {
        let read: String = serde_json::from_str(&quoted(text)).expect("JSON");
        assert_eq!(read, text);
    }
    let (log, name) = data.split_at(data.len() / 2);
    let _ = is_rotated(log, name);
}

/// Files that say they are packed: an error or what unpacks, bounded by the blocks that are read.
fn packed(data: &[u8]) {
    let folder = reeve_fuzz::folder();
    let path = folder.path().join("log");
    fs::write(&path, data).expect("written");
    let file = File::open(&path).expect("opened");
    let Ok(Some(packing)) = packing::Packing::of(&file) else { return };
    let _ = packing::head(&file, Some(packing));
    let Ok(body) = packing.open(File::open(&path).expect("opened")) else { return };
    let mut lines = Lines::new(Body::Packed(body), 0, 4096);
    // A few bytes may unpack to gigabytes: that takes time and no memory.
    for _ in 0..256 {
        if !matches!(lines.next(true), Ok(Some(_))) {
            break;
        }
    }
}

fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(cursor) = FileCursor::decode(text) {
        let again = FileCursor::decode(&cursor.encode()).expect("what was written can be read");
        assert_eq!(cursor, again);
    }
}
