//! Messages of the kernel where there is no journal: from its own buffer, which holds those of this
//! boot, and of them the newest.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use reeve_protocol::ops::{Failure, LogRead, RemotePath};

use super::filter::Filter;
use super::record::Record;
use crate::host;
use crate::host::kmsg::{self, KernelMessages};
use crate::host::paths::{self, LastLink};
use crate::operations::worker::{Worker, lost_answer};

/// Where the buffer is.
const PATH: &str = "/dev/kmsg";
/// The kernel gives no longer message.
const MESSAGE_BYTES: usize = 16 * 1024;
/// How long nothing may come before it is looked all the same.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What cursors into it begin with.
pub const CURSOR: &str = "k:";
/// What they are places in.
pub const PLACE: &str = "kernel";

/// A message.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    priority: u8,
    /// Counts up from the start of the kernel.
    number: u64,
    /// Since the start of the kernel.
    micros: i64,
    text: &'a [u8],
}

/// `6,339,5140900,-;NET: Registered`, with further lines for programs.
fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    let (head, text) = bytes.split_at(memchr::memchr(b';', bytes)?);
    let mut fields = std::str::from_utf8(head).ok()?.split(',');
    // The facility is in the bits above.
    let priority = u8::try_from(fields.next()?.parse::<u64>().ok()? & 7).ok()?;
    let (number, micros) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let text = text.get(1..)?;
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    Some(Message { priority, number, micros, text: text.get(..end)? })
}

/// Reads or follows.
///
/// # Errors
/// Why it cannot be read.
pub fn read(request: &LogRead, worker: &mut Worker, filter: &Filter) -> Result<(), Failure> {
    let path = RemotePath::from(PATH);
    let place = worker.rules.find(&path, LastLink::Follow)?;
    let mut messages =
        KernelMessages::open(&place).map_err(|error| paths::describe(&error, &path))?;
    let boot = host::read_boot_id();
    // Of another boot everything is new.
    let mark = format!("{CURSOR}{boot}.");
    let cursor = request.after.get(PLACE).and_then(|cursor| cursor.strip_prefix(&mark));
    let after: Option<u64> = cursor.and_then(|number| number.parse().ok());
    let began = kmsg::began_us();
    let lines = request.lines.filter(|_| request.after.is_empty());
    let most = lines.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
    let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
    let mut live = false;
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let next = messages.next(&mut buffer).map_err(|error| paths::describe(&error, &path))?;
        let Some(bytes) = next else {
            for line in kept.drain(..) {
                worker.stdout.write_all(&line).map_err(|error| lost_answer(&error))?;
            }
            if !request.follow {
                return Ok(());
            }
            if !std::mem::replace(&mut live, true) {
                let time_us = host::now_us();
                let record = Record { time_us, caught_up: true, ..Record::default() };
                record.write(&mut worker.stdout).map_err(|error| lost_answer(&error))?;
            }
            worker.stdout.flush().map_err(|error| lost_answer(&error))?;
            messages.wait(LOOK_EVERY);
            continue;
        };
        let Some(message) = parse(bytes) else { continue };
        let time_us = began.saturating_add(message.micros);
        let wanted = after.is_none_or(|after| message.number > after)
            && filter.is_in_time(time_us)
            && filter.is_urgent(Some(message.priority))
            && filter.finds(message.text);
        if !wanted {
            continue;
        }
        let cursor = request.cursors.then(|| format!("{mark}{}", message.number));
        let record = Record {
            time_us,
            source: "\"kernel\"",
            text: Some(message.text),
            priority: Some(message.priority),
            place: cursor.is_some().then_some("\"kernel\""),
            cursor: cursor.as_deref(),
            ..Record::default()
        };
        let mut line = Vec::new();
        record.write(&mut line).map_err(|error| lost_answer(&error))?;
        if live {
            worker.stdout.write_all(&line).map_err(|error| lost_answer(&error))?;
            continue;
        }
        if kept.len() >= most {
            kept.pop_front();
        }
        if most > 0 {
            kept.push_back(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_the_kernel_writes_them() {
        let message =
            parse(b"30,339,5140900,-;systemd[1]: a;b\n SUBSYSTEM=x\n").expect("a message");
        let expected =
            Message { priority: 6, number: 339, micros: 5_140_900, text: b"systemd[1]: a;b" };
        assert_eq!(message, expected);
        for odd in [&b""[..], b"6,1,2", b"x,1,2,-;text", b"6;text"] {
            assert_eq!(parse(odd), None);
        }
    }
}
