//! Reading files once: what is wanted of each, merged in order of time.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use reeve_protocol::ops::{Failure, LogRead, RemotePath};

use super::cursor::{self, FileCursor};
use super::family::{self, Member};
use super::lines::{Body, LEAST, Lines, MOST};
use super::record::{Record, quoted};
use super::scan::{Scan, Tools};
use super::{globs, seek};
use crate::host::paths;
use crate::operations::worker::{Worker, lost_answer};

/// Memory for the buffers of all files that are read at once.
const BUFFERS: usize = 16 * 1024 * 1024;

/// A file of a log that is to be read, and from where.
#[derive(Debug)]
pub struct Part {
    pub member: Member,
    /// The offset to begin at.
    pub from: u64,
    /// Wanted lines to leave out first.
    pub skip: u64,
}

/// A log: its files from the oldest on.
pub struct Log {
    /// Its path as JSON.
    pub source: String,
    pub path: RemotePath,
    pub parts: VecDeque<Part>,
}

impl Log {
    /// One file of a log, from an offset on; `source` is the log's path as JSON.
    #[must_use]
    pub fn of(source: &str, member: Member, from: u64) -> Self {
        let parts = VecDeque::from([Part { member, from, skip: 0 }]);
        Self { source: source.to_owned(), path: RemotePath::from("/"), parts }
    }
}

/// Finds the logs of a request, and where to begin with each. `may_be_missing`: a plain path that
/// is not there yet is no failure.
///
/// # Errors
/// Why one of them cannot be read at all.
pub fn find_logs(
    request: &LogRead,
    worker: &mut Worker,
    tools: &mut Tools<'_>,
    may_be_missing: bool,
) -> Result<Vec<Log>, Failure> {
    let mut matches: BTreeMap<RemotePath, Member> = BTreeMap::new();
    for pattern in &request.files {
        let found = match globs::expand(&worker.rules, pattern) {
            Ok(found) => found,
            Err(failure) if failure.code == "not_found" && may_be_missing => {
                worker.warn(&Failure {
                    message: format!("{}; waiting for it", failure.message),
                    ..failure
                });
                continue;
            }
            Err(failure) => return Err(failure),
        };
        for failure in &found.skipped {
            worker.warn(failure);
        }
        if found.files.is_empty() {
            let (shown, count) = (pattern.display(), found.skipped.len());
            let failure = match found.skipped.into_iter().next() {
                Some(only) if count == 1 => only,
                _ => Failure::at("not_found", pattern, format!("no file matches {shown}")),
            };
            if !may_be_missing {
                return Err(failure);
            }
            worker.warn(&failure);
        }
        for file in found.files {
            match Member::open(file.path.clone(), &file.place) {
                Ok(member) => drop(matches.insert(file.path, member)),
                Err(failure) if !globs::is_pattern(pattern) => return Err(failure),
                Err(failure) => worker.warn(&failure),
            }
        }
    }
    let with_rotated = request.since_us.is_some() || !request.after.is_empty();
    if with_rotated || request.follow {
        leave_out_rotated(&mut matches);
    }
    leave_out_same(&mut matches);
    let mut logs = Vec::new();
    for (path, member) in matches {
        let mut skipped = Vec::new();
        let older = match with_rotated {
            true => family::rotated(&worker.rules, &path, &mut skipped)?,
            false => Vec::new(),
        };
        let parts =
            begin(request, tools, member, older).map_err(|error| paths::describe(&error, &path))?;
        if !parts.1 {
            skipped.push(Failure::at(
                "gap",
                &path,
                format!(
                    "{} was rotated away since; what was between may be missing",
                    path.display()
                ),
            ));
        }
        for failure in skipped {
            worker.warn(&failure);
        }
        logs.push(Log { source: quoted(&path.display()), path, parts: parts.0 });
    }
    Ok(logs)
}

/// What belongs to another log of the request is read with that one.
pub fn leave_out_rotated<T>(matches: &mut BTreeMap<RemotePath, T>) {
    let split = |path: &RemotePath| {
        let bytes = path.as_bytes().to_vec();
        let slash = memchr::memrchr(b'/', &bytes).map_or(0, |slash| slash + 1);
        (
            bytes.get(..slash).unwrap_or_default().to_vec(),
            bytes.get(slash..).unwrap_or_default().to_vec(),
        )
    };
    let names: Vec<_> = matches.keys().map(split).collect();
    matches.retain(|path, _| {
        let (folder, name) = split(path);
        !names.iter().any(|(other, log)| *other == folder && family::is_rotated(log, &name))
    });
}

/// Two names of one file are one log.
fn leave_out_same(matches: &mut BTreeMap<RemotePath, Member>) {
    let mut seen = std::collections::HashSet::new();
    matches.retain(|_, member| seen.insert((member.device, member.inode)));
}

/// From where each file of a log is read; whether the place to go on from was found.
fn begin(
    request: &LogRead,
    tools: &mut Tools<'_>,
    member: Member,
    older: Vec<Member>,
) -> io::Result<(VecDeque<Part>, bool)> {
    let path = quoted(&member.path.display());
    let mut members = older;
    members.push(member);
    if !request.after.is_empty() {
        let known: Vec<FileCursor> = request
            .after
            .iter()
            .filter(|(place, _)| place_is_of(place, &path))
            .filter_map(|(_, cursor)| FileCursor::decode(cursor))
            .collect();
        let found = members.iter().map(Member::found).collect::<io::Result<Vec<_>>>()?;
        let plan = cursor::plan(&found, &known);
        let mut offsets: BTreeMap<usize, u64> = plan.read.into_iter().collect();
        let parts = members
            .into_iter()
            .enumerate()
            .filter_map(|(index, member)| {
                Some(Part { member, from: offsets.remove(&index)?, skip: 0 })
            })
            .collect();
        // A log that nothing is known of is new.
        return Ok((parts, plan.found || known.is_empty()));
    }
    let last = members.len().saturating_sub(1);
    let mut parts = VecDeque::new();
    for (index, member) in members.into_iter().enumerate() {
        let mut from = 0;
        if let Some(since) = request.since_us {
            // What was last written before then has nothing from later.
            if index < last && member.modified_us < since {
                continue;
            }
            if member.packing.is_none() {
                from = seek::lower_bound(&member.file, member.size, since, &mut tools.times)?;
            }
        }
        parts.push_back(Part { member, from, skip: 0 });
    }
    if let Some(count) = request.lines {
        keep_last(&mut parts, count, tools)?;
    }
    Ok((parts, true))
}

/// Leaves only what the last `count` wanted lines are in.
fn keep_last(parts: &mut VecDeque<Part>, count: u64, tools: &mut Tools<'_>) -> io::Result<()> {
    let mut missing = count;
    let mut first = parts.len();
    for (index, part) in parts.iter_mut().enumerate().rev() {
        if missing == 0 {
            break;
        }
        first = index;
        let member = &part.member;
        let found = match member.packing {
            None => {
                let (from, found) =
                    seek::last_lines(&member.file, part.from, member.size, missing, tools)?;
                part.from = from;
                found
            }
            Some(_) => {
                let mut scan = Scan::new(open(part, MOST)?);
                let mut found = 0_u64;
                while scan.peek(tools, true)?.is_some() {
                    scan.pop();
                    found += 1;
                }
                part.skip = found.saturating_sub(missing);
                found - part.skip
            }
        };
        missing -= found.min(missing);
    }
    // The one that is written now stays: what comes may be wanted.
    let last = parts.len().saturating_sub(1);
    if let Some(part) = parts.back_mut()
        && first > last
    {
        part.from = part.member.size;
    }
    parts.drain(..first.min(last));
    Ok(())
}

/// The lines of a part from where it begins.
fn open(part: &Part, capacity: usize) -> io::Result<Lines> {
    let file = part.member.file.try_clone()?;
    match part.member.packing {
        None => Ok(Lines::new(Body::Plain(file), part.from, capacity)),
        Some(packing) => {
            let mut reader = packing.open(file)?;
            let skipped = io::copy(&mut io::Read::take(&mut reader, part.from), &mut io::sink())?;
            Ok(Lines::new(Body::Packed(reader), skipped, capacity))
        }
    }
}

/// What a cursor of a file is a place in: the log, and which of its files.
#[must_use]
pub fn place_of(quoted_path: &str, device: u64, inode: u64) -> String {
    let path = quoted_path.strip_suffix('"').unwrap_or(quoted_path);
    format!("{path}#{device:x}.{inode:x}\"")
}

/// Whether a place, as it came back from JSON, is one in this log.
fn place_is_of(place: &str, quoted_path: &str) -> bool {
    let quoted = quoted(place);
    let path = quoted_path.strip_suffix('"').unwrap_or(quoted_path);
    quoted.strip_prefix(path).is_some_and(|rest| rest.starts_with('#') && !rest.contains('/'))
}

/// One log being read.
pub struct Reading {
    /// Its path as JSON.
    pub source: String,
    /// That of the file being read.
    file: RemotePath,
    parts: VecDeque<Part>,
    scan: Option<Scan>,
    skip: u64,
    /// Place and cursor up to its offset, of the file being read.
    mark: Option<(String, String)>,
    /// Places of files that were read to their end, once the next one's has been told.
    finished: Vec<String>,
    cursors: bool,
    capacity: usize,
}

impl Reading {
    /// Of a log, with so much memory.
    #[must_use]
    pub fn new(log: Log, cursors: bool, capacity: usize) -> Self {
        Self {
            source: log.source,
            file: log.path,
            parts: log.parts,
            scan: None,
            skip: 0,
            mark: None,
            finished: Vec::new(),
            cursors,
            capacity,
        }
    }

    /// When the next wanted line was written.
    fn next_time(&mut self, tools: &mut Tools<'_>) -> io::Result<Option<i64>> {
        loop {
            if let Some(scan) = &mut self.scan {
                match scan.peek(tools, true)? {
                    Some(_) if self.skip > 0 => {
                        self.skip -= 1;
                        scan.pop();
                        continue;
                    }
                    Some(hit) => return Ok(Some(hit.time_us)),
                    None => {}
                }
            }
            let Some(part) = self.parts.pop_front() else {
                self.scan = None;
                return Ok(None);
            };
            self.file = part.member.path.clone();
            let mut lines = open(&part, self.capacity)?;
            if part.member.packing.is_none() {
                // What is written from now on is not asked for.
                lines.stop_at(part.member.size);
            }
            self.skip = part.skip;
            if self.cursors {
                self.finished.extend(self.mark.take().map(|(place, _)| place));
                self.mark = Some(mark_of(&self.source, &part.member)?);
            }
            match &mut self.scan {
                Some(scan) => scan.replace(lines),
                None => self.scan = Some(Scan::new(lines)),
            }
        }
    }

    /// Says where it begins.
    fn tell_start(&mut self, worker: &mut Worker) -> Result<(), Failure> {
        let Some(part) = self.parts.front().filter(|_| self.cursors) else { return Ok(()) };
        let Ok((place, before)) = mark_of(&self.source, &part.member) else { return Ok(()) };
        let cursor = format!("{before}{:x}", part.from);
        let record = Record {
            time_us: crate::host::now_us(),
            place: Some(&place),
            cursor: Some(&cursor),
            ..Record::default()
        };
        record.write(&mut worker.stdout).map_err(|error| lost_answer(&error))
    }

    fn write_next(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        let Some(scan) = &mut self.scan else { return Ok(()) };
        let Some(hit) = scan.pop() else { return Ok(()) };
        let cursor = self.mark.as_ref().map(|(_, before)| format!("{before}{:x}", hit.next));
        let record = Record {
            time_us: hit.time_us,
            time_from: hit.time_from,
            source: &self.source,
            text: Some(scan.text(&hit)),
            length: hit.length,
            priority: hit.level,
            place: self.mark.as_ref().map(|(place, _)| place.as_str()),
            cursor: cursor.as_deref(),
            ..Record::default()
        };
        record.write(out)?;
        self.tell_finished(out)
    }

    /// Says of files that were read to their end that they are done with.
    fn tell_finished(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        for place in self.finished.drain(..) {
            let time_us = crate::host::now_us();
            let record = Record { time_us, place: Some(&place), done: true, ..Record::default() };
            record.write(out)?;
        }
        Ok(())
    }
}

fn mark_of(source: &str, member: &Member) -> io::Result<(String, String)> {
    let found = member.found()?;
    let cursor = FileCursor {
        device: found.device,
        inode: found.inode,
        head_bytes: found.head.len(),
        head_hash: cursor::hash(&found.head),
        offset: 0,
    };
    let place = place_of(source, found.device, found.inode);
    Ok((place, cursor.encode_before_offset()))
}

/// Reads everything there is, merged.
///
/// # Errors
/// When the answer cannot be written, or nothing can be read.
pub fn read(request: &LogRead, worker: &mut Worker, tools: &mut Tools<'_>) -> Result<(), Failure> {
    let logs = find_logs(request, worker, tools, false)?;
    read_logs(request, worker, tools, logs)
}

/// Reads these logs to their ends, merged.
///
/// # Errors
/// When the answer cannot be written.
pub fn read_logs(
    request: &LogRead,
    worker: &mut Worker,
    tools: &mut Tools<'_>,
    logs: Vec<Log>,
) -> Result<(), Failure> {
    let capacity = (BUFFERS / logs.len().max(1)).clamp(LEAST, MOST);
    let mut readings: Vec<Reading> =
        logs.into_iter().map(|log| Reading::new(log, request.cursors, capacity)).collect();
    for reading in &mut readings {
        // Whoever asks anew after having seen nothing of it knows where this began.
        reading.tell_start(worker)?;
    }
    let mut next: std::collections::BinaryHeap<std::cmp::Reverse<(i64, usize)>> =
        std::collections::BinaryHeap::new();
    for index in 0..readings.len() {
        advance(&mut readings, index, tools, worker, &mut next);
    }
    while let Some(std::cmp::Reverse((_, index))) = next.pop() {
        if let Some(reading) = readings.get_mut(index) {
            reading.write_next(&mut worker.stdout).map_err(|error| lost_answer(&error))?;
        }
        advance(&mut readings, index, tools, worker, &mut next);
    }
    if request.follow {
        // What is written now is gone on with; its place is known.
        for reading in &mut readings {
            reading.finished.extend(reading.mark.take().map(|(place, _)| place));
            reading.tell_finished(&mut worker.stdout).map_err(|error| lost_answer(&error))?;
        }
    }
    Ok(())
}

/// Finds a log's next line. A file that cannot be read to its end is told of, and its log's next one
/// is read.
fn advance(
    readings: &mut [Reading],
    index: usize,
    tools: &mut Tools<'_>,
    worker: &mut Worker,
    next: &mut std::collections::BinaryHeap<std::cmp::Reverse<(i64, usize)>>,
) {
    let Some(reading) = readings.get_mut(index) else { return };
    loop {
        match reading.next_time(tools) {
            Ok(Some(time)) => return next.push(std::cmp::Reverse((time, index))),
            Ok(None) => return,
            Err(error) => {
                reading.scan = None;
                let path = reading.file.clone();
                let text = format!("{} could not be read on: {error}", path.display());
                worker.warn(&Failure::at("io", &path, text));
                if reading.parts.is_empty() {
                    return;
                }
            }
        }
    }
}
