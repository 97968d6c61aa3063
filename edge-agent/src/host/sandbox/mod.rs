//! Inspect mode: a command that may read the whole machine and change nothing of it. Each wall is
//! the kernel's own, and a command whose walls do not all stand is never started.
//!
//! The keeper makes the view of the files ([`mounts`]) and prepares the rest before it forks; the
//! child closes the walls around itself ([`enter`]) and executes the command. `docs/security.md`
//! says what each wall is for.

mod blocked;
mod bus;
mod enter;
mod landlock;
mod mounts;
mod probe;
mod seccomp;
mod uids;

use std::os::fd::OwnedFd;

use reeve_protocol::ops::Network;
use serde::{Deserialize, Serialize};

pub use blocked::{ALWAYS_BLOCKED, Candidate, expand, list_candidates};
pub use bus::{Bus, SYSTEM_BUS};
pub use enter::STEPS;
pub(super) use enter::enter;
pub use mounts::{NOTICE, SCRATCH, SCRATCH_BYTES};
pub use probe::{INNER, OUTER, probe, probe_inside, run_probe};
pub use uids::{UidRange, choose_uids};

/// Processes and threads that one command may have at the same time.
pub const MAX_PROCESSES: u64 = 256;

/// What the machine's owner decides about a command in inspect mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// The user and group it runs as: not 0, and nobody else's.
    pub uid: u32,
    /// Files and folders it may not read, besides [`ALWAYS_BLOCKED`]; `~` is every user's home.
    pub blocked: Vec<String>,
    /// Only beneath these may it read; `["/"]` is everywhere.
    pub allowed: Vec<String>,
    /// Names of the D-Bus socket it may connect to; empty for none.
    pub bus: Vec<String>,
}

/// Why inspect mode cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refuses a step.
    #[error("{what}: {source}")]
    Step {
        /// Which step.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something stays writable.
    #[error("{0} could not be made read-only")]
    Writable(String),
    /// The policy asks for what cannot be done.
    #[error("{0}")]
    Policy(String),
    /// There is no filter for this kind of processor.
    #[error("there is no system call filter for this processor ({0})")]
    Processor(&'static str),
}

impl SandboxError {
    fn step(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        |source| Self::Step { what, source }
    }
}

/// Everything that the child needs to close the walls around itself.
#[derive(Debug)]
pub struct Sandbox {
    pub(super) uid: u32,
    /// A network namespace of its own.
    pub(super) own_network: bool,
    /// Rules of Landlock, where the kernel has it.
    pub(super) landlock: Option<OwnedFd>,
    /// The system call filter.
    pub(super) filter: Vec<seccompiler::sock_filter>,
    /// Where the child sends what the keeper answers its connects on; `None` without a bus.
    pub(super) bus: Option<OwnedFd>,
    /// `/proc` as it is outside, writable: for `oom_score_adj`.
    pub(super) proc: OwnedFd,
}

/// A sandbox, and this process inside its view of the files until [`Prepared::leave`].
#[derive(Debug)]
pub struct Prepared {
    /// For the child.
    pub sandbox: Sandbox,
    outside: mounts::Outside,
    bus: Option<OwnedFd>,
}

/// Makes a view of the files in which nothing can be written, moves this process into it so that a
/// child is born there, and prepares the other walls. This process must have one thread only.
///
/// # Errors
/// Which wall cannot be made; this process is outside again then.
pub fn prepare(walls: &Walls, network: Network) -> Result<Prepared, SandboxError> {
    // With internet sockets around, one could be put in the place of a unix one while it is asked.
    let has_bus = network != Network::Use && bus::is_there(&walls.bus);
    let filter = seccomp::build(network, has_bus)?;
    let (ours, theirs) = match has_bus.then(bus::pair).transpose() {
        Ok(pair) => pair.unzip(),
        Err(error) => return Err(SandboxError::step("making a pair of sockets")(error)),
    };
    let proc = super::unix::open_folder(std::path::Path::new("/proc"))
        .map_err(SandboxError::step("opening /proc"))?;
    let outside = mounts::Outside::remember()?;
    let made = mounts::build(walls).and_then(|()| landlock::build(walls, network));
    match made {
        Ok(landlock) => {
            let own_network = network == Network::None;
            let uid = walls.uid;
            let sandbox = Sandbox { uid, own_network, landlock, filter, bus: theirs, proc };
            Ok(Prepared { sandbox, outside, bus: ours })
        }
        Err(error) => {
            outside.go_back()?;
            Err(error)
        }
    }
}

impl Prepared {
    /// The way to the bus, once the child has been started.
    #[must_use]
    pub fn find_bus(&self, walls: &Walls) -> Option<Bus> {
        Bus::receive(self.bus.as_ref()?, &walls.bus)
    }

    /// Moves this process out again; the child stays.
    ///
    /// # Errors
    /// What setns(2) says. This process must not go on then: it sees the sandbox's files.
    pub fn leave(self) -> Result<(), SandboxError> {
        self.outside.go_back()
    }
}
