//! One file that is being written or read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use reeve_protocol::{UploadId, UserId};
use reeve_sdk::api::UploadState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::store::Row;
use crate::users::Principal;

/// Bytes hashed at once when a file is read again.
const HASH_BYTES: usize = 1024 * 1024;

/// How far a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// On the disk, and never taken back.
    pub received: u64,
    /// Whether there will be more.
    pub state: UploadState,
    /// As announced, or as computed once it is complete.
    pub blake3: Option<String>,
}

/// A file.
pub(crate) struct Kept {
    pub(crate) id: UploadId,
    pub(crate) size: u64,
    principal: String,
    user: UserId,
    file: Arc<File>,
    progress: watch::Sender<Progress>,
    /// Held by the one who appends.
    pub(super) turn: tokio::sync::Mutex<Hashed>,
    /// Stops who appends: somebody else has come to do it.
    appender: Mutex<CancellationToken>,
}

/// The hash of everything below an offset.
#[derive(Default)]
pub(super) struct Hashed {
    pub at: u64,
    pub hasher: blake3::Hasher,
}

impl Kept {
    /// Opens the file of a row. What is in it beyond what the row says may not have reached the
    /// disk, and goes.
    pub(super) fn open(row: Row, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(row.received == 0)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::other(format!("{} is gone from the disk", path.display())));
            }
            other => other?,
        };
        let length = file.metadata()?.len();
        if length < row.received {
            return Err(io::Error::other(format!(
                "{} has {length} bytes and {} had been written",
                path.display(),
                row.received
            )));
        }
        if length > row.received && row.state == UploadState::Open {
            file.set_len(row.received)?;
        }
        let progress = Progress { received: row.received, state: row.state, blake3: row.blake3 };
        Ok(Self {
            id: row.id,
            size: row.size,
            principal: row.principal,
            user: row.user,
            file: Arc::new(file),
            progress: watch::Sender::new(progress),
            turn: tokio::sync::Mutex::default(),
            appender: Mutex::default(),
        })
    }

    /// Whether it is theirs.
    pub(super) fn is_of(&self, principal: &Principal) -> bool {
        self.principal == principal.name && self.user == principal.user
    }

    /// Whether more of it is awaited.
    pub(super) fn is_open(&self) -> bool {
        self.progress.borrow().state == UploadState::Open
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Tells of every step.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Whoever appends stops; the token stops who asked.
    pub(super) fn take_over(&self) -> CancellationToken {
        let fresh = CancellationToken::new();
        let mut appender = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *appender, fresh.clone()).cancel();
        fresh
    }

    /// Nothing will come of it any more.
    pub(super) fn give_up(&self) {
        self.take_over();
        self.publish(|progress| progress.state = UploadState::Broken);
    }

    /// Bytes from an offset on, at most `most`, of those that are on the disk.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub(crate) async fn read(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let there = self.progress.borrow().received.saturating_sub(offset);
        let length = usize::try_from(there).unwrap_or(usize::MAX).min(most);
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut bytes = BytesMut::zeroed(length);
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes.freeze())
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Writes a block behind what was hashed, and hashes it. With `sync` it is on the disk
    /// afterwards. Blocks.
    pub(super) fn write(file: &File, hashed: &mut Hashed, at: u64, block: &[u8]) -> io::Result<()> {
        file.write_all_at(block, at)?;
        if hashed.at == at {
            hashed.hasher.update(block);
            hashed.at += block.len() as u64;
        }
        Ok(())
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The hash of the whole file, which is read again from where `hashed` ends. Blocks.
    pub(super) fn hash(file: &File, hashed: &mut Hashed, size: u64) -> io::Result<String> {
        let mut buffer = vec![0; HASH_BYTES];
        while hashed.at < size {
            let rest = usize::try_from(size - hashed.at).unwrap_or(usize::MAX).min(HASH_BYTES);
            let Some(block) = buffer.get_mut(..rest) else { break };
            file.read_exact_at(block, hashed.at)?;
            hashed.hasher.update(block);
            hashed.at += rest as u64;
        }
        Ok(hashed.hasher.finalize().to_hex().to_string())
    }
}
