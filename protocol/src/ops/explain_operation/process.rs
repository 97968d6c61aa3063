//! What `/proc` tells of one process (proc(5)).

use serde::{Deserialize, Serialize};

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessFinding {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// The kernel's short name for it.
    pub name: String,
    /// Its command line, cut, without secrets.
    pub command: String,
    /// As whom.
    pub uid: Option<u32>,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, … (proc_pid_stat(5)).
    pub state: String,
    /// How long it has been running, milliseconds.
    pub running_ms: u64,
    /// The kernel's function in which it sleeps.
    pub wchan: Option<String>,
    /// The system call in which it sleeps.
    pub syscall: Option<SyscallFinding>,
    /// The kernel's stack, the innermost function first, where it may be read.
    pub stack: Vec<String>,
    /// Descriptors that it waits for, as far as that can be told.
    pub waits_for: Vec<u32>,
    /// How long it asked to sleep, milliseconds.
    pub sleep_ms: Option<u64>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Where it waits for a file system: what of its mounts that is.
    pub mount: Option<MountFinding>,
    /// Its children among those told of.
    pub children: Vec<u32>,
    /// Its descriptors that matter.
    pub descriptors: Vec<DescriptorFinding>,
    /// Descriptors that are open and not told of.
    pub descriptors_left_out: u32,
    /// Locks that it waits for, and who holds them.
    pub waits_for_locks: Vec<LockFinding>,
    /// Threads other than the first, by what they do.
    pub threads: Vec<ThreadFinding>,
    /// Processor time between the two looks, milliseconds, all threads.
    pub cpu_ms: u64,
    /// Processor time in all, milliseconds.
    pub cpu_total_ms: u64,
    /// Bytes read between the two looks, from files, pipes and sockets.
    pub read_bytes: Option<u64>,
    /// Bytes written likewise.
    pub written_bytes: Option<u64>,
    /// How often it went to sleep by itself between the two looks.
    pub voluntary_switches: u64,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
}

/// A system call that has not returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyscallFinding {
    /// Its number on this machine.
    pub number: i64,
    /// Its name, where it is known.
    pub name: Option<String>,
    /// Its six arguments, hexadecimal.
    pub arguments: Vec<String>,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DescriptorKind {
    /// `/dev/null`.
    Null,
    /// A terminal.
    Tty,
    /// A pipe without a name.
    Pipe,
    /// A pipe with a name (fifo(7)).
    Fifo,
    /// A file or directory.
    File,
    /// A socket.
    Socket,
    /// Something of the kernel's: epoll, a timer, …
    #[default]
    #[serde(other)]
    Other,
}

/// One open descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescriptorFinding {
    /// Its number.
    pub fd: u32,
    /// What it is.
    pub kind: DescriptorKind,
    /// Path, or the kernel's name for it.
    pub target: String,
    /// It can be read from.
    pub can_read: bool,
    /// It can be written to.
    pub can_write: bool,
    /// Of a pipe: who holds the other end. Empty with `other_end_known`: nobody.
    pub other_end: Vec<Peer>,
    /// Whether all processes could be asked about the other end.
    pub other_end_known: bool,
    /// Of a socket.
    pub socket: Option<SocketFinding>,
}

/// Another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Its id.
    pub pid: u32,
    /// The kernel's short name for it.
    pub name: String,
    /// Its command line, cut, without secrets.
    pub command: String,
    /// It is our keeper, so what matters is the link.
    pub is_keeper: bool,
    /// It belongs to the same operation.
    pub is_own: bool,
}

/// Where a socket leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketFinding {
    /// `tcp`, `udp`, `unix`, …
    pub family: String,
    /// Own address.
    pub local: String,
    /// Address of the other end; empty when there is none.
    pub remote: String,
    /// `ESTABLISHED`, `SYN_SENT`, `LISTEN`, …
    pub state: String,
    /// Bytes that the other end has not taken yet.
    pub send_queue: u64,
    /// Bytes that this end has not read yet.
    pub receive_queue: u64,
}

/// A lock on a file (proc_locks(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockFinding {
    /// `flock`, `posix`, `ofd`, `lease`.
    pub kind: String,
    /// `read` or `write`.
    pub access: String,
    /// The file, where it could be found.
    pub path: String,
    /// Who holds it.
    pub holders: Vec<Peer>,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountFinding {
    /// Where it is mounted.
    pub point: String,
    /// `nfs4`, `ext4`, `fuse.sshfs`, …
    pub kind: String,
    /// What is mounted, such as `nas.example:/export`.
    pub source: String,
    /// The path that is waited for.
    pub path: String,
}

/// Threads that do the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadFinding {
    /// As of a process.
    pub state: String,
    /// The kernel's function in which they sleep.
    pub wchan: String,
    /// How many.
    pub count: u32,
}
