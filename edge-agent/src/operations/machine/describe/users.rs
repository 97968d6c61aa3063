//! Who is logged in (utmp(5)).

use std::fs;

use reeve_protocol::ops::LoggedIn;

use super::{MAX_LISTED, Root};

/// Bytes of a record: the same on 32 and 64 bits for every system with the GNU C library.
const RECORD: usize = 384;
/// Somebody is logged in.
const USER_PROCESS: i16 = 7;

/// Nothing where the machine keeps no such list.
pub fn list(root: &Root) -> Option<Vec<LoggedIn>> {
    let bytes =
        ["run/utmp", "var/run/utmp"].iter().find_map(|path| fs::read(root.path(path)).ok())?;
    let is_alive = |pid: i32| root.exists(&format!("proc/{pid}"));
    Some(parse(&bytes, is_alive))
}

fn parse(bytes: &[u8], is_alive: impl Fn(i32) -> bool) -> Vec<LoggedIn> {
    let text = |record: &[u8], from: usize, length: usize| {
        let field = record.get(from..from + length).unwrap_or_default();
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
    };
    let number = |record: &[u8], from: usize| {
        let bytes = record.get(from..from + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i32::from_ne_bytes)
    };
    let records = bytes.chunks_exact(RECORD).filter_map(|record| {
        let kind = record.first_chunk::<2>().map(|kind| i16::from_ne_bytes(*kind));
        // What was killed has not logged out.
        if kind != Some(USER_PROCESS) || !is_alive(number(record, 4)) {
            return None;
        }
        let since = i64::from(number(record, 340).cast_unsigned());
        Some(LoggedIn {
            user: text(record, 44, 32),
            terminal: text(record, 8, 32),
            from: text(record, 76, 256),
            since_us: since.saturating_mul(1_000_000),
        })
    });
    records.take(MAX_LISTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: i16, pid: i32, user: &str) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[4..8].copy_from_slice(&pid.to_ne_bytes());
        record[8..13].copy_from_slice(b"pts/0");
        record[44..44 + user.len()].copy_from_slice(user.as_bytes());
        record[76..85].copy_from_slice(b"192.0.2.7");
        record[340..344].copy_from_slice(&1_700_000_000_u32.to_ne_bytes());
        record
    }

    #[test]
    fn who_is_there_is_told_and_who_was_is_not() {
        let bytes = [
            record(USER_PROCESS, 10, "ada"),
            record(8, 11, "gone"),
            record(USER_PROCESS, 12, "killed"),
            vec![7; 50],
        ]
        .concat();
        let found = parse(&bytes, |pid| pid == 10);
        let ada = LoggedIn {
            user: "ada".to_owned(),
            terminal: "pts/0".to_owned(),
            from: "192.0.2.7".to_owned(),
            since_us: 1_700_000_000_000_000,
        };
        assert_eq!(found, [ada]);
    }

    #[test]
    fn no_list_is_not_an_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(list(&Root(folder.path().to_owned())), None);
    }
}
