//! The keeper: one small process per command, which owns the command's pipes, its processes, its
//! output on disk and its exit status, and outlives the agent. One thread, one loop, no runtime.

pub mod door;
pub mod ending;
pub mod files;
mod output;
pub mod redact;
pub mod spool;
mod start;
mod stdin;
mod terminal;
pub mod wire;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use reeve_protocol::{Accepted, OperationResult, Outcome, Stream, Totals};

use crate::host;
use crate::host::pipe::{self, Interest, Readiness};
use crate::host::sandbox::Bus;
use crate::host::setup::{self, Inherited};
use door::Door;
use ending::{Ending, Phase, Why};
use files::{KeeperFile, Spec};
use output::Outputs;
use spool::SpoolWriter;
pub use start::{MARK, refuse_inspection};
use stdin::Stdin;
use terminal::Terminal;
use wire::{FromKeeper, ToKeeper};

/// How soon to try again when the disk is full.
const DISK_RETRY: Duration = Duration::from_millis(200);

/// Runs a keeper for the operation in this folder, in a process that was started for it.
///
/// # Errors
/// As [`keep`].
pub fn run(folder: &OsStr) -> io::Result<()> {
    keep(folder, setup::detach()?)
}

/// Runs a keeper for the operation in this folder, until its command is over and everything about
/// it is on disk.
///
/// # Errors
/// When it could not even begin; nothing of the command ran then.
pub fn keep(folder: &OsStr, inherited: Inherited) -> io::Result<()> {
    let folder = host::unix::open_folder(Path::new(folder))?;
    let spec: Spec = files::load(&folder).map_err(io::Error::other)?;
    let children = setup::watch_children()?;
    let mut door = Door::new(folder.try_clone()?, inherited.agent)?;
    // From here on something of it may have started, whatever becomes of us.
    if let Err(error) = files::take(&inherited.lock) {
        return never_run(&folder, &mut door, start::refuse(&error));
    }
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
            return never_run(&folder, &mut door, outcome);
        }
    };
    let pid = std::process::id();
    let about = KeeperFile {
        pid,
        start_time: host::process::find_start_time(pid).unwrap_or(0),
        boot_id: spec.boot_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    // Only evidence, for which no command has to wait: the lock is what says that we live. A full
    // disk must not stop us here.
    let _ = files::write(&folder, &about);
    let spool = SpoolWriter::new(
        folder.try_clone()?,
        spec.spool_bytes,
        spec.segment_bytes,
        spec.command.spool_full,
    );
    let terminal = match &spec.terminal {
        Some(asked) => Some(Terminal::new(asked, &started.stdout, started.slave, began)?),
        None => None,
    };
    let master = terminal.as_ref().map(|_| started.stdout.try_clone()).transpose()?;
    let keeper = Keeper {
        folder,
        children,
        door,
        accepted: Accepted { started_us, pid: Some(started.pid), containment },
        began,
        stdin: match &terminal {
            Some(_) => Stdin::typed(started.stdin),
            None => Stdin::new(started.stdin),
        },
        terminal,
        bus: started.bus,
        outputs: Outputs::new(started.stdout, started.stderr, spec.command.redact),
        ending: Ending::new(started.pid, group, master, &spec.command, began),
        spool,
        _lock: inherited.lock,
    };
    keeper.watch()
}

/// Where no process could be made for a keeper: nothing ran, and that is what its agent finds.
pub fn refuse(folder: &OsStr, agent: UnixStream, error: &io::Error) {
    let result = describe_never_run(start::refuse(error));
    let written = host::unix::open_folder(Path::new(folder))
        .map_err(|_| ())
        .and_then(|folder| files::write(&folder, &result).map_err(|_| ()).map(|()| folder));
    // Without it the agent finds a keeper that never was, and calls that lost.
    if let Ok(folder) = written
        && let Ok(mut door) = Door::new(folder, agent)
    {
        door.tell_exited();
    }
}

/// Writes down why nothing of it ran.
fn never_run(folder: &OwnedFd, door: &mut Door, outcome: Outcome) -> io::Result<()> {
    write_exit(folder, &describe_never_run(outcome))?;
    door.tell_exited();
    Ok(())
}

fn describe_never_run(outcome: Outcome) -> OperationResult {
    OperationResult {
        outcome,
        started_us: None,
        finished_us: host::now_us(),
        duration_ms: 0,
        containment: reeve_protocol::Containment::None,
        totals: Totals::default(),
        leftovers_killed: 0,
        usage: Default::default(),
    }
}

struct Keeper {
    folder: OwnedFd,
    children: setup::Children,
    door: Door,
    accepted: Accepted,
    began: Instant,
    stdin: Stdin,
    /// When the command is on one.
    terminal: Option<Terminal>,
    /// In inspect mode: the command's way to the system bus.
    bus: Option<Bus>,
    outputs: Outputs,
    ending: Ending,
    spool: SpoolWriter,
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
            self.outputs.read(&mut self.spool)?;
            self.look_after_terminal(now);
            let drained = self.outputs.is_drained();
            let blocked = self.is_blocked();
            if self.ending.step(now, drained, blocked) == Phase::Last
                && self.outputs.read_rest(&mut self.spool)?
            {
                return self.finish();
            }
        }
    }

    fn look_after_terminal(&mut self, now: Instant) {
        let Some(terminal) = &mut self.terminal else { return };
        if self.ending.has_ended() {
            terminal.let_go();
            return;
        }
        terminal.note_use(self.stdin.state().received, self.spool.totals().all, now);
        if let Some(message) = terminal.close_if_idle(now) {
            // Without room for it the end comes without a word.
            if self.spool.room() >= message.len() as u64 {
                let _ = self.spool.append(Stream::Stdout, message.as_bytes());
            }
            self.ending.ask(Why::Timeout, now);
        }
    }

    fn is_blocked(&mut self) -> bool {
        self.outputs.is_waiting() || self.spool.room() == 0
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
        let can_read = !self.outputs.is_waiting() && self.spool.room() > 0;
        let mut until = self.ending.next_step(now);
        if let Some(look_at) = self.outputs.look_at() {
            until = until.min(Some(look_at)).or(Some(look_at));
        }
        if !self.ending.has_ended()
            && let Some(idle_at) = self.terminal.as_ref().and_then(Terminal::idle_at)
        {
            until = until.min(Some(idle_at)).or(Some(idle_at));
        }
        let reachable = self.door.open_if_alone();
        if self.outputs.is_waiting() || !reachable {
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
            for pipe in self.outputs.pipes() {
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
            ToKeeper::Input { offset, bytes } => self.stdin.take(offset, bytes),
            ToKeeper::CloseInput { offset } => self.stdin.finish(offset),
            ToKeeper::Signal { signal } => self.ending.signal(host::process::to_signal(signal)),
            ToKeeper::Cancel { .. } => self.ending.ask(Why::Cancel, now),
            ToKeeper::Resize { columns, rows } => {
                if let Some(terminal) = &self.terminal {
                    terminal.resize(columns, rows);
                }
            }
            ToKeeper::Unknown => {}
        }
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
        // Nobody has to wait for this: the group has been empty since before the result. The agent
        // was put behind this process, where there was no idle processor; it goes first.
        rustix::thread::sched_yield();
        self.ending.clean_up();
        Ok(())
    }
}

/// Writes the exit file, however long the disk stays full: without it the result would be lost.
fn write_exit(folder: &OwnedFd, result: &OperationResult) -> io::Result<()> {
    let mut failed = 0;
    loop {
        match files::write(folder, result) {
            Ok(()) => return Ok(()),
            Err(error) if error.is_disk_full() => {
                pipe::pause(DISK_RETRY);
            }
            Err(error) if error.is_disk_failing() && failed < spool::PATIENCE => {
                failed += 1;
                pipe::pause(DISK_RETRY);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}
