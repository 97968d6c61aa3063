//! One thing to many machines: sent to the coordinator once, and from there to each of them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reeve_protocol::ops::FileWrite;
use reeve_protocol::{JobId, UploadId};

use super::hand_out::HandOut;
use super::replay::{Measure, Recipe, Replay};
use super::{Progress, TransferError, Transferred, local_source, token_of};
use crate::api::{JobInput, JobRequest, NewUpload, Upload, UploadState};
use crate::{Client, Error};

/// A source that changed while it was sent is sent anew so often: then it never rests.
const RESTARTS: u32 = 2;

/// Characters of an upload's name.
const MAX_NAME: usize = 255;

/// What goes to which machines.
#[derive(Clone, Debug)]
pub struct FanOut {
    /// The machines, by name.
    pub machines: Vec<String>,
    /// A file, or a folder when the request is recursive.
    pub source: PathBuf,
    /// Where to and how. Its `resume` is filled in for a folder.
    pub write: FileWrite,
    /// Pack what gets smaller by it.
    pub compress: bool,
}

/// Somebody who watches one thing go to many machines. First [`Progress::moved`] counts what was
/// read to see what it is, then [`Self::sent`] what is on its way to the coordinator, and then one
/// machine after the other has it.
pub trait ManyProgress: Progress {
    /// It will be so many bytes, and the coordinator has the first of them from before.
    fn sending(&self, _length: u64, _from: u64) {}
    /// So many of them are on their way or there. Goes back after a cut.
    fn sent(&self, _bytes: u64) {}
    /// The coordinator has it, and hands it to so many machines.
    fn handing_out(&self, _machines: usize) {}
    /// What became of one machine.
    fn ended(&self, _machine: &str, _outcome: &Result<Transferred, TransferError>) {}
    /// Where the coordinator keeps it; to be given up when it is no longer wanted.
    fn upload(&self, _id: UploadId) {}
    /// The job that hands it out now; to be given up when it is no longer wanted.
    fn job(&self, _id: JobId) {}
}

impl TransferError {
    /// Whether it cannot be sent to many machines at once, but perhaps to each by itself: the
    /// coordinator has no room to keep it, or nobody may be asked to approve what is not seen.
    #[must_use]
    pub fn is_only_of_many(&self) -> bool {
        matches!(self.code(), Some("uploads_full" | "approval_stdin"))
    }
}

impl Client {
    /// Sends a file or folder to the coordinator once and has it written on many machines. What
    /// became of each, in the order they were named. Goes on after whatever cut it short, also when
    /// another process had begun it with the same machines and the same request.
    ///
    /// # Errors
    /// Why no machine has it; see also [`TransferError::is_only_of_many`].
    pub async fn copy_up_many(
        &self,
        fan: &FanOut,
        progress: Arc<dyn ManyProgress>,
    ) -> Result<Vec<(String, Result<Transferred, TransferError>)>, TransferError> {
        let mut write = fan.write.clone();
        let place = name_place(fan)?;
        if write.recursive && !write.dry_run {
            // A folder that a cut attempt made is what is to be filled, and not there to be copied
            // into. What came of a file is of no use: the coordinator hands it out from its start.
            write.resume = Some(place.clone());
        }
        let recipe = Recipe {
            path: fan.source.clone(),
            recursive: write.recursive,
            compress: fan.compress,
            listing: write.dry_run,
        };
        let upload = self.send_once(fan, &recipe, &place, &progress).await?;
        progress.handing_out(fan.machines.len());
        let request = JobRequest {
            input: Some(JobInput { upload: upload.id }),
            ..JobRequest::new("", write)
        };
        let handed = HandOut::new(self, request, &*progress).run(&fan.machines).await;
        if let Err(error) = self.delete_upload(upload.id).await {
            // It goes by itself when nobody has used it for a while.
            tracing::debug!(%error, "an upload could not be removed");
        }
        handed
    }

    /// Ends what [`Self::copy_up_many`] began: its jobs, and what the coordinator keeps for them.
    ///
    /// # Errors
    /// When the coordinator does not hear of it, or a job cannot be ended at once: then what it
    /// reads is kept until nobody has used it for a while.
    pub async fn give_up_many(
        &self,
        jobs: &[JobId],
        upload: Option<UploadId>,
        why: &str,
    ) -> Result<(), Error> {
        for job in jobs {
            match self.cancel_job(*job, why).await {
                Err(error) if error.problem().is_none() => return Err(error),
                _ => {}
            }
        }
        for job in jobs {
            let mut follow = self.follow_states(*job);
            while follow.next().await?.is_some() {}
        }
        match upload {
            Some(upload) => self.delete_upload(upload).await,
            None => Ok(()),
        }
    }

    /// The coordinator has all of it. Begins again when it changes meanwhile.
    async fn send_once(
        &self,
        fan: &FanOut,
        recipe: &Recipe,
        place: &str,
        progress: &Arc<dyn ManyProgress>,
    ) -> Result<Upload, TransferError> {
        let name = name_upload(fan, place);
        let mut restarts = 0;
        loop {
            let measure = recipe.measure(progress.clone()).await?;
            let upload = self.announce(&measure, &name).await?;
            progress.upload(upload.id);
            progress.sending(upload.size, upload.received);
            let replay = Replay::new(recipe.clone());
            let sent = self.send_upload(upload.id, replay, |at| progress.sent(at)).await;
            let error = match sent {
                Ok(upload) => return Ok(upload),
                Err(error) => error,
            };
            let is_gone = error.code() == Some("upload_not_found");
            if !is_gone && !self.has_changed(upload.id, &error).await {
                return Err(self.explain(upload.id, error).await);
            }
            // Of no use to anybody.
            let _ = self.delete_upload(upload.id).await;
            if restarts == RESTARTS {
                return Err(TransferError::Refused(format!(
                    "{} changes all the time while it is sent; --live takes it as it is",
                    fan.source.display()
                )));
            }
            restarts += 1;
            let why = if is_gone { "what was kept of it is gone" } else { "it changed meanwhile" };
            progress.interrupted(&format!("{}: {why}; sent anew", fan.source.display()));
        }
    }

    /// A place for it at the coordinator: the one that a former attempt began to fill, or a new one.
    async fn announce(&self, measure: &Measure, name: &str) -> Result<Upload, TransferError> {
        let known = self.uploads().await?.items.into_iter().find(|upload| {
            upload.state != UploadState::Broken
                && upload.size == measure.length
                && upload.blake3.as_ref() == Some(&measure.hash)
                && upload.name.as_deref() == Some(name)
        });
        if let Some(upload) = known {
            return Ok(upload);
        }
        let new = NewUpload {
            size: measure.length,
            blake3: Some(measure.hash.clone()),
            name: Some(name.to_owned()),
        };
        Ok(self.create_upload(&new).await?)
    }

    /// Whether what was sent is not what was measured before.
    async fn has_changed(&self, upload: UploadId, error: &Error) -> bool {
        match error {
            Error::Input(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
            error if error.code() == Some("hash_mismatch") => true,
            _ => self.upload(upload).await.is_ok_and(|now| now.state == UploadState::Broken),
        }
    }

    /// Why it could not be sent. What cannot be read is not gone on with.
    async fn explain(&self, upload: UploadId, error: Error) -> TransferError {
        let Error::Input(error) = error else { return error.into() };
        let _ = self.delete_upload(upload).await;
        match error.downcast::<TransferError>() {
            Ok(error) => error,
            Err(error) => Error::Input(error).into(),
        }
    }
}

/// Names just this file or folder on its way to just these places.
fn name_place(fan: &FanOut) -> Result<String, TransferError> {
    let (real, state) = local_source::identity_of(&fan.source)?;
    let machines = fan.machines.join(",");
    Ok(token_of(&[
        b"many",
        machines.as_bytes(),
        real.as_os_str().as_bytes(),
        state.as_bytes(),
        fan.write.path.as_bytes(),
        fan.write.name.as_ref().map_or(b"", |name| name.as_bytes()),
    ]))
}

/// For people, and to be found again by the same request.
fn name_upload(fan: &FanOut, place: &str) -> String {
    let name = fan.source.file_name().map_or(fan.source.as_path(), Path::new);
    let place = place.get(..8).unwrap_or_default();
    let tail = format!(" for {} machines, {place}", fan.machines.len());
    let head = name.to_string_lossy();
    let head = head.chars().filter(|letter| !letter.is_control());
    head.take(MAX_NAME.saturating_sub(tail.len())).chain(tail.chars()).collect()
}
