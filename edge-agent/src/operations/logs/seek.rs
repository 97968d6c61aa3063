//! Where in a file to begin: at a time, or so many wanted lines before its end. Without reading what
//! comes before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::lines::{Body, LEAST, Lines, MOST};
use super::scan::{Scan, Tools};
use super::times::Times;

/// Lines of a file are in order of time but for this much: threads do not wait for each other.
const DISORDER_US: i64 = 60_000_000;
/// A part of a file that is read through rather than divided.
const SMALL: u64 = 256 * 1024;
/// Read at once to find the end of a line or a time.
const PIECE: usize = 16 * 1024;

/// The beginning of the first line that starts at `from` or behind it, or `end`.
fn next_line(file: &File, from: u64, end: u64) -> io::Result<u64> {
    if from == 0 {
        return Ok(0);
    }
    let mut at = from - 1;
    let mut buffer = [0; PIECE];
    while at < end {
        let count = file.read_at(&mut buffer, at)?;
        let piece = buffer.get(..count).unwrap_or_default();
        if let Some(newline) = memchr::memchr(b'\n', piece) {
            return Ok((at + newline as u64 + 1).min(end));
        }
        if count == 0 {
            break;
        }
        at += count as u64;
    }
    Ok(end)
}

/// The beginning of the line that `at` is in, not before `least`.
fn line_start(file: &File, at: u64, least: u64) -> io::Result<u64> {
    let mut end = at;
    let mut buffer = vec![0; PIECE];
    while end > least {
        let from = end.saturating_sub(PIECE as u64).max(least);
        let wanted = usize::try_from(end - from).unwrap_or(PIECE);
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(room, from)?;
        if let Some(newline) = memchr::memrchr(b'\n', room) {
            return Ok(from + newline as u64 + 1);
        }
        end = from;
    }
    Ok(least)
}

/// From which offset on lines can be of this time or later. 0 when the file does not say.
///
/// # Errors
/// What read(2) says.
pub fn lower_bound(file: &File, size: u64, time_us: i64, times: &mut Times) -> io::Result<u64> {
    let wanted = time_us.saturating_sub(DISORDER_US);
    let (mut low, mut high) = (0, size);
    while high - low > SMALL {
        let middle = low + (high - low) / 2;
        let line = next_line(file, middle, high)?;
        match first_time(file, line, high, times)? {
            // A part without any time may belong to a line before or behind: not a place to divide.
            None => return Ok(low),
            Some(time) if time < wanted => low = line,
            Some(_) => high = middle,
        }
    }
    Ok(low)
}

/// The first time that lines from `from` on say.
fn first_time(file: &File, from: u64, end: u64, times: &mut Times) -> io::Result<Option<i64>> {
    let mut lines = Lines::new(Body::Plain(file.try_clone()?), from, LEAST * 2);
    lines.stop_at(end);
    if lines.next(true)?.is_none() {
        return Ok(None);
    }
    Ok(lines.block().split(|byte| *byte == b'\n').find_map(|line| times.find(line)))
}

/// Where the last `count` wanted lines before `size` begin, and how many were found.
///
/// # Errors
/// What read(2) says.
pub fn last_lines(
    file: &File,
    from: u64,
    size: u64,
    count: u64,
    tools: &mut Tools<'_>,
) -> io::Result<(u64, u64)> {
    let mut end = size;
    let mut found = 0;
    // A little at first: most ask for a few lines.
    let mut step = LEAST as u64;
    let mut start = size;
    while end > from && found < count {
        let begin = line_start(file, end.saturating_sub(step).max(from), from)?;
        let mut lines = Lines::new(Body::Plain(file.try_clone()?), begin, MOST);
        lines.stop_at(end);
        let mut scan = Scan::new(lines);
        let mut starts = Vec::new();
        while scan.peek(tools, true)?.is_some() {
            starts.extend(scan.pop().map(|hit| hit.from));
        }
        let missing = usize::try_from(count - found).unwrap_or(usize::MAX);
        let skipped = starts.len().saturating_sub(missing);
        if let Some(first) = starts.get(skipped) {
            start = *first;
        }
        found += (starts.len() - skipped) as u64;
        end = begin;
        step = (step * 2).min(4 * MOST as u64);
    }
    Ok((start, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::logs::calendar::{Civil, Zone};
    use crate::operations::logs::filter::Filter;
    use reeve_protocol::ops::LogRead;
    use std::io::Write;

    fn file(lines: usize, width: usize) -> (File, u64) {
        let mut file = tempfile::tempfile().expect("a file");
        let mut text = Vec::new();
        for n in 0..lines {
            let civil = Civil::of(1_795_250_049_000_000 + n as i64 * 1_000_000);
            let (h, m, s) = (civil.hour, civil.minute, civil.second);
            let fill = "x".repeat(width);
            writeln!(text, "2026-11-{:02} {h:02}:{m:02}:{s:02} n={n} {fill}", civil.day)
                .expect("a line");
        }
        file.write_all(&text).expect("write");
        (file, text.len() as u64)
    }

    fn line_at(file: &File, at: u64) -> String {
        let mut buffer = [0; 200];
        let count = file.read_at(&mut buffer, at).expect("read");
        String::from_utf8_lossy(&buffer[..count]).lines().next().unwrap_or("").to_owned()
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        for width in [0, 100] {
            let (file, size) = file(20_000, width);
            for (pattern, count, first, found) in [
                (None, 1, "n=19999 ", 1),
                (None, 1000, "n=19000 ", 1000),
                (None, 30_000, "n=0 ", 20_000),
                (Some("n=1000[0-9] "), 3, "n=10007 ", 3),
                (Some("n=7 "), 3, "n=7 ", 1),
            ] {
                let grep = pattern.map(str::to_owned);
                let filter = Filter::new(&LogRead { grep, ..LogRead::default() }).expect("filter");
                let mut tools = Tools::new(&filter, Times::new(Zone::utc(), i64::MAX / 2));
                let (start, got) = last_lines(&file, 0, size, count, &mut tools).expect("reads");
                assert!(line_at(&file, start).contains(first), "{}", line_at(&file, start));
                assert_eq!(got, found);
            }
            let filter = Filter::new(&LogRead { grep: Some("none".into()), ..LogRead::default() });
            let filter = filter.expect("a filter");
            let mut tools = Tools::new(&filter, Times::new(Zone::utc(), i64::MAX / 2));
            assert_eq!(last_lines(&file, 0, size, 5, &mut tools).expect("reads"), (size, 0));
        }
    }

    #[test]
    fn a_time_is_found_without_reading_everything() {
        let (file, size) = file(100_000, 20);
        let mut times = Times::new(Zone::utc(), i64::MAX / 2);
        let time = 1_795_250_049_000_000 + 70_000 * 1_000_000;
        let at = lower_bound(&file, size, time, &mut times).expect("reads");
        let line = line_at(&file, at);
        let n: i64 =
            line.split("n=").nth(1).and_then(|n| n.split(' ').next()?.parse().ok()).expect("n");
        assert!((60_000..=69_940).contains(&n), "{n}");
        assert_eq!(lower_bound(&file, size, 0, &mut times).expect("reads"), 0);
    }
}
