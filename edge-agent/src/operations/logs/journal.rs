//! Reading the journal, by journalctl(1): it knows every version of the format, and who may see what.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Duration;

use reeve_protocol::ops::{Failure, LogRead, RemotePath};

use super::export::{Entry, FIELDS, Parser};
use super::filter::Filter;
use super::levels;
use super::record::{Record, quoted};
use super::units::{alike, full_name};
use crate::host;
use crate::host::journalctl::Journalctl;
use crate::host::paths::{LastLink, Place};
use crate::operations::worker::{Worker, lost_answer};

/// Bytes asked for at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;
/// Where a journal is kept (systemd-journald.service(8)).
const FOLDERS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];
/// A follow has told everything that was there when nothing came for so long.
const QUIET: Duration = Duration::from_millis(250);
/// Entries that were not wanted before a cursor is told all the same, so that they are not gone
/// through again.
const UNTOLD: u32 = 10_000;

/// The failure that says that this machine keeps no journal.
pub const NONE: &str = "no_journal";
/// The place that a journal's cursors are in. There is one journal.
const PLACE: &str = "journal";

/// Reads or follows.
///
/// # Errors
/// Why the journal cannot be read, or that a unit has nothing in it.
pub fn read(request: &LogRead, worker: &mut Worker, filter: &Filter) -> Result<(), Failure> {
    let folder = find_folder(request, worker)?;
    let mut reading = Reading {
        request,
        filter,
        folder,
        told: 0,
        seen: 0,
        untold: 0,
        last_cursor: Vec::new(),
        caught_up: false,
        live: false,
        with_fields: true,
        with_grep: true,
        hint_told: false,
    };
    reading.probe(worker)?;
    let after = request.after.get(PLACE).map(String::as_str);
    match (after, request.lines) {
        (None, Some(count)) => reading.last(worker, count),
        _ => reading.all(worker, after),
    }
}

/// The folder asked for, open; `None` is the machine's own journal, if the rules let it be read.
fn find_folder(request: &LogRead, worker: &Worker) -> Result<Option<Place>, Failure> {
    if let Some(path) = &request.journal_directory {
        return worker.rules.find(path, LastLink::Follow).map(Some);
    }
    for folder in FOLDERS {
        match worker.rules.find(&RemotePath::from(folder), LastLink::Follow) {
            Err(failure) if failure.code == "policy_path" => return Err(failure),
            _ => {}
        }
    }
    Ok(None)
}

struct Reading<'a> {
    request: &'a LogRead,
    filter: &'a Filter,
    folder: Option<Place>,
    /// Entries written.
    told: u64,
    /// Entries that journalctl gave.
    seen: u64,
    untold: u32,
    last_cursor: Vec<u8>,
    caught_up: bool,
    /// Whether what comes is being waited for.
    live: bool,
    /// Whether this journalctl can be asked for some fields only (since systemd 236).
    with_fields: bool,
    /// Whether it can be asked to search (it may be built without).
    with_grep: bool,
    hint_told: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl Reading<'_> {
    /// Asks as a person would: in its export format journalctl keeps to itself that there is no
    /// journal, or that not all of it may be seen.
    fn probe(&mut self, worker: &mut Worker) -> Result<(), Failure> {
        let mut arguments = vec!["--no-pager".to_owned(), "--lines=0".to_owned()];
        arguments.extend(self.directory());
        let mut child = start(&arguments)?;
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(1..) = child.read(&mut buffer) {}
        let (content, complaints) = child.finish();
        self.judge(worker, content, &complaints)
    }

    /// Everything, forwards, and then what comes.
    fn all(&mut self, worker: &mut Worker, after: Option<&str>) -> Result<(), Failure> {
        let mut more = Vec::new();
        match after.map(|cursor| cursor.split_once(':').unwrap_or(("", ""))) {
            None => more.extend(self.since()),
            Some(("j", cursor)) => more.push(format!("--after-cursor={cursor}")),
            Some(("t", time)) => {
                let time: i64 = time.parse().map_err(|_| unknown_cursor())?;
                more.push(since_text(time));
            }
            Some(_) => return Err(unknown_cursor()),
        }
        if self.request.follow {
            self.live = true;
            more.extend(["--follow".to_owned(), "--no-tail".to_owned()]);
            if after.is_none() {
                self.tell_start(worker, self.request.since_us.unwrap_or(0))?;
            }
        }
        self.run(worker, &more, |reading, worker, entry| {
            reading.tell_if_wanted(worker, entry)?;
            Ok(Next::More)
        })?;
        self.finish(worker)
    }

    /// The last `count` wanted entries, and then what comes. What is wanted is found out here, so
    /// it is gone through from the end until there are enough.
    fn last(&mut self, worker: &mut Worker, count: u64) -> Result<(), Failure> {
        let began = host::now_us();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut newest: Vec<u8> = Vec::new();
        if count > 0 || self.request.follow {
            let mut more: Vec<String> = self.since().into_iter().collect();
            more.push("--reverse".to_owned());
            if !self.filters_here() {
                more.push(format!("--lines={}", count.max(1)));
            }
            self.run(worker, &more, |reading, _, entry| {
                if newest.is_empty() {
                    newest.clone_from(&entry.cursor);
                }
                if (kept.len() as u64) < count && reading.is_wanted(entry) {
                    let mut line = Vec::new();
                    reading.write(&mut line, entry).map_err(|error| lost_answer(&error))?;
                    kept.push(line);
                }
                let enough = kept.len() as u64 >= count;
                Ok(if enough { Next::Enough } else { Next::More })
            })?;
        }
        for line in kept.iter().rev() {
            worker.stdout.write_all(line).map_err(|error| lost_answer(&error))?;
        }
        self.told += kept.len() as u64;
        drop(kept);
        if !self.request.follow {
            return self.finish(worker);
        }
        if newest.is_empty() {
            self.check_units(worker, true)?;
            self.tell_start(worker, began)?;
            self.all(worker, Some(&format!("t:{began}")))
        } else {
            let cursor = format!("j:{}", String::from_utf8_lossy(&newest));
            self.last_cursor = newest;
            self.tell_place(worker, false)?;
            self.all(worker, Some(&cursor))
        }
    }

    /// Runs journalctl and hands out entries until it ends or there are enough.
    fn run(
        &mut self,
        worker: &mut Worker,
        more: &[String],
        mut each: impl FnMut(&mut Self, &mut Worker, &Entry) -> Result<Next, Failure>,
    ) -> Result<(), Failure> {
        loop {
            let mut child = start(&self.arguments(more))?;
            let enough = self.take(worker, &mut child, &mut each)?;
            if enough {
                return Ok(());
            }
            let (content, complaints) = child.finish();
            if !content && complaints.contains("output-fields") && self.with_fields {
                self.with_fields = false;
                continue;
            }
            if !content && self.with_grep && complaints.contains("pattern matching") {
                self.with_grep = false;
                continue;
            }
            return self.judge(worker, content, &complaints);
        }
    }

    /// The text to look for when it means the same to journalctl: entries without it are then
    /// passed over before they are written and read.
    fn plain_text(&self) -> Option<&str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || " _/:,=-".contains(c);
        let text = self.request.grep.as_deref()?;
        (self.with_grep && !text.is_empty() && text.chars().all(plain)).then_some(text)
    }

    /// Reads what a journalctl says; whether there was enough before its end.
    fn take(
        &mut self,
        worker: &mut Worker,
        child: &mut Journalctl,
        each: &mut impl FnMut(&mut Self, &mut Worker, &Entry) -> Result<Next, Failure>,
    ) -> Result<bool, Failure> {
        let mut parser = Parser::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if self.live && !self.caught_up && !child.has_more(QUIET) {
                self.caught_up = true;
                self.tell_place(worker, true)?;
            }
            if self.live {
                worker.stdout.flush().map_err(|error| lost_answer(&error))?;
            }
            let count = child.read(&mut buffer).map_err(|error| {
                Failure::new("io", format!("journalctl's answer cannot be read: {error}"))
            })?;
            if count == 0 {
                return Ok(false);
            }
            let mut enough = false;
            parser.push(buffer.get(..count).unwrap_or_default(), |entry| {
                self.seen += 1;
                if !enough {
                    enough = each(self, worker, entry)? == Next::Enough;
                }
                Ok(())
            })?;
            if enough {
                return Ok(true);
            }
        }
    }

    fn arguments(&self, more: &[String]) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--no-pager", "--output=export"].map(str::to_owned).to_vec();
        if self.with_fields {
            arguments.push(format!("--output-fields={FIELDS}"));
        }
        arguments.extend(self.which());
        if let Some(priority) = self.request.priority.filter(|_| !self.request.levels_in_text) {
            arguments.push(format!("--priority={priority}"));
        }
        if let Some(until) = self.request.until_us {
            arguments.push(format!("--until={}", time_text(until)));
        }
        if let Some(text) = self.plain_text() {
            arguments.push(format!("--grep={text}"));
            arguments.push(format!("--case-sensitive={}", !self.request.ignore_case));
        }
        arguments.extend(more.iter().cloned());
        arguments.push("--".to_owned());
        arguments.extend(self.request.matches.iter().cloned());
        if self.request.kernel {
            // Not --dmesg, which looks at this boot only.
            arguments.push("_TRANSPORT=kernel".to_owned());
        }
        arguments
    }

    /// Whose journal, which units, which boot.
    fn which(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.directory().into_iter().collect();
        arguments.extend(self.request.units.iter().map(|unit| format!("--unit={unit}")));
        arguments.extend(self.request.boot.iter().map(|boot| format!("--boot={boot}")));
        arguments
    }

    /// The folder as this process has it open, so that no name can come to mean another.
    fn directory(&self) -> Option<String> {
        let fd = self.folder.as_ref()?.fd.as_raw_fd();
        Some(format!("--directory=/proc/{}/fd/{fd}", std::process::id()))
    }

    fn since(&self) -> Option<String> {
        self.request.since_us.map(since_text)
    }

    /// Whether entries are left out that journalctl gives.
    fn filters_here(&self) -> bool {
        self.filter.greps() || (self.request.levels_in_text && self.filter.priority.is_some())
    }

    fn level(&self, entry: &Entry) -> Option<u8> {
        if !self.request.levels_in_text {
            return entry.priority;
        }
        match (entry.priority, levels::find(&entry.message)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn is_wanted(&self, entry: &Entry) -> bool {
        // journalctl takes times as seconds with a fraction; the last digits are ours to check.
        let timely = self.filter.is_in_time(entry.time_us);
        let urgent = !self.request.levels_in_text || self.filter.is_urgent(self.level(entry));
        timely && urgent && self.filter.finds(&entry.message)
    }

    fn tell_if_wanted(&mut self, worker: &mut Worker, entry: &Entry) -> Result<(), Failure> {
        self.last_cursor.clone_from(&entry.cursor);
        if self.is_wanted(entry) {
            self.told += 1;
            self.untold = 0;
            return self.write(&mut worker.stdout, entry).map_err(|error| lost_answer(&error));
        }
        self.untold += 1;
        if self.untold >= UNTOLD && self.request.cursors {
            self.untold = 0;
            return self.tell_place(worker, false);
        }
        Ok(())
    }

    fn write(&self, out: &mut impl Write, entry: &Entry) -> std::io::Result<()> {
        let source = quoted(&String::from_utf8_lossy(entry.source()));
        let cursor = self.request.cursors.then(|| cursor_text(&entry.cursor));
        let given = |field: &'_ Vec<u8>| !field.is_empty();
        Record {
            time_us: entry.time_us,
            source: &source,
            text: Some(&entry.message),
            length: Some(entry.length),
            priority: self.level(entry),
            pid: Some(entry.pid.as_slice()).filter(|_| given(&entry.pid)),
            identifier: Some(entry.identifier.as_slice()).filter(|_| given(&entry.identifier)),
            host: Some(entry.host.as_slice())
                .filter(|_| given(&entry.host) && self.request.journal_directory.is_some()),
            place: cursor.is_some().then_some("\"journal\""),
            cursor: cursor.as_deref(),
            ..Record::default()
        }
        .write(out)
    }

    /// Says from when on a follow goes, so that one that has seen nothing yet can be gone on with.
    fn tell_start(&self, worker: &mut Worker, from_us: i64) -> Result<(), Failure> {
        if !self.request.cursors {
            return Ok(());
        }
        let cursor = format!("t:{from_us}");
        let record = Record {
            time_us: host::now_us(),
            place: Some("\"journal\""),
            cursor: Some(&cursor),
            ..Record::default()
        };
        record.write(&mut worker.stdout).map_err(|error| lost_answer(&error))
    }

    fn tell_place(&self, worker: &mut Worker, caught_up: bool) -> Result<(), Failure> {
        let cursor = (self.request.cursors && !self.last_cursor.is_empty())
            .then(|| cursor_text(&self.last_cursor));
        let record = Record {
            time_us: host::now_us(),
            place: cursor.is_some().then_some("\"journal\""),
            cursor: cursor.as_deref(),
            caught_up,
            ..Record::default()
        };
        record.write(&mut worker.stdout).map_err(|error| lost_answer(&error))
    }

    /// What journalctl's end means.
    fn judge(
        &mut self,
        worker: &mut Worker,
        content: bool,
        complaints: &str,
    ) -> Result<(), Failure> {
        let line = complaints.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
        if complaints.contains("insufficient permissions") {
            return Err(Failure::new(
                "not_permitted",
                "the agent may not read the journal: run it as root, or put its user into the group \
                 systemd-journal",
            ));
        }
        if complaints.contains("No journal files were found") {
            let message = match &self.request.journal_directory {
                Some(path) => format!("there are no journal files in {}", path.display()),
                None => "this machine has no journal files: journald does not run, or keeps none; \
                         read its log files instead (-f)"
                    .to_owned(),
            };
            return Err(Failure::new(NONE, message));
        }
        if !content {
            let said = if line.is_empty() { "it did not say why" } else { line };
            return Err(Failure::new("journal", format!("journalctl failed: {said}")));
        }
        if complaints.contains("not seeing messages from other users") && !self.hint_told {
            self.hint_told = true;
            worker.warn(&Failure::new(
                "not_permitted",
                "the agent sees its own user's entries only: put that user into the group \
                 systemd-journal, or run it as root",
            ));
        }
        Ok(())
    }

    fn finish(&mut self, worker: &mut Worker) -> Result<(), Failure> {
        if self.seen == 0 && !self.request.follow {
            self.check_units(worker, false)?;
        }
        Ok(())
    }

    /// A unit that never wrote anything is most likely misspelt; journalctl says nothing then.
    fn check_units(&mut self, worker: &mut Worker, only_warn: bool) -> Result<(), Failure> {
        let is_glob = |unit: &String| unit.contains(['*', '?', '[']);
        if self.request.units.is_empty() || self.request.units.iter().any(is_glob) {
            return Ok(());
        }
        let mut known = self.values("_SYSTEMD_UNIT");
        known.extend(self.values("UNIT"));
        let missing: Vec<&String> =
            self.request.units.iter().filter(|unit| !known.contains(&full_name(unit))).collect();
        if missing.len() < self.request.units.len() {
            return Ok(());
        }
        let unit = missing.first().map_or("", |unit| unit.as_str());
        let alike = alike(unit, &known);
        let mut message = format!("no entries from unit {unit}");
        if !alike.is_empty() {
            message
                .push_str(&format!("; units with entries that look alike: {}", alike.join(", ")));
        }
        let failure = Failure::new("unknown_unit", message);
        if only_warn {
            worker.warn(&failure);
            return Ok(());
        }
        Err(failure)
    }

    /// Every value that a field has in the journal.
    fn values(&self, field: &str) -> BTreeSet<String> {
        /// More names than a person has units.
        const MAX_BYTES: usize = 4 * 1024 * 1024;
        let mut arguments = vec!["--no-pager".to_owned(), "--quiet".to_owned()];
        arguments.extend(self.directory());
        arguments.push(format!("--field={field}"));
        let Ok(mut child) = Journalctl::start(&arguments) else { return BTreeSet::new() };
        let mut bytes = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = child.read(&mut buffer) {
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if bytes.len() > MAX_BYTES {
                break;
            }
        }
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
}

fn start(arguments: &[String]) -> Result<Journalctl, Failure> {
    Journalctl::start(arguments).map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "this machine has no journalctl, and so no journal; read its log files instead (-f)"
                    .to_owned()
            }
            _ => format!("journalctl cannot be started: {error}"),
        };
        Failure::new(NONE, message)
    })
}

fn cursor_text(cursor: &[u8]) -> String {
    // sd_journal_get_cursor(3): opaque, but always of these; anything else cannot be written as it is.
    let plain = |c: &char| c.is_ascii_alphanumeric() || "=;-_.".contains(*c);
    let text: String = String::from_utf8_lossy(cursor).chars().filter(plain).collect();
    format!("j:{text}")
}

fn unknown_cursor() -> Failure {
    Failure::new("invalid", "the cursor to go on from is none of the journal's")
}

fn since_text(time_us: i64) -> String {
    format!("--since={}", time_text(time_us))
}

/// As systemd.time(7) takes it.
fn time_text(time_us: i64) -> String {
    let time_us = time_us.max(0);
    format!("@{}.{:06}", time_us / 1_000_000, time_us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_systemd_reads_them() {
        assert_eq!(time_text(1_795_250_049_000_007), "@1795250049.000007");
        assert_eq!(cursor_text(b"s=1;i=\"x"), "j:s=1;i=x");
    }
}
