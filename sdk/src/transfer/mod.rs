//! Files up to machines and down from them: with progress, gone on with where a transfer stopped,
//! and compared by hash before anything gets its name.

mod answer;
mod between;
mod content;
mod download;
mod fan_out;
mod hand_out;
mod local_source;
#[cfg(not(fuzzing))]
mod local_target;
#[cfg(fuzzing)]
pub mod local_target;
#[cfg(not(fuzzing))]
mod local_tree;
#[cfg(fuzzing)]
pub mod local_tree;
mod pipes;
mod replay;
#[cfg(not(fuzzing))]
mod stream;
#[cfg(fuzzing)]
pub mod stream;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reeve_protocol::OperationId;
use reeve_protocol::ops::copy_stream::BadStream;
use reeve_protocol::ops::{Failure, RemotePath, WriteDeed};

pub use between::Across;
pub use content::{Content, Take, stream_of};
pub use download::{Download, has_begun};
pub use fan_out::{FanOut, ManyProgress};
pub use local_target::{LocalTarget, Placing};
pub use upload::{LocalSource, Upload};

use crate::Error;
use crate::api::{Operation, OperationState};
use crate::retry::Backoff;

/// Somebody who watches a transfer. Every method may be called from any thread.
pub trait Progress: Send + Sync {
    /// Bytes in all, as far as is known.
    fn total(&self, _bytes: u64) {}
    /// So many bytes have come further, those of a former attempt included.
    fn moved(&self, _bytes: u64) {}
    /// What has come before is gone on with behind so many bytes.
    fn resumed(&self, _from: u64) {}
    /// A file, folder or link begins.
    fn entry(&self, _path: &RemotePath) {}
    /// The operation that does it now; to be cancelled when it is no longer wanted.
    fn operation(&self, _id: OperationId) {}
    /// It broke off, and is being gone on with.
    fn interrupted(&self, _why: &str) {}
    /// Something was left out.
    fn skipped(&self, _failure: &Failure) {}
}

/// Nobody watches.
pub struct Unwatched;

impl Progress for Unwatched {}

/// What a transfer came to.
#[derive(Clone, Debug, Default)]
pub struct Transferred {
    /// Files, folders and links that were written.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes that really travelled, in this run.
    pub sent: u64,
    /// What was left out.
    pub skipped: u64,
    /// BLAKE3 of one file.
    pub hash: Option<String>,
    /// What became of one file.
    pub deed: Option<WriteDeed>,
    /// Where it is.
    pub path: RemotePath,
    /// In a dry run: what would become of each file.
    pub would: Vec<(RemotePath, WriteDeed, u64)>,
}

/// Why a transfer ended without all of it being there.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The coordinator refused, or was not to be reached.
    #[error(transparent)]
    Api(#[from] Error),
    /// The machine could not do it.
    #[error("{}: {}", .1, .0.message)]
    Machine(Failure, String),
    /// The operation ended otherwise than well.
    #[error("'{}' did not finish it: {}", .0.machine, ended_how(.0))]
    Ended(Box<Operation>),
    /// Something on this side.
    #[error("{}: {}", .0.display(), .1)]
    Local(PathBuf, #[source] io::Error),
    /// Something on this side that is no error of the system.
    #[error("{0}")]
    Refused(String),
    /// What came makes no sense.
    #[error("what the machine sent cannot be used: {0}")]
    Stream(#[from] BadStream),
}

fn ended_how(operation: &Operation) -> String {
    match &operation.reason {
        Some(reason) => reason.message.clone(),
        None => operation.state.as_str().to_owned(),
    }
}

impl TransferError {
    pub(crate) fn local(path: &Path, error: io::Error) -> Self {
        Self::Local(path.to_owned(), error)
    }

    /// The stable code of the machine's or coordinator's answer.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api(error) => error.code(),
            Self::Machine(failure, _) => Some(&failure.code),
            Self::Ended(operation) => operation.reason.as_ref().map(|reason| reason.code.as_str()),
            _ => None,
        }
    }

    /// Whether going on with what has come may succeed a little later.
    fn may_go_on(&self) -> bool {
        match self {
            Self::Api(error) => {
                error.is_transient()
                    || matches!(error, Error::RelayBroken { .. } | Error::LostContact { .. })
                    || matches!(error.code(), Some("machine_offline"))
            }
            Self::Machine(failure, _) => matches!(failure.code.as_str(), "cut" | "busy"),
            Self::Ended(operation) => match operation.state {
                OperationState::Lost | OperationState::Expired => true,
                // Somebody killed the worker.
                OperationState::Failed => operation.signal.is_some(),
                _ => operation.reason.as_ref().is_some_and(|reason| {
                    matches!(reason.code.as_str(), "machine_offline" | "busy" | "journal_gone")
                }),
            },
            Self::Stream(error) => error.is_cut(),
            Self::Local(..) | Self::Refused(_) => false,
        }
    }
}

/// Attempts of one transfer: as long as something comes further now and then, it goes on.
struct Attempts {
    backoff: Backoff,
    limit: Duration,
    last_progress: Instant,
    reached: u64,
    first: bool,
}

impl Attempts {
    fn new(limit: Duration) -> Self {
        Self {
            backoff: Backoff::new(),
            limit,
            last_progress: Instant::now(),
            reached: 0,
            first: true,
        }
    }

    /// Waits for the next attempt, or gives the error back when there is to be none. `reached`:
    /// how far it has come.
    async fn after(
        &mut self,
        error: TransferError,
        reached: u64,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let Some(pause) = self.pause(&error, reached) else { return Err(error) };
        progress.interrupted(&error.to_string());
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// How long to wait before the next attempt; `None` when there is to be none.
    fn pause(&mut self, error: &TransferError, reached: u64) -> Option<Duration> {
        if reached > self.reached {
            self.reached = reached;
            self.backoff = Backoff::new();
            self.last_progress = Instant::now();
        }
        // What never began is told at once: the name is wrong, the machine is off.
        let began = reached > 0 || !self.first;
        if !began || !error.may_go_on() || self.last_progress.elapsed() > self.limit {
            return None;
        }
        self.first = false;
        Some(self.backoff.pause(None))
    }
}

/// Names a transfer by what it is about, so that the next attempt finds what came, whoever makes it.
fn token_of(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().as_str().chars().take(32).collect()
}
