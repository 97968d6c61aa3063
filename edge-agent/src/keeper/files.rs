//! The small files of an operation's folder. Each begins with eight bytes that name it and its
//! version, because an upgraded agent meets files of older keepers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use reeve_protocol::ops::{ExecuteCommand, Stdin};
use reeve_protocol::{OperationId, OperationResult};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host;
pub use crate::host::files::{is_disk_full, try_lock};
use crate::host::sandbox::Walls;
use crate::host::users::Account;

/// Name of the file that says what to run.
pub const SPEC: &str = "spec";
/// Name of the file that says what the agent answers itself.
pub const ASKED: &str = "asked";
/// Name of the file that says which process the keeper is.
pub const KEEPER: &str = "keeper";
/// Name of the file that says how it ended. Written last, after all output.
pub const EXIT: &str = "exit";
/// Name of the file whose lock says that the keeper lives.
pub const LOCK: &str = "lock";
/// Name of the keeper's socket.
pub const SOCKET: &str = "sock";

/// Small files are read whole; none of ours is larger.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What to run, and how. Written by the agent before it starts the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Which operation.
    pub id: OperationId,
    /// What was asked.
    pub command: ExecuteCommand,
    /// As whom.
    pub account: Account,
    /// Whether `account` is another than the agent's own.
    pub switch_user: bool,
    /// When the agent took it, machine's clock, microseconds since 1970.
    pub created_us: i64,
    /// The boot it belongs to.
    pub boot_id: String,
    /// The control group to make, or `None` for process groups.
    pub group: Option<PathBuf>,
    /// Bytes of output kept on disk at most.
    pub spool_bytes: u64,
    /// Bytes of one file of output.
    pub segment_bytes: u64,
    /// The walls around it, in inspect mode. Never left out there: without them nothing starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walls: Option<Walls>,
    /// The operation's name when the command is a worker of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// The terminal it runs on; left out: pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// A terminal as it is when it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
    /// The program is the user's shell and is to know that this is a login.
    pub login: bool,
    /// Closed when nothing was typed and nothing shown for this long, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_limit_ms: Option<u64>,
}

impl Spec {
    /// Whether stdin comes over the link.
    #[must_use]
    pub fn has_stdin(&self) -> bool {
        self.command.stdin == Stdin::Stream
    }
}

/// What the agent was asked and answers itself, without a keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which operation.
    pub id: OperationId,
    /// Its name.
    pub name: String,
    /// When the agent took it, machine's clock, microseconds since 1970.
    pub created_us: i64,
    /// The boot it belongs to.
    pub boot_id: String,
}

/// Which process the keeper is. Written by the keeper once it is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperFile {
    /// Process id.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
    /// The boot it lives in.
    pub boot_id: String,
    /// Its release.
    pub version: String,
}

/// A file with a name and version in front.
pub trait Filed: Serialize + DeserializeOwned {
    /// Seven letters and the version.
    const MAGIC: [u8; 8];
    /// The name in the operation's folder.
    const NAME: &'static str;
}

impl Filed for Spec {
    const MAGIC: [u8; 8] = *b"RVSPEC.\x01";
    const NAME: &'static str = SPEC;
}
impl Filed for Asked {
    const MAGIC: [u8; 8] = *b"RVASKED\x01";
    const NAME: &'static str = ASKED;
}
impl Filed for KeeperFile {
    const MAGIC: [u8; 8] = *b"RVKEEPR\x01";
    const NAME: &'static str = KEEPER;
}
/// The exit file is the result as it will be sent.
impl Filed for OperationResult {
    const MAGIC: [u8; 8] = *b"RVEXIT.\x01";
    const NAME: &'static str = EXIT;
}

/// Why a small file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What the file system says.
    #[error("{name}: {source}")]
    Io {
        /// Which file.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is of another kind, a newer version, or torn.
    #[error("{name} is damaged or of a version that this build does not know")]
    Damaged {
        /// Which file.
        name: &'static str,
    },
}

impl FileError {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the disk failed, which may pass.
    #[must_use]
    pub fn is_disk_failing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if host::files::is_disk_failing(source))
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_disk_full(source))
    }
}

/// The bytes of a file.
///
/// # Errors
/// When the value cannot be encoded.
pub fn to_bytes<T: Filed>(value: &T) -> Result<Vec<u8>, FileError> {
    let mut bytes = T::MAGIC.to_vec();
    let body = reeve_protocol::encode(value).map_err(|_| FileError::Damaged { name: T::NAME })?;
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The value in the bytes of a file.
///
/// # Errors
/// When they are something else.
pub fn from_bytes<T: Filed>(bytes: &[u8]) -> Result<T, FileError> {
    let damaged = || FileError::Damaged { name: T::NAME };
    let body = bytes.strip_prefix(T::MAGIC.as_slice()).ok_or_else(damaged)?;
    reeve_protocol::decode(body).map_err(|_| damaged())
}

/// Writes a file so that it is there whole or not at all, as far as other processes can see.
///
/// # Errors
/// What the file system says.
pub fn write<T: Filed>(folder: impl AsFd, value: &T) -> Result<(), FileError> {
    let io = |source: io::Error| FileError::Io { name: T::NAME, source };
    let bytes = to_bytes(value)?;
    let folder = folder.as_fd();
    let temporary = format!("{}.new", T::NAME);
    host::files::create(folder, &temporary)
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(io)?;
    host::files::rename(folder, &temporary, T::NAME).map_err(io)
}

/// Reads a file.
///
/// # Errors
/// What the file system says, or that it is damaged.
pub fn load<T: Filed>(folder: impl AsFd) -> Result<T, FileError> {
    let io = |source: io::Error| FileError::Io { name: T::NAME, source };
    let file = host::files::open(folder, T::NAME).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    from_bytes(&bytes)
}

/// Length of the lock file while a keeper is asked for and none has taken the operation. Empty, as
/// older agents left it, says that something of it may have started.
const OFFERED_BYTES: u64 = 1;

/// Says that nothing of the operation has started yet. Needs the lock.
///
/// # Errors
/// What the file system says.
pub fn offer(lock: impl AsFd) -> io::Result<()> {
    host::files::set_length(lock, OFFERED_BYTES)
}

/// What a keeper does before anything of its command can run. Nothing of this needs room on a disk.
///
/// # Errors
/// What the file system says; nothing may be started then.
pub fn take(lock: impl AsFd) -> io::Result<()> {
    host::files::set_length(lock, 0)
}

/// Whether no keeper ever took the operation, so that nothing of it ran and nothing ever will:
/// keepers have the lock from the moment they are asked for, and whoever asks here has it now. Only
/// true within the boot in which it was offered: a disk may forget what a keeper said last.
#[must_use]
pub fn was_never_taken(folder: impl AsFd, lock: &File) -> bool {
    let folder = folder.as_fd();
    lock.metadata().is_ok_and(|about| about.len() == OFFERED_BYTES)
        // A keeper of an older release takes nothing, but says who it is.
        && host::files::open(folder, KEEPER).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Opens the lock file of an operation's folder.
///
/// # Errors
/// What open(2) says.
pub fn open_lock(folder: impl AsFd) -> io::Result<File> {
    host::files::open_or_create(folder, LOCK)
}
