//! Up to a machine.

use std::path::{Path, PathBuf};

use reeve_protocol::OperationId;
use reeve_protocol::ops::{Failure, FileWrite, RemotePath, WriteAnswer, WriteReady};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::Answer;
use super::local_source::{self, Plan};
use super::{Attempts, Progress, TransferError, Transferred, pipes, token_of};
use crate::Client;
use crate::api::JobRequest;

/// Content that never fits what was sent is tried again so often: then it is no accident.
const MISMATCHES: u32 = 2;

/// What is sent.
#[derive(Clone, Debug)]
pub enum LocalSource {
    /// A file, or a folder when the request is recursive.
    Path(PathBuf),
    /// This process's stdin, which can be read once.
    Stdin,
}

/// What goes where.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The machine.
    pub machine: String,
    /// What.
    pub source: LocalSource,
    /// Where to and how. Its `resume` is filled in.
    pub write: FileWrite,
    /// Pack what gets smaller by it.
    pub compress: bool,
    /// The source may change meanwhile.
    pub live: bool,
}

impl Client {
    /// Sends a file or folder to one machine, and goes on with it after whatever cut it short: a
    /// connection, an agent, a coordinator, or the process that sent it before.
    ///
    /// # Errors
    /// Why it is not there. What was at its place is untouched then.
    pub async fn copy_up(
        &self,
        upload: &Upload,
        progress: Arc<dyn Progress>,
    ) -> Result<Transferred, TransferError> {
        let mut write = upload.write.clone();
        if let LocalSource::Path(path) = &upload.source
            && !write.recursive
        {
            // What cannot be sent is said before a machine gets ready for it.
            local_source::open_file(path)?;
        }
        if let LocalSource::Path(path) = &upload.source
            && !write.dry_run
        {
            write.resume = Some(name_transfer(upload, path)?);
        }
        let mut attempts = Attempts::new(self.retry_limits().follow);
        let meter = Arc::new(Meter { inner: progress.clone(), reached: AtomicU64::new(0) });
        let mut mismatches = 0;
        loop {
            let error = match self.copy_up_once(upload, &write, &meter).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if matches!(upload.source, LocalSource::Stdin) {
                return Err(error);
            }
            if error.code() == Some("hash_mismatch") && mismatches < MISMATCHES {
                // What was kept of it is gone, so this is from the start.
                mismatches += 1;
                progress.interrupted(&error.to_string());
                continue;
            }
            attempts.after(error, meter.reached.load(Ordering::Relaxed), &*progress).await?;
        }
    }

    async fn copy_up_once(
        &self,
        upload: &Upload,
        write: &FileWrite,
        meter: &Arc<Meter>,
    ) -> Result<Transferred, TransferError> {
        let request = JobRequest::new(upload.machine.clone(), write.clone());
        let mut answer = Answer::new(self.run(&request)?);
        // Until it is known where to go on, or that nothing is wanted.
        let ready = loop {
            match answer.next(&**meter).await? {
                Some(WriteAnswer::Ready(ready)) => break Some(ready),
                Some(other) => answer.keep(other),
                None => break None,
            }
        };
        let Some(ready) = ready else { return answer.finish(0, &**meter) };
        let operation = answer.operation()?;
        let (writer, reader) = pipes::up();
        let (upload, meter_there) = (upload.clone(), meter.clone());
        let dry_run = write.dry_run;
        let producer = tokio::task::spawn_blocking(move || {
            produce(&upload, &ready, dry_run, writer, &*meter_there)
        });
        let mut sending = Box::pin(self.send_input(operation, reader));
        let mut input = None;
        loop {
            tokio::select! {
                sent = &mut sending, if input.is_none() => input = Some(sent),
                told = answer.next(&**meter) => match told? {
                    Some(line) => answer.keep(line),
                    None => break,
                },
            }
        }
        // Lets go of the pipe, so that a producer that is still at it ends.
        drop(sending);
        let produced = producer.await.map_err(|error| {
            TransferError::Refused(format!("reading what is to be sent failed: {error}"))
        })?;
        match (answer.finish(0, &**meter), produced) {
            (Ok(done), Ok(sent)) => Ok(Transferred { sent, ..done }),
            (Ok(done), Err(_)) => Ok(done),
            // What is wrong here explains what the machine saw.
            (Err(_), Err(local)) if !is_broken_pipe(&local) => Err(local),
            (Err(error), _) => match input {
                Some(Err(input)) if error.may_go_on() => Err(input.into()),
                _ => Err(error),
            },
        }
    }
}

fn is_broken_pipe(error: &TransferError) -> bool {
    matches!(error, TransferError::Local(_, error) if error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Names the transfer of just this file or folder to just this place.
fn name_transfer(upload: &Upload, path: &Path) -> Result<String, TransferError> {
    let (real, state) = local_source::identity_of(path)?;
    Ok(token_of(&[
        upload.machine.as_bytes(),
        real.as_os_str().as_bytes(),
        state.as_bytes(),
        upload.write.path.as_bytes(),
        upload.write.name.as_ref().map_or(b"", |name| name.as_bytes()),
    ]))
}

/// The thread that reads.
fn produce(
    upload: &Upload,
    ready: &WriteReady,
    listing: bool,
    to: pipes::PipeWriter,
    progress: &dyn Progress,
) -> Result<u64, TransferError> {
    let mut plan = Plan {
        from: 0,
        after: None,
        compress: upload.compress,
        listing,
        live: upload.live,
        progress,
    };
    let path = match &upload.source {
        LocalSource::Path(path) => path,
        LocalSource::Stdin => {
            return local_source::send_reader(std::io::stdin().lock(), 0o644, to, &plan);
        }
    };
    if upload.write.recursive {
        plan.after = ready.after.clone();
        return local_source::send_tree(path, to, &plan);
    }
    let (file, about) = local_source::open_file(path)?;
    progress.total(about.len());
    let mut hasher = blake3::Hasher::new();
    if ready.from > 0 && ready.from <= about.len() {
        let here = local_source::hash_prefix(&file, ready.from)
            .map_err(|error| TransferError::local(path, error))?;
        if ready.prefix.as_deref() == Some(here.finalize().to_hex().as_str()) {
            hasher = here;
            plan.from = ready.from;
            progress.resumed(ready.from);
        }
    }
    local_source::send_file(path, &file, &about, hasher, to, &plan)
}

/// Passes on what a transfer's watcher wants to know, and remembers how far it came.
struct Meter {
    inner: Arc<dyn Progress>,
    reached: AtomicU64,
}

impl Progress for Meter {
    fn total(&self, bytes: u64) {
        self.inner.total(bytes);
    }
    fn moved(&self, bytes: u64) {
        self.reached.fetch_add(bytes, Ordering::Relaxed);
        self.inner.moved(bytes);
    }
    fn resumed(&self, from: u64) {
        self.inner.resumed(from);
    }
    fn entry(&self, path: &RemotePath) {
        self.inner.entry(path);
    }
    fn operation(&self, id: OperationId) {
        self.inner.operation(id);
    }
    fn interrupted(&self, why: &str) {
        self.inner.interrupted(why);
    }
    fn skipped(&self, failure: &Failure) {
        self.inner.skipped(failure);
    }
}
