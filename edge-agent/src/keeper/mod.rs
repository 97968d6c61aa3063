//! The keeper: one small process per command, which owns the command's pipes, its processes, its
//! output on disk and its exit status, and outlives the agent. One thread, one loop, no runtime.

pub mod door;
pub mod ending;
pub mod files;
pub mod redact;
pub mod spool;
mod start;
mod stdin;
pub mod wire;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use reeve_protocol::{Accepted, OperationResult, Outcome, SignalName, Stream, Totals};

use crate::host::pipe::{self, Interest, Readiness};
use crate::host::process::Signal;
use crate::host::sandbox::Bus;
use crate::host::{self, setup};
use door::Door;
use ending::{Ending, Phase, Why};
use files::{KeeperFile, Spec};
use spool::{Append, SpoolWriter};
pub use start::{MARK, refuse_inspection};
use stdin::Stdin;
use wire::{FromKeeper, ToKeeper};

/// Bytes read from a pipe at once.
const READ_BYTES: usize = 256 * 1024;

/// Reads of a pipe after the end of everything that was to end: many times what a pipe holds.
const MAX_LAST_READS: u32 = 64;

/// How soon to try again when the disk is full.
const DISK_RETRY: Duration = Duration::from_millis(200);

/// Runs a keeper for the operation in this folder, until its command is over and everything about
/// it is on disk.
///
/// # Errors
/// When it could not even begin; nothing of the command ran then.
pub fn run(folder: &OsStr) -> io::Result<()> {
    let inherited = setup::detach()?;
    let folder = host::unix::open_folder(Path::new(folder))?;
    let spec: Spec = files::load(&folder).map_err(io::Error::other)?;
    let children = setup::watch_children()?;
    let mut door = Door::new(folder.try_clone()?, inherited.agent)?;
    let pid = std::process::id();
    let about = KeeperFile {
        pid,
        start_time: host::process::find_start_time(pid).unwrap_or(0),
        boot_id: spec.boot_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    // Only evidence: the lock is what says that we live. A full disk must not stop us here.
    let _ = files::write(&folder, &about);
    let oom_score = setup::protect_from_oom();
    let (group, containment) = start::make_group(&spec);
    let began = Instant::now();
    let started_us = host::now_us();
    let started = match start::start(&spec, group.as_ref(), oom_score) {
        Ok(started) => started,
        Err(outcome) => {
            if let Some(group) = &group {
                group.remove();
            }
            let result = OperationResult {
                outcome,
                started_us: None,
                finished_us: host::now_us(),
                duration_ms: 0,
                containment: reeve_protocol::Containment::None,
                totals: Totals::default(),
                leftovers_killed: 0,
                usage: Default::default(),
            };
            write_exit(&folder, &result)?;
            door.tell_exited();
            return Ok(());
        }
    };
    let spool = SpoolWriter::new(
        folder.try_clone()?,
        spec.spool_bytes,
        spec.segment_bytes,
        spec.command.spool_full,
    );
    let keeper = Keeper {
        folder,
        children,
        door,
        accepted: Accepted { started_us, pid: Some(started.pid), containment },
        began,
        stdin: Stdin::new(started.stdin),
        bus: started.bus,
        outputs: [
            OutputPipe { stream: Stream::Stdout, pipe: Some(started.stdout) },
            OutputPipe { stream: Stream::Stderr, pipe: Some(started.stderr) },
        ],
        ending: Ending::new(started.pid, group, &spec.command, began),
        spool,
        buffer: Vec::new(),
        unwritten: None,
        _lock: inherited.lock,
    };
    keeper.watch()
}

struct OutputPipe {
    stream: Stream,
    /// `None` at its end.
    pipe: Option<OwnedFd>,
}

struct Keeper {
    folder: OwnedFd,
    children: setup::Children,
    door: Door,
    accepted: Accepted,
    began: Instant,
    stdin: Stdin,
    /// In inspect mode: the command's way to the system bus.
    bus: Option<Bus>,
    outputs: [OutputPipe; 2],
    ending: Ending,
    spool: SpoolWriter,
    /// Reused for every read; given its size by the first one.
    buffer: Vec<u8>,
    /// Read but not in the spool because the disk is full: stream and bytes of `buffer`.
    unwritten: Option<(Stream, usize)>,
    /// Open for as long as this process lives.
    _lock: OwnedFd,
}

/// What poll(2) found.
#[derive(Default)]
struct Ready {
    children: bool,
    knock: bool,
    agent: bool,
    stdin: bool,
    bus: bool,
}

impl Keeper {
    fn watch(mut self) -> io::Result<()> {
        loop {
            self.tell();
            let ready = self.wait()?;
            let now = Instant::now();
            if ready.children {
                self.children.drain();
            }
            self.ending.reap(now);
            if ready.knock {
                self.door.accept();
            }
            if ready.agent {
                for message in self.door.receive() {
                    self.obey(message, now);
                }
            }
            if ready.stdin {
                self.stdin.push();
            }
            if ready.bus
                && let Some(bus) = &self.bus
            {
                bus.answer();
            }
            self.read_outputs()?;
            let drained = self.is_drained();
            let blocked = self.is_blocked();
            if self.ending.step(now, drained, blocked) == Phase::Last && self.read_rest()? {
                return self.finish();
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.unwritten.is_none() && self.outputs.iter().all(|output| output.pipe.is_none())
    }

    fn is_blocked(&mut self) -> bool {
        self.unwritten.is_some() || self.spool.room() == 0
    }

    fn tell(&mut self) {
        let stdin = self.stdin.state();
        let to = self.spool.totals().all;
        let spool_from = self.spool.first();
        let accepted = self.accepted.clone();
        self.door.tell(to, stdin, || FromKeeper::Hello {
            version: wire::VERSION,
            keeper: std::process::id(),
            spool_from,
            spool_to: to,
            accepted,
            stdin,
        });
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> io::Result<Ready> {
        let now = Instant::now();
        let can_read = self.unwritten.is_none() && self.spool.room() > 0;
        let mut until = self.ending.next_step(now);
        let reachable = self.door.open_if_alone();
        if self.unwritten.is_some() || !reachable {
            let retry = now.checked_add(DISK_RETRY);
            until = until.min(retry).or(retry);
        }
        let pause = until.map(|until| until.saturating_duration_since(now));
        let mut watched = Vec::with_capacity(8);
        watched.push((self.children.as_fd(), Interest::Read));
        let mut knock = None;
        if let Some(listener) = self.door.listener() {
            knock = Some(watched.len());
            watched.push((listener.as_fd(), Interest::Read));
        }
        let mut agent = None;
        if let Some((stream, has_waiting)) = self.door.agent() {
            agent = Some(watched.len());
            let interest = if has_waiting { Interest::ReadOrWrite } else { Interest::Read };
            watched.push((stream.as_fd(), interest));
        }
        let mut stdin = None;
        if let Some((pipe, has_waiting)) = self.stdin.pipe() {
            stdin = Some(watched.len());
            watched.push((pipe.as_fd(), if has_waiting { Interest::Write } else { Interest::End }));
        }
        let mut bus = None;
        if let Some(open) = &self.bus {
            bus = Some(watched.len());
            watched.push((open.as_fd(), Interest::Read));
        }
        if can_read {
            for pipe in self.outputs.iter().filter_map(|output| output.pipe.as_ref()) {
                watched.push((pipe.as_fd(), Interest::Read));
            }
        }
        if self.ending.is_killing()
            && let Some(group) = self.ending.group()
        {
            watched.push((group.events().as_fd(), Interest::Urgent));
        }
        let found = pipe::wait(&watched, pause)?;
        let find = |at: Option<usize>| {
            at.and_then(|at| found.get(at)).copied().unwrap_or(Readiness::default())
        };
        let reader_gone = find(stdin).gone;
        let bus_gone = find(bus).gone;
        let ready = Ready {
            children: find(Some(0)).ready,
            knock: find(knock).ready,
            agent: find(agent).ready,
            stdin: find(stdin).ready,
            bus: find(bus).ready && !bus_gone,
        };
        if bus_gone {
            // Nobody is left who could ask.
            self.bus = None;
        }
        if reader_gone {
            self.stdin.close();
        }
        Ok(ready)
    }

    fn obey(&mut self, message: ToKeeper, now: Instant) {
        match message {
            ToKeeper::Release { upto } => self.spool.release(upto),
            ToKeeper::Input { offset, bytes } => self.stdin.take(offset, &bytes),
            ToKeeper::CloseInput { offset } => self.stdin.finish(offset),
            ToKeeper::Signal { signal } => self.ending.signal(to_signal(signal)),
            ToKeeper::Cancel { .. } => self.ending.ask(Why::Cancel, now),
            ToKeeper::Resize { .. } | ToKeeper::Unknown => {}
        }
    }

    /// One read from each pipe, so that neither waits for the other.
    fn read_outputs(&mut self) -> io::Result<()> {
        for at in 0..self.outputs.len() {
            self.read_output(at)?;
        }
        Ok(())
    }

    /// Whether bytes came.
    fn read_output(&mut self, at: usize) -> io::Result<bool> {
        if let Some((stream, count)) = self.unwritten {
            if self.spool.append(stream, &self.buffer[..count])? == Append::DiskFull {
                return Ok(false);
            }
            self.unwritten = None;
        }
        let room = usize::try_from(self.spool.room()).unwrap_or(READ_BYTES).min(READ_BYTES);
        let Some(output) = self.outputs.get_mut(at) else { return Ok(false) };
        let Some(pipe) = &output.pipe else { return Ok(false) };
        if room == 0 {
            return Ok(false);
        }
        if self.buffer.is_empty() {
            self.buffer = vec![0; READ_BYTES];
        }
        let count = match pipe::read(pipe, &mut self.buffer[..room]) {
            Ok(0) => {
                output.pipe = None;
                return Ok(false);
            }
            Ok(count) => count,
            Err(error) if pipe::is_passing(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.spool.append(output.stream, &self.buffer[..count])? == Append::DiskFull {
            self.unwritten = Some((output.stream, count));
        }
        Ok(true)
    }

    /// Reads what the pipes still hold. Whether that is all.
    fn read_rest(&mut self) -> io::Result<bool> {
        for at in 0..self.outputs.len() {
            // Nobody of the command writes any more, so this ends; the bound is for those who were
            // kept, or who took a descriptor away.
            let mut reads = 0;
            while reads < MAX_LAST_READS && self.read_output(at)? {
                reads += 1;
            }
        }
        if self.is_drained() {
            return Ok(true);
        }
        if self.is_blocked() {
            return Ok(false);
        }
        // Empty, and yet open: somebody outside holds the other end. Whoever was to be killed is
        // dead, so nothing of the command is missing.
        Ok(true)
    }

    fn finish(mut self) -> io::Result<()> {
        let totals = self.spool.totals();
        let result = OperationResult {
            outcome: self.ending.outcome().unwrap_or(Outcome::Exited { code: 255 }),
            started_us: Some(self.accepted.started_us),
            finished_us: host::now_us(),
            duration_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            containment: self.accepted.containment,
            totals,
            leftovers_killed: self.ending.leftovers_killed(),
            usage: setup::read_usage(),
        };
        self.tell();
        write_exit(&self.folder, &result)?;
        self.door.tell_exited();
        // Nobody has to wait for this: the group has been empty since before the result.
        self.ending.clean_up();
        Ok(())
    }
}

/// Writes the exit file, however long the disk stays full: without it the result would be lost.
fn write_exit(folder: &OwnedFd, result: &OperationResult) -> io::Result<()> {
    loop {
        match files::write(folder, result) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_disk_full() => {
                pipe::pause(DISK_RETRY);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn to_signal(name: SignalName) -> Signal {
    match name {
        SignalName::Hup => Signal::HUP,
        SignalName::Int => Signal::INT,
        SignalName::Quit => Signal::QUIT,
        SignalName::Term => Signal::TERM,
        SignalName::Kill => Signal::KILL,
        SignalName::Usr1 => Signal::USR1,
        SignalName::Usr2 => Signal::USR2,
        SignalName::Stop => Signal::STOP,
        SignalName::Cont => Signal::CONT,
    }
}
