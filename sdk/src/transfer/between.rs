//! From one machine to another, through the coordinator and never through here.

use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::OperationId;
use reeve_protocol::ops::copy_stream::{COPY_FORMAT, CopyRecord, CopyStart};
use reeve_protocol::ops::{Failure, FileRead, FileWrite, WriteAnswer, WriteReady};
use tokio::time::Instant;

use super::answer::{Answer, check_end};
use super::{Attempts, Progress, TransferError, Transferred, token_of};
use crate::api::{JobRequest, OutputTo};
use crate::{Client, Event};

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A source that has failed ends its destination (the coordinator does that, with why, behind what is
/// on its way on a slow link); if that does not come within this, the destination is cancelled from
/// here.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Content that never fits what was sent is tried again so often: then it is no accident.
const MISMATCHES: u32 = 2;

/// What goes from where to where.
#[derive(Clone, Debug)]
pub struct Across {
    /// The machine that has it.
    pub from: String,
    /// What. Its `offset`, `after` and the like are filled in.
    pub read: FileRead,
    /// The machine that is to have it.
    pub to: String,
    /// Where to and how. Its `resume` is filled in.
    pub write: FileWrite,
}

impl Client {
    /// Copies a file or folder from one machine to another, and goes on with it after whatever cut
    /// it short.
    ///
    /// # Errors
    /// Why it is not there. What was at its place is untouched then.
    pub async fn copy_across(
        &self,
        across: &Across,
        progress: Arc<dyn Progress>,
    ) -> Result<Transferred, TransferError> {
        let mut write = across.write.clone();
        if !write.dry_run {
            write.resume = Some(token_of(&[
                across.from.as_bytes(),
                across.read.path.as_bytes(),
                across.to.as_bytes(),
                write.path.as_bytes(),
                write.name.as_ref().map_or(b"", |name| name.as_bytes()),
            ]));
        }
        let mut attempts = Attempts::new(self.retry_limits().follow);
        let (mut mismatches, mut reach) = (0, Reach::default());
        loop {
            reach.from = 0;
            let error = match self.copy_across_once(across, &write, &*progress, &mut reach).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error.code() == Some("changed") && !across.read.recursive {
                self.forget(across, &write, &error).await;
            }
            if matches!(error.code(), Some("hash_mismatch" | "changed"))
                && reach.from > 0
                && mismatches < MISMATCHES
            {
                // What was kept was of another state of the source, and is gone.
                mismatches += 1;
                progress.interrupted(&error.to_string());
                continue;
            }
            attempts.after(error, reach.bytes, &*progress).await?;
        }
    }

    /// Has the destination remove what came of a file that is not to come any more: it is told that
    /// the file was left out. When that cannot be done it goes after a day.
    async fn forget(&self, across: &Across, write: &FileWrite, why: &TransferError) {
        let start = CopyStart { format: COPY_FORMAT, ..CopyStart::default() };
        let why = Failure::new(why.code().unwrap_or("cut"), why.to_string());
        let mut stream = Vec::new();
        let told = serde_json::to_vec(&start)
            .map_err(std::io::Error::from)
            .and_then(|start| CopyRecord::Start.write(&mut stream, &start))
            .and_then(|()| Ok(serde_json::to_vec(&why)?))
            .and_then(|why| CopyRecord::Skipped.write(&mut stream, &why));
        let Ok(mut follow) = self.run(&JobRequest::new(across.to.clone(), write.clone())) else {
            return;
        };
        let mut is_told = told.is_err();
        while let Ok(Some(event)) = follow.next().await {
            if let Event::Operation(operation) = event
                && !is_told
            {
                is_told = true;
                let _ = self.send_input(operation.id, stream.as_slice()).await;
            }
        }
    }

    async fn copy_across_once(
        &self,
        across: &Across,
        write: &FileWrite,
        progress: &dyn Progress,
        reach: &mut Reach,
    ) -> Result<Transferred, TransferError> {
        let mut answer = Answer::new(self.run(&JobRequest::new(across.to.clone(), write.clone()))?);
        let ready = loop {
            match answer.next(progress).await? {
                Some(WriteAnswer::Ready(ready)) => break Some(ready),
                Some(other) => answer.keep(other),
                None => break None,
            }
        };
        let Some(ready) = ready else { return answer.finish(0, progress) };
        let destination = answer.operation()?;
        let reading = self.read_into(across, ready, destination, progress, reach);
        let mut reading = Box::pin(reading);
        let mut read = None;
        let mut cancel_at = None;
        loop {
            let cancelling = async {
                match cancel_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = &mut reading, if read.is_none() => {
                    cancel_at = match &outcome {
                        Ok(_) => None,
                        Err(TransferError::Machine(..) | TransferError::Ended(_)) => {
                            Some(Instant::now() + LAST_WORDS)
                        }
                        Err(_) => Some(Instant::now()),
                    };
                    read = Some(outcome);
                }
                () = cancelling => {
                    // Nothing more comes: what is there is kept for the next attempt.
                    cancel_at = None;
                    let why = "what is copied cannot be read any further";
                    let _ = self.cancel_operation(destination, why).await;
                }
                told = answer.next(progress) => match told? {
                    Some(line) => answer.keep(line),
                    None => break,
                },
            }
        }
        let sent = match &read {
            Some(Ok(sent)) => *sent,
            _ => 0,
        };
        match (answer.finish(sent, progress), read) {
            (Ok(done), _) => Ok(done),
            // Why there was nothing to write says more than that there was nothing. The words of a
            // source are with its destination alone.
            (Err(error), Some(Err(read))) => Err(match last_words(&error) {
                Some(words) => TransferError::Machine(words, across.from.clone()),
                None => read,
            }),
            (Err(error), _) => Err(error),
        }
    }

    /// Has the source read into the destination's stdin. Bytes that went over.
    async fn read_into(
        &self,
        across: &Across,
        ready: WriteReady,
        destination: OperationId,
        progress: &dyn Progress,
        reach: &mut Reach,
    ) -> Result<u64, TransferError> {
        let read = FileRead {
            offset: if across.read.recursive { 0 } else { ready.from },
            hash_prefix: !across.read.recursive && ready.from > 0,
            after: ready.after,
            ..across.read.clone()
        };
        reach.from = ready.from;
        reach.bytes = reach.bytes.max(ready.from);
        if ready.from > 0 {
            progress.resumed(ready.from);
        }
        let request = JobRequest {
            output_to: Some(OutputTo { operation: destination }),
            relay: true,
            ..JobRequest::new(across.from.clone(), read)
        };
        let mut follow = self.run(&request)?;
        let (mut last, mut stderr) = (None, Vec::new());
        let mut taken = 0;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    // Only to be shown: a look that fails is left out.
                    if let Ok(found) = self.operation(destination).await
                        && found.stdin_received > taken
                    {
                        progress.moved(found.stdin_received - taken);
                        reach.bytes += found.stdin_received - taken;
                        taken = found.stdin_received;
                    }
                }
                event = follow.next() => match event? {
                    Some(Event::Operation(operation)) => {
                        if last.is_none() {
                            progress.operation(operation.id);
                        }
                        last = Some(operation);
                    }
                    Some(Event::Output(output))
                        if output.stream == reeve_protocol::Stream::Stderr =>
                    {
                        stderr.extend_from_slice(&output.bytes);
                    }
                    Some(Event::Interrupted { why }) => progress.interrupted(&why),
                    Some(_) => {}
                    None => break,
                }
            }
        }
        let operation = last.ok_or_else(|| {
            TransferError::Refused("the coordinator told of no operation".to_owned())
        })?;
        check_end(*operation, &stderr)?;
        Ok(taken)
    }
}

/// How far a transfer has come.
#[derive(Default)]
struct Reach {
    /// Where this attempt began.
    from: u64,
    /// Bytes in all attempts.
    bytes: u64,
}

/// What the worker that a cancelled destination was fed by said last.
fn last_words(error: &TransferError) -> Option<Failure> {
    let TransferError::Ended(operation) = error else { return None };
    let message = &operation.reason.as_ref()?.message;
    let documents = message.lines().filter_map(|line| line.get(line.find('{')?..));
    documents.filter_map(|text| serde_json::from_str(text).ok()).next_back()
}
