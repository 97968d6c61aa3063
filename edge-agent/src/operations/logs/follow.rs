//! Following files: what is written is told, whatever is renamed, copied, emptied or made anew.
//!
//! A file that was renamed goes on being read by its descriptor, until nothing has been written to
//! it for a while. One that was emptied after it was copied (logrotate's `copytruncate`) is gone on
//! with in the copy, found by its beginning. Inotify only wakes; what is there is always looked up.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use reeve_protocol::ops::{Failure, LogRead, RemotePath};

use super::cursor::{self, FileCursor, Found};
use super::family::{self, Member};
use super::files::{self, Log};
use super::followed::{Followed, State};
use super::lines::{Body, Lines, MOST as CAPACITY};
use super::record::{Record, quoted};
use super::scan::Tools;
use super::{globs, packing};
use crate::host;
use crate::host::inotify::Watch;
use crate::host::paths::LastLink;
use crate::operations::worker::{Worker, lost_answer};

/// How long nothing may wake before files are looked at all the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Writes that come close together are read together.
const GATHER: Duration = Duration::from_millis(20);
/// Names are looked up again so often, at most when something woke.
const EXPAND_EVERY: Duration = Duration::from_millis(200);
/// A renamed file is read on until nothing was written to it for so long: programs write to the old
/// one until they are told to open the new.
const LINGER: Duration = Duration::from_secs(120);
/// Followed at the same time.
const MAX_FOLLOWED: usize = 1024;

/// Follows the files of a request until it is cancelled.
///
/// # Errors
/// When the answer cannot be written, or a file that was named may not be read.
pub fn follow(
    request: &LogRead,
    worker: &mut Worker,
    tools: &mut Tools<'_>,
) -> Result<(), Failure> {
    let logs = files::find_logs(request, worker, tools, true)?;
    let mut follower = Follower {
        request,
        followed: Vec::new(),
        watch: Watch::new(),
        expanded: Instant::now(),
        warned: HashSet::new(),
    };
    follower.watch_folders(worker);
    let mut early = Vec::new();
    for log in logs {
        // All but what is written now is read once, before it; merged over all logs.
        let (older, live) = split(log);
        early.push(older);
        if let Some((source, member, from)) = live {
            let path = member.path.clone();
            match Followed::new(&source, member, from) {
                Ok(followed) => follower.followed.push(followed),
                Err(error) => worker.warn(&host::paths::describe(&error, &path)),
            }
        }
    }
    // Positions first: whoever asks anew after having seen nothing knows where this began.
    for followed in &mut follower.followed {
        followed.tell_place(request, worker, false)?;
    }
    files::read_logs(request, worker, tools, early)?;
    follower.catch_up(worker, tools)?;
    let caught_up = Record { time_us: host::now_us(), caught_up: true, ..Record::default() };
    caught_up.write(&mut worker.stdout).map_err(|error| lost_answer(&error))?;
    loop {
        flush(worker)?;
        follower.watch.wait(LOOK_EVERY);
        // More is often on its way.
        follower.watch.wait(GATHER);
        follower.look(worker, tools)?;
    }
}

fn flush(worker: &mut Worker) -> Result<(), Failure> {
    io::Write::flush(&mut worker.stdout).map_err(|error| lost_answer(&error))
}

/// A log's older files, and the one that is written now with where to begin.
fn split(mut log: Log) -> (Log, Option<(String, Member, u64)>) {
    let source = quoted(&log.path.display());
    let is_live = log
        .parts
        .back()
        .is_some_and(|part| part.member.path == log.path && part.member.packing.is_none());
    let live = is_live.then(|| log.parts.pop_back()).flatten();
    (log, live.map(|part| (source, part.member, part.from)))
}

struct Follower<'a> {
    request: &'a LogRead,
    followed: Vec<Followed>,
    watch: Watch,
    expanded: Instant,
    /// What was complained about; once is enough.
    warned: HashSet<String>,
}

impl Follower<'_> {
    /// Tells what is in the files already, merged in order of time.
    fn catch_up(&mut self, worker: &mut Worker, tools: &mut Tools<'_>) -> Result<(), Failure> {
        if self.followed.len() == 1 {
            return self.look(worker, tools);
        }
        loop {
            let mut first: Option<(i64, usize)> = None;
            for (index, followed) in self.followed.iter_mut().enumerate() {
                if let Ok(Some(hit)) = followed.scan.peek(tools, false)
                    && first.is_none_or(|(time, _)| hit.time_us < time)
                {
                    first = Some((hit.time_us, index));
                }
            }
            let Some((_, index)) = first else { return Ok(()) };
            if let Some(followed) = self.followed.get_mut(index) {
                followed.tell_one(self.request, worker)?;
            }
        }
    }

    /// Looks at everything once.
    fn look(&mut self, worker: &mut Worker, tools: &mut Tools<'_>) -> Result<(), Failure> {
        self.read_all(worker, tools)?;
        if self.expanded.elapsed() >= EXPAND_EVERY {
            self.expanded = Instant::now();
            self.expand(worker, tools)?;
        }
        self.retire(worker, tools)
    }

    fn read_all(&mut self, worker: &mut Worker, tools: &mut Tools<'_>) -> Result<(), Failure> {
        for index in 0..self.followed.len() {
            let Some(followed) = self.followed.get_mut(index) else { break };
            match followed.look() {
                Ok(State::Quiet) => {}
                Ok(State::Same) => followed.tell(self.request, worker, tools, false)?,
                Ok(State::Emptied) => self.begin_again(index, worker, tools)?,
                Err(error) => {
                    let failure = host::paths::describe(&error, &followed.path);
                    self.warn(worker, failure);
                }
            }
        }
        Ok(())
    }

    /// A file begins anew. What was in it and not told yet is in a copy, if one was made.
    fn begin_again(
        &mut self,
        index: usize,
        worker: &mut Worker,
        tools: &mut Tools<'_>,
    ) -> Result<(), Failure> {
        let Some(followed) = self.followed.get_mut(index) else { return Ok(()) };
        let cursor = followed.cursor(followed.scan.lines.position());
        let (source, path) = (followed.source.clone(), followed.path.clone());
        let mut copies = self.rotated_since(&cursor, &path, worker);
        // From the file's own beginning on; its place is told again before the copy is read, so that
        // neither is missed by whoever asks anew in between.
        if let Some(followed) = self.followed.get_mut(index)
            && let Some(file) = followed.scan.lines.file()
        {
            let file = file.try_clone().map_err(|error| host::paths::describe(&error, &path))?;
            followed.set_head(packing::head(&file, None).unwrap_or_default());
            followed.scan.replace(Lines::new(Body::Plain(file), 0, CAPACITY));
            followed.told = 0;
        }
        for (member, from) in copies.drain(..) {
            self.read_older(&source, member, from, worker, tools)?;
        }
        if let Some(followed) = self.followed.get_mut(index) {
            followed.tell_place(self.request, worker, false)?;
            followed.tell(self.request, worker, tools, false)?;
        }
        Ok(())
    }

    /// Rotated files of a log that hold what comes behind a cursor.
    fn rotated_since(
        &mut self,
        cursor: &FileCursor,
        path: &RemotePath,
        worker: &mut Worker,
    ) -> Vec<(Member, u64)> {
        let mut skipped = Vec::new();
        let members = family::rotated(&worker.rules, path, &mut skipped).unwrap_or_default();
        let found: Vec<Found> = members
            .iter()
            .map(|member| {
                // What cannot be read, such as one that is being packed, is like nothing.
                member.found().unwrap_or(Found {
                    device: 0,
                    inode: 0,
                    size: Some(0),
                    head: Vec::new(),
                })
            })
            .collect();
        let plan = cursor::plan(&found, std::slice::from_ref(cursor));
        if !plan.found {
            return Vec::new();
        }
        let mut offsets: BTreeMap<usize, u64> = plan.read.into_iter().collect();
        let known: HashSet<(u64, u64)> =
            self.followed.iter().map(|followed| (followed.device, followed.inode)).collect();
        members
            .into_iter()
            .enumerate()
            .filter(|(_, member)| !known.contains(&(member.device, member.inode)))
            .filter_map(|(index, member)| Some((member, offsets.remove(&index)?)))
            .collect()
    }

    /// Reads a rotated file to its end.
    fn read_older(
        &mut self,
        source: &str,
        member: Member,
        from: u64,
        worker: &mut Worker,
        tools: &mut Tools<'_>,
    ) -> Result<(), Failure> {
        let path = member.path.clone();
        let log = files::Log::of(source, member, from);
        if let Err(failure) = files::read_logs(self.request, worker, tools, vec![log]) {
            if failure.code == "io" {
                return Err(failure);
            }
            self.warn(worker, Failure { path: Some(path), ..failure });
        }
        Ok(())
    }

    /// Looks up which files the names mean now.
    fn expand(&mut self, worker: &mut Worker, tools: &mut Tools<'_>) -> Result<(), Failure> {
        self.watch_folders(worker);
        let mut found = BTreeMap::new();
        for pattern in &self.request.files {
            if let Ok(matches) = globs::expand(&worker.rules, pattern) {
                for file in matches.files {
                    found.insert(file.path, file.place);
                }
            }
        }
        files::leave_out_rotated(&mut found);
        for followed in &mut self.followed {
            followed.current = false;
        }
        for (path, place) in found {
            let Ok(about) = place.metadata() else { continue };
            let id = (about.dev(), about.ino());
            let same = self.followed.iter_mut().find(|one| (one.device, one.inode) == id);
            if let Some(followed) = same {
                followed.current = true;
                continue;
            }
            if self.followed.len() >= MAX_FOLLOWED {
                let text = format!("more than {MAX_FOLLOWED} files are followed; the rest is not");
                self.warn(worker, Failure::new("too_many", text));
                break;
            }
            let member = match Member::open(path.clone(), &place) {
                Ok(member) if member.packing.is_none() => member,
                Ok(_) => continue,
                Err(failure) => {
                    self.warn(worker, failure);
                    continue;
                }
            };
            let source = quoted(&path.display());
            self.read_between(&source, &path, worker, tools)?;
            match Followed::new(&source, member, 0) {
                Ok(mut followed) => {
                    followed.tell_place(self.request, worker, false)?;
                    followed.tell(self.request, worker, tools, false)?;
                    self.followed.push(followed);
                }
                Err(error) => self.warn(worker, host::paths::describe(&error, &path)),
            }
        }
        Ok(())
    }

    /// Files that were made and rotated away between two looks.
    fn read_between(
        &mut self,
        source: &str,
        path: &RemotePath,
        worker: &mut Worker,
        tools: &mut Tools<'_>,
    ) -> Result<(), Failure> {
        let newest = self
            .followed
            .iter()
            .filter(|followed| followed.source == source)
            .map(|followed| followed.cursor(followed.scan.lines.position()))
            .next_back();
        let Some(cursor) = newest else { return Ok(()) };
        for (member, from) in self.rotated_since(&cursor, path, worker) {
            self.read_older(source, member, from, worker, tools)?;
        }
        Ok(())
    }

    /// Lets go of files that nobody writes to any more.
    fn retire(&mut self, worker: &mut Worker, tools: &mut Tools<'_>) -> Result<(), Failure> {
        let mut index = 0;
        while let Some(followed) = self.followed.get_mut(index) {
            if followed.current || followed.last_written.elapsed() < LINGER {
                index += 1;
                continue;
            }
            // What has no line's end by now gets none.
            followed.tell(self.request, worker, tools, true)?;
            followed.tell_place(self.request, worker, true)?;
            self.followed.remove(index);
        }
        Ok(())
    }

    /// Watches the folders that names are in.
    fn watch_folders(&mut self, worker: &Worker) {
        let mut folders: HashSet<Vec<u8>> = HashSet::new();
        let parent = |path: &[u8]| {
            let slash = memchr::memrchr(b'/', path).unwrap_or(0);
            path.get(..slash.max(1)).unwrap_or(b"/").to_vec()
        };
        for pattern in &self.request.files {
            let bytes = pattern.as_bytes();
            let fixed = bytes.iter().position(|byte| b"*?[".contains(byte)).unwrap_or(bytes.len());
            folders.insert(parent(bytes.get(..fixed).unwrap_or(bytes)));
        }
        for followed in &self.followed {
            folders.insert(parent(followed.path.as_bytes()));
        }
        for folder in folders {
            if let Ok(place) = worker.rules.find(&RemotePath::new(folder.clone()), LastLink::Follow)
            {
                self.watch.add(&folder, &place);
            }
        }
    }

    fn warn(&mut self, worker: &mut Worker, failure: Failure) {
        /// More complaints help nobody.
        const MOST: usize = 1000;
        let key = format!("{} {}", failure.code, failure.message);
        if self.warned.len() < MOST && self.warned.insert(key) {
            worker.warn(&failure);
        }
    }
}
