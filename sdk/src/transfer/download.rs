//! Down from a machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use reeve_protocol::Stream;
use reeve_protocol::ops::{Existing, FileRead, LinkRule, PARTIAL_PREFIX, RemotePath, WriteDeed};
use std::os::unix::ffi::OsStrExt;
use tokio::sync::mpsc;

use super::answer::check_end;
use super::local_target::{FileSink, LocalPartial, LocalTarget, LookSink, PipeSink, Placing};
use super::local_tree::TreeSink;
use super::stream::{Sink, receive};
use super::{Attempts, Progress, TransferError, Transferred, pipes, token_of};
use crate::api::JobRequest;
use crate::{Client, Event};

/// Bytes of stderr that are kept; a worker says little.
const MAX_STDERR: usize = 256 * 1024;

/// What is fetched to where.
#[derive(Clone, Debug)]
pub struct Download {
    /// The machine.
    pub machine: String,
    /// What, and how. Its `offset`, `after` and the like are filled in.
    pub read: FileRead,
    /// Where to.
    pub target: LocalTarget,
    /// How it gets its place here.
    pub placing: Placing,
}

impl Client {
    /// Fetches a file or folder of one machine, and goes on with it after whatever cut it short: a
    /// connection, an agent, a coordinator, or the process that fetched it before.
    ///
    /// # Errors
    /// Why it is not there. What was at its place is untouched then.
    pub async fn copy_down(
        &self,
        download: &Download,
        progress: Arc<dyn Progress>,
    ) -> Result<Transferred, TransferError> {
        let mut path = match &download.target {
            LocalTarget::Path(path) => path.clone(),
            LocalTarget::Stdout => return self.download_to_stdout(download, progress).await,
        };
        if !download.read.recursive {
            match check_place(&path, download)? {
                Place::Free(real) => path = real,
                Place::Kept(kept) => return Ok(kept),
            }
        }
        if download.read.listing && !download.read.recursive {
            let sink = LookSink { target: path.clone(), found: None };
            let read = download.read.clone();
            let (sink, fetched) = self.fetch(&download.machine, read, sink, &*progress).await?;
            fetched?;
            let path = RemotePath::new(path.as_os_str().as_bytes());
            let would = sink.found.map(|(deed, size)| (path, deed, size));
            let would = would.into_iter().collect();
            return Ok(Transferred { would, ..Transferred::default() });
        }
        if download.read.recursive {
            return self.download_tree(download, &path, progress).await;
        }
        self.download_file(download, &path, progress).await
    }

    async fn download_tree(
        &self,
        download: &Download,
        path: &Path,
        progress: Arc<dyn Progress>,
    ) -> Result<Transferred, TransferError> {
        let token = name_of(&download.machine, &download.read.path, path);
        let (root, placing, watcher) = (path.to_owned(), download.placing, progress.clone());
        let dry_run = download.read.listing;
        let mut sink =
            blocking(move || TreeSink::new(root, token, placing, dry_run, watcher)).await?;
        let mut attempts = Attempts::new(self.retry_limits().follow);
        loop {
            let read = FileRead { after: sink.after.clone(), ..download.read.clone() };
            let fetched;
            (sink, fetched) = self.fetch(&download.machine, read, sink, &*progress).await?;
            match fetched {
                Ok(()) => {
                    let sink = blocking(move || sink.finish().map(|()| sink)).await?;
                    return Ok(Transferred {
                        entries: sink.entries,
                        bytes: sink.bytes,
                        sent: sink.came,
                        skipped: sink.skipped,
                        path: RemotePath::new(path.as_os_str().as_bytes()),
                        would: sink.would,
                        ..Transferred::default()
                    });
                }
                Err(error) => {
                    sink.interrupt();
                    let reached = sink.came.max(u64::from(sink.after.is_some()));
                    attempts.after(error, reached, &*progress).await?;
                }
            }
        }
    }

    async fn download_file(
        &self,
        download: &Download,
        path: &Path,
        progress: Arc<dyn Progress>,
    ) -> Result<Transferred, TransferError> {
        let token = name_of(&download.machine, &download.read.path, path);
        let mut attempts = Attempts::new(self.retry_limits().follow);
        let mut restarted = false;
        let mut sent = 0;
        loop {
            let (target, token) = (path.to_owned(), token.clone());
            let (placing, watcher) = (download.placing, progress.clone());
            let sink = blocking(move || {
                let partial = LocalPartial::open(&target, &token)?;
                FileSink::new(target, partial, placing, watcher)
            })
            .await?;
            let from = sink.partial.length;
            let read = FileRead { offset: from, hash_prefix: from > 0, ..download.read.clone() };
            let (mut sink, fetched) = self.fetch(&download.machine, read, sink, &*progress).await?;
            sent += sink.came;
            let error = match fetched {
                Ok(()) => {
                    let (deed, hash, bytes) = blocking(move || sink.place()).await?;
                    return Ok(Transferred {
                        entries: 1,
                        bytes,
                        sent,
                        hash: Some(hash),
                        deed: Some(deed),
                        path: RemotePath::new(path.as_os_str().as_bytes()),
                        ..Transferred::default()
                    });
                }
                Err(error) => error,
            };
            let reached = sink.partial.length;
            if error.code() == Some("changed") && from > 0 && !restarted {
                // Not the file any more whose beginning is here.
                restarted = true;
                sink.partial.discard();
                continue;
            }
            let is_full = matches!(
                &error,
                TransferError::Local(_, error) if error.kind() == std::io::ErrorKind::StorageFull
            );
            // On a full disk what came would only be in the way.
            if is_full
                || (!error.may_go_on() && matches!(error.code(), Some("changed" | "not_found")))
            {
                sink.partial.discard();
            }
            // Gives the file and its lock back before anything waits.
            drop(sink);
            attempts.after(error, reached.max(from), &*progress).await?;
        }
    }

    async fn download_to_stdout(
        &self,
        download: &Download,
        progress: Arc<dyn Progress>,
    ) -> Result<Transferred, TransferError> {
        let mut attempts = Attempts::new(self.retry_limits().follow);
        let mut sink = PipeSink::new(std::io::stdout(), progress.clone());
        loop {
            let from = sink.length;
            let same = sink.entry.as_ref().filter(|_| from > 0 && !download.read.live);
            let read = FileRead {
                offset: download.read.offset + from,
                hash_prefix: from > 0,
                length: download.read.length.map(|length| length.saturating_sub(from)),
                if_same: same.map(reeve_protocol::ops::FileIdentity::of),
                ..download.read.clone()
            };
            let fetched;
            (sink, fetched) = self.fetch(&download.machine, read, sink, &*progress).await?;
            match fetched {
                Ok(()) => {
                    return Ok(Transferred {
                        entries: 1,
                        bytes: sink.length,
                        sent: sink.length,
                        hash: sink.hash,
                        ..Transferred::default()
                    });
                }
                Err(error) => attempts.after(error, sink.length, &*progress).await?,
            }
        }
    }

    /// One attempt: has it read on the machine, and fed to the sink, which comes back.
    async fn fetch<S: Sink + Send + 'static>(
        &self,
        machine: &str,
        read: FileRead,
        mut sink: S,
        progress: &dyn Progress,
    ) -> Result<(S, Result<(), TransferError>), TransferError> {
        let request = JobRequest { relay: true, ..JobRequest::new(machine, read) };
        let (sender, mut reader) = pipes::down();
        let receiver = tokio::task::spawn_blocking(move || {
            let received = receive(&mut reader, &mut sink).map(drop);
            (sink, received)
        });
        let followed = self.feed(&request, sender, progress).await;
        let (sink, received) = receiver.await.map_err(|error| {
            TransferError::Refused(format!("writing what came failed: {error}"))
        })?;
        let outcome = match (followed, received) {
            (Ok(()), received) => received,
            // What is wrong here is why the rest was not taken.
            (Err(_), Err(error @ (TransferError::Local(..) | TransferError::Refused(_)))) => {
                Err(error)
            }
            (Err(error), _) => Err(error),
        };
        Ok((sink, outcome))
    }

    async fn feed(
        &self,
        request: &JobRequest,
        sender: mpsc::Sender<Bytes>,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let mut follow = self.run(request)?;
        let mut last = None;
        let mut stderr = Vec::new();
        while let Some(event) = follow.next().await? {
            match event {
                Event::Operation(operation) => {
                    if last.is_none() {
                        progress.operation(operation.id);
                    }
                    last = Some(operation);
                }
                Event::Output(output) => match output.stream {
                    Stream::Stdout => {
                        if sender.send(output.bytes).await.is_err() {
                            // Whoever takes it has had enough, and says why.
                            return Ok(());
                        }
                    }
                    Stream::Stderr if stderr.len() < MAX_STDERR => {
                        stderr.extend_from_slice(&output.bytes);
                    }
                    Stream::Stderr => {}
                },
                Event::Interrupted { why } => progress.interrupted(&why),
                _ => {}
            }
        }
        let operation = last.ok_or_else(|| {
            TransferError::Refused("the coordinator told of no operation".to_owned())
        })?;
        check_end(*operation, &stderr).map(drop)
    }
}

/// Names the transfer of just this file or folder to just this place.
fn name_of(machine: &str, from: &RemotePath, path: &Path) -> String {
    token_of(&[
        machine.as_bytes(),
        from.as_bytes(),
        std::path::absolute(path).unwrap_or_default().as_os_str().as_bytes(),
    ])
}

/// Whether a file may come to a place here.
enum Place {
    /// It goes there.
    Free(PathBuf),
    /// What is there stays.
    Kept(Transferred),
}

/// What is to be at a place may be refused before anything is asked for.
fn check_place(path: &Path, download: &Download) -> Result<Place, TransferError> {
    let local = |error| TransferError::local(path, error);
    let about = match std::fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Place::Free(path.to_owned()));
        }
        Err(error) => return Err(local(error)),
    };
    let refused = |what: &str| Err(TransferError::Refused(format!("{} {what}", path.display())));
    match download.placing.existing {
        Existing::Keep => Ok(Place::Kept(Transferred {
            deed: Some(WriteDeed::Kept),
            bytes: about.len(),
            path: RemotePath::new(path.as_os_str().as_bytes()),
            ..Transferred::default()
        })),
        Existing::Refuse => refused("is there already"),
        Existing::Replace if about.is_dir() => refused("is a directory, where a file was to be"),
        Existing::Replace if about.is_symlink() => match download.placing.link {
            LinkRule::Refuse => refused("is a symbolic link; say with --links what becomes of it"),
            LinkRule::Replace => Ok(Place::Free(path.to_owned())),
            LinkRule::Follow => {
                let real = std::fs::canonicalize(path).map_err(local)?;
                let placing = Placing { link: LinkRule::Refuse, ..download.placing };
                check_place(&real, &Download { placing, ..download.clone() })
            }
        },
        // A pipe or device would be gone, and a file in its place: nobody wants that of /dev/null.
        Existing::Replace if !about.is_file() => {
            refused("is neither a file nor a link to one; '-' as the target writes to stdout")
        }
        Existing::Replace => Ok(Place::Free(path.to_owned())),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| TransferError::Refused(format!("a thread failed: {error}")))?
}

/// Whether a folder here was made by a transfer from this very place that was broken off: then it
/// is what is to be filled, and not there to be copied into.
#[must_use]
pub fn has_begun(machine: &str, from: &RemotePath, folder: &Path) -> bool {
    let token = name_of(machine, from, folder);
    folder.join(format!("{PARTIAL_PREFIX}{token}")).is_file()
}
