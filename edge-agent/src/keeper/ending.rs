//! How a command comes to its end: by itself, by its time, by a cancel; and how nothing of it is
//! left behind.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use reeve_protocol::ops::Leftovers;
use reeve_protocol::{Outcome, limits};

use crate::host::cgroup::Group;
use crate::host::child::{Ended, Reaped, reap};
use crate::host::process::{self, Signal};
use crate::host::terminal;

/// How often to look whether the killed are gone, when nothing else wakes us.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A process closes its descriptors a moment before it is gone. Those whose output has ended get
/// this long to be gone by themselves before they count as left behind.
const SETTLE: Duration = Duration::from_millis(50);

/// When the program a terminal was opened for has ended, the session is over: whoever is left in it
/// gets this long to go by itself (the kernel has sent SIGHUP to those in front).
const HANGUP_TIMEOUT: Duration = Duration::from_millis(300);

/// Why a command is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time is up.
    Timeout,
    /// Somebody cancelled it.
    Cancel,
}

/// What to do about output next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Read as it comes.
    Open,
    /// Every process is gone, or nobody waits for those left: read what is in the pipes, no more.
    Last,
}

/// The command's processes, from start to end.
#[derive(Debug)]
pub struct Ending {
    pid: u32,
    group: Option<Group>,
    /// The master of the terminal it is on.
    terminal: Option<OwnedFd>,
    leftovers: Leftovers,
    grace: Duration,
    timeout_at: Option<Instant>,
    why: Option<Why>,
    /// When asking turns into killing.
    kill_at: Option<Instant>,
    ended: Option<Ended>,
    drain_until: Option<Instant>,
    drained: bool,
    killing: bool,
    killed: std::collections::HashSet<u32>,
    no_children: bool,
    over: bool,
}

impl Ending {
    /// For a command just started.
    #[must_use]
    pub fn new(
        pid: u32,
        group: Option<Group>,
        terminal: Option<OwnedFd>,
        command: &reeve_protocol::ops::ExecuteCommand,
        now: Instant,
    ) -> Self {
        Self {
            pid,
            group,
            terminal,
            leftovers: command.leftovers,
            grace: Duration::from_millis(command.grace_ms),
            timeout_at: command
                .timeout_ms
                .and_then(|limit| now.checked_add(Duration::from_millis(limit))),
            why: None,
            kill_at: None,
            ended: None,
            drain_until: None,
            drained: false,
            killing: false,
            killed: std::collections::HashSet::new(),
            no_children: false,
            over: false,
        }
    }

    /// The group, for its events.
    #[must_use]
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Whether it is time to look at the group's events.
    #[must_use]
    pub fn is_killing(&self) -> bool {
        self.killing
    }

    /// A signal from a user. Nothing happens when the command has ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            process::signal_group(self.find_foreground().unwrap_or(self.pid), signal);
        }
    }

    /// On a terminal: the process group that is in front.
    fn find_foreground(&self) -> Option<u32> {
        self.terminal.as_ref().and_then(terminal::find_foreground)
    }

    /// Asks the command to end, and kills it after the grace.
    pub fn ask(&mut self, why: Why, now: Instant) {
        if self.ended.is_some() {
            // It ended by itself; what is left of it has waited long enough.
            self.killing = self.leftovers == Leftovers::Kill;
            self.drain_until = Some(now);
            return;
        }
        if self.why.is_some() {
            return;
        }
        self.why = Some(why);
        self.kill_at = now.checked_add(self.grace);
        // Shells at a terminal take no notice of TERM; that it is gone they do notice.
        let ask = if self.terminal.is_some() { Signal::HUP } else { Signal::TERM };
        let in_front = self.find_foreground().filter(|group| *group != self.pid);
        for group in [Some(self.pid), in_front].into_iter().flatten() {
            process::signal_group(group, ask);
            // A stopped process would not notice.
            process::signal_group(group, Signal::CONT);
        }
    }

    /// Collects children that ended, orphans included.
    pub fn reap(&mut self, now: Instant) {
        loop {
            match reap() {
                Reaped::Child(pid, ended) if pid == self.pid => {
                    self.ended = Some(ended);
                    self.drain_until = now.checked_add(self.drain_time());
                }
                Reaped::Child(..) => {}
                Reaped::NotYet => {
                    self.no_children = false;
                    return;
                }
                Reaped::NoChildren => {
                    self.no_children = true;
                    return;
                }
            }
        }
    }

    /// The next step. `drained`: both pipes are at their end. `blocked`: output waits for room, so
    /// the time to drain does not run.
    pub fn step(&mut self, now: Instant, drained: bool, blocked: bool) -> Phase {
        if !self.over {
            self.over = self.try_step(now, drained, blocked) == Phase::Last;
        }
        if self.over { Phase::Last } else { Phase::Open }
    }

    fn try_step(&mut self, now: Instant, drained: bool, blocked: bool) -> Phase {
        if self.ended.is_none() {
            if self.why.is_none() && self.timeout_at.is_some_and(|at| at <= now) {
                self.ask(Why::Timeout, now);
            }
            if self.kill_at.is_some_and(|at| at <= now) {
                self.killing = true;
            }
            if self.killing {
                self.kill();
                // The main process comes back through reap.
            }
            return Phase::Open;
        }
        if blocked && !self.killing && self.why.is_none() {
            self.drain_until = now.checked_add(self.drain_time());
        }
        if drained && !self.drained {
            self.drained = true;
            self.drain_until = self.drain_until.min(now.checked_add(SETTLE));
        }
        let over = self.drain_until.is_some_and(|until| until <= now);
        if self.why.is_none() && self.leftovers == Leftovers::Keep {
            return if over || drained { Phase::Last } else { Phase::Open };
        }
        if self.is_empty() {
            return Phase::Last;
        }
        if self.why.is_some() || over {
            self.killing = true;
        }
        if self.killing {
            self.kill();
            if self.is_empty() {
                return Phase::Last;
            }
        }
        Phase::Open
    }

    /// Whether the command itself has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    fn drain_time(&self) -> Duration {
        if self.terminal.is_some() { HANGUP_TIMEOUT } else { limits::DRAIN_TIMEOUT }
    }

    /// Whether no process of it is left. As a subreaper the keeper is the parent of every orphan:
    /// without children there are no descendants.
    fn is_empty(&self) -> bool {
        self.no_children && self.group.as_ref().is_none_or(|group| !group.is_populated())
    }

    fn kill(&mut self) {
        let mut alive: Vec<u32> = self.group.as_ref().map(Group::list).unwrap_or_default();
        // Also those that left the group (root can) or never had one.
        if !self.no_children {
            alive.extend(process::list_descendants(std::process::id()));
        }
        if let Some(group) = &self.group {
            group.kill();
        }
        for pid in alive {
            // Those of the group are gone already; the others go now.
            process::kill(pid);
            if self.ended.is_some() {
                self.killed.insert(pid);
            }
        }
    }

    /// When [`Self::step`] has to be called again at the latest.
    #[must_use]
    pub fn next_step(&self, now: Instant) -> Option<Instant> {
        if self.over {
            // Only output that finds no room is left; room comes with a message.
            return None;
        }
        if self.killing {
            return now.checked_add(LOOK_AGAIN);
        }
        if self.ended.is_some() {
            return self.drain_until;
        }
        match (self.timeout_at.filter(|_| self.why.is_none()), self.kill_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let (exit_code, signal) = match self.ended? {
            Ended::Exited(code) => (Some(code), None),
            Ended::Signaled(signal) => (None, Some(signal)),
        };
        Some(match (self.why, self.ended?) {
            (Some(Why::Timeout), _) => Outcome::TimedOut { exit_code, signal },
            (Some(Why::Cancel), _) => Outcome::Cancelled { exit_code, signal },
            (None, Ended::Exited(code)) => Outcome::Exited { code },
            (None, Ended::Signaled(signal)) => Outcome::Signaled { signal },
        })
    }

    /// Processes that were alive after the command had ended and were killed.
    #[must_use]
    pub fn leftovers_killed(&self) -> u32 {
        u32::try_from(self.killed.len()).unwrap_or(u32::MAX)
    }

    /// Removes the group, unless processes were to be kept in it.
    pub fn clean_up(&self) {
        if let Some(group) = &self.group {
            group.remove();
        }
    }
}
