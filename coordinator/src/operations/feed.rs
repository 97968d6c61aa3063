//! Stdin out of files kept at the coordinator: one feeder for each operation that reads one, from
//! when it is sent to its machine until it takes no more.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reeve_protocol::{OperationId, UploadId, limits};
use reeve_sdk::api::UploadState;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::conductor::{CancelTarget, Request};
use super::stdin::{Patience, Source, SourceError, Stdins};
use crate::fleet::Fleet;
use crate::tasks::Tasks;
use crate::uploads::{Kept, Progress, Uploads};

/// Operations that are fed at the same moment: each has a few frames in memory. More take turns.
const PLACES: usize = 256;

/// Read at once, when so much may be sent.
const BLOCK_BYTES: usize = 512 * 1024;

/// All feeders. Cheap to clone.
#[derive(Clone)]
pub struct Feeders(Arc<Inner>);

struct Inner {
    uploads: Uploads,
    stdins: Stdins,
    fleet: Fleet,
    tasks: Tasks,
    requests: mpsc::Sender<Request>,
    places: Semaphore,
    at_work: Mutex<HashSet<OperationId>>,
}

impl Feeders {
    /// None yet.
    pub fn new(
        uploads: Uploads,
        stdins: Stdins,
        fleet: Fleet,
        tasks: Tasks,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        Self(Arc::new(Inner {
            uploads,
            stdins,
            fleet,
            tasks,
            requests,
            places: Semaphore::new(PLACES),
            at_work: Mutex::default(),
        }))
    }

    /// Feeds an operation whose stdin is open, unless that is being done.
    pub fn start(&self, operation: OperationId, upload: UploadId) {
        let mut at_work = self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if !at_work.insert(operation) {
            return;
        }
        drop(at_work);
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn("feeder", async move {
            let stop = inner.tasks.token();
            let fed = tokio::select! {
                () = stop.cancelled() => Ok(()),
                fed = inner.feed(operation, upload) => fed,
            };
            inner.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&operation);
            if let Err(error) = fed {
                cancel(&inner.requests, operation, &error).await;
            }
        });
    }
}

impl Inner {
    async fn feed(&self, operation: OperationId, upload: UploadId) -> Result<(), SourceError> {
        let kept = self
            .uploads
            .open(upload)
            .await
            .map_err(|error| SourceError::Broken(error.to_string()))?
            .ok_or_else(|| SourceError::Broken(format!("upload {upload} is gone")))?;
        let mut source = FileSource::new(kept)?;
        let patience = Patience::Forever(Some(&self.places));
        match self.stdins.pour(&self.fleet, operation, &mut source, patience).await {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// Cancels an operation that will never get what it was to read.
pub async fn cancel(requests: &mpsc::Sender<Request>, operation: OperationId, why: &SourceError) {
    tracing::warn!(%operation, %why, "an operation cannot be fed");
    let (done, answer) = oneshot::channel();
    let request = Request::Cancel {
        target: CancelTarget::Operation(operation),
        principal: "system".to_owned(),
        reason: format!("its input is not whole: {why}"),
        done,
    };
    if requests.send(request).await.is_ok() {
        let _ = answer.await;
    }
}

/// A file at the coordinator, which may still be growing.
struct FileSource {
    kept: Arc<Kept>,
    progress: watch::Receiver<Progress>,
    seen: Progress,
    /// Read ahead, from an offset on.
    block: (u64, Bytes),
}

impl FileSource {
    fn new(kept: Arc<Kept>) -> Result<Self, SourceError> {
        let mut progress = kept.watch();
        let seen = progress.borrow_and_update().clone();
        let source = Self { kept, progress, seen, block: (0, Bytes::new()) };
        source.check()?;
        Ok(source)
    }

    fn check(&self) -> Result<(), SourceError> {
        if self.seen.state != UploadState::Broken {
            return Ok(());
        }
        Err(SourceError::Broken(format!(
            "upload {} is not what was announced, or was not continued in time",
            self.kept.id
        )))
    }
}

impl Source for FileSource {
    fn start(&self) -> u64 {
        0
    }

    fn end(&self) -> u64 {
        self.seen.received
    }

    fn is_finished(&self) -> bool {
        self.seen.state == UploadState::Complete
    }

    /// Not before its hash is known to be good: a machine must not take a wrong file for a whole one.
    fn total(&self) -> Option<u64> {
        self.is_finished().then_some(self.kept.size)
    }

    fn release(&mut self, _received: u64, _window: u64) {}

    async fn read(&mut self, offset: u64, room: u64) -> Result<Vec<u8>, SourceError> {
        let (at, block) = &self.block;
        let within = offset.checked_sub(*at).filter(|skip| *skip < block.len() as u64);
        if within.is_none() {
            let most = usize::try_from(room).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            self.block = (offset, self.kept.read(offset, most).await?);
        }
        let (at, block) = &mut self.block;
        let mut rest = block.split_off(usize::try_from(offset - *at).unwrap_or(usize::MAX));
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(limits::MAX_DATA_BYTES);
        let frame = rest.split_to(most.min(rest.len())).to_vec();
        self.block = (offset + frame.len() as u64, rest);
        Ok(frame)
    }

    fn wants_more(&self) -> bool {
        !self.is_finished()
    }

    async fn grow(&mut self) -> Result<(), SourceError> {
        if self.progress.changed().await.is_err() {
            return Err(SourceError::Broken("the upload was let go".to_owned()));
        }
        self.seen = self.progress.borrow_and_update().clone();
        self.check()
    }
}
