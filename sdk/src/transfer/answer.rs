//! What machines say while they write.

use reeve_protocol::ops::{Failure, RemotePath, WriteAnswer, WriteDeed, WriteDone};
use reeve_protocol::{OperationId, Stream};

use super::local_source::LEFT_OUT_HERE;
use super::{Progress, TransferError, Transferred};
use crate::api::Operation;
use crate::{Answered, Event, Follow, Output};

/// Bytes of an unfinished line, and of stderr, that are kept; a worker says little.
const MAX_KEPT: usize = 256 * 1024;

/// What one machine said so far.
#[derive(Default)]
pub struct Said {
    /// How it is, or ended.
    pub operation: Option<Box<Operation>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes heard, of both.
    heard: u64,
    would: Vec<(RemotePath, WriteDeed, u64)>,
    done: Option<WriteDone>,
    /// It was ready to write.
    pub began: bool,
}

impl Said {
    /// More came.
    pub fn hear(&mut self, output: &Output) {
        self.heard += output.bytes.len() as u64;
        let kept = match output.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if kept.len() < MAX_KEPT {
            kept.extend_from_slice(&output.bytes);
        }
    }

    /// The next line of the answer that has come whole.
    pub fn next_line(&mut self) -> Option<WriteAnswer> {
        loop {
            let end = self.stdout.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.stdout.drain(..=end).collect();
            if let Ok(answer) = serde_json::from_slice(&line) {
                return Some(answer);
            }
        }
    }

    /// Remembers a line for the end.
    pub fn keep(&mut self, answer: WriteAnswer) {
        match answer {
            WriteAnswer::Ready(_) => self.began = true,
            WriteAnswer::Would(would) => self.would.push((would.path, would.deed, would.size)),
            WriteAnswer::Written(done) => self.done = Some(done),
        }
    }

    /// Whether it has ended, and all that it said has come.
    pub fn is_over(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| {
            operation.state.is_terminal() && self.heard >= operation.output.all
        })
    }

    /// What it came to. What was left out on the machine is told one by one.
    pub fn finish(self, mut left_out: impl FnMut(Failure)) -> Result<Transferred, TransferError> {
        let operation = self.operation.ok_or_else(no_operation)?;
        for warning in check_end(*operation, &self.stderr)? {
            // What this side left out it has told of itself.
            if warning.code != LEFT_OUT_HERE {
                left_out(warning);
            }
        }
        let mut transferred = Transferred { would: self.would, ..Transferred::default() };
        if let Some(done) = self.done {
            transferred.entries = done.entries;
            transferred.bytes = done.bytes;
            transferred.skipped = done.skipped;
            transferred.hash = done.hash;
            transferred.deed = Some(done.deed);
            transferred.path = done.path;
        }
        Ok(transferred)
    }
}

fn no_operation() -> TransferError {
    TransferError::Refused("the coordinator told of no operation".to_owned())
}

/// What a single machine says, while it is followed.
pub struct Answer {
    follow: Follow,
    said: Said,
}

impl Answer {
    pub fn new(follow: Follow) -> Self {
        Self { follow, said: Said::default() }
    }

    pub fn operation(&self) -> Result<OperationId, TransferError> {
        self.said.operation.as_ref().map(|operation| operation.id).ok_or_else(no_operation)
    }

    /// The next line of the answer; `None` when the operation has ended. Loses nothing when it is
    /// dropped before it is ready.
    pub async fn next(
        &mut self,
        progress: &dyn Progress,
    ) -> Result<Option<WriteAnswer>, TransferError> {
        loop {
            if let Some(answer) = self.said.next_line() {
                return Ok(Some(answer));
            }
            match self.follow.next().await? {
                None => return Ok(None),
                Some(Event::Operation(operation)) => {
                    if self.said.operation.is_none() {
                        progress.operation(operation.id);
                    }
                    self.said.operation = Some(operation);
                }
                Some(Event::Output(output)) => self.said.hear(&output),
                Some(Event::Interrupted { why }) => progress.interrupted(&why),
                Some(Event::Job(_) | Event::Gap { .. } | Event::Resumed) => {}
            }
        }
    }

    pub fn keep(&mut self, answer: WriteAnswer) {
        self.said.keep(answer);
    }

    /// What it came to.
    pub fn finish(self, sent: u64, progress: &dyn Progress) -> Result<Transferred, TransferError> {
        let done = self.said.finish(|failure| progress.skipped(&failure))?;
        Ok(Transferred { sent, ..done })
    }
}

/// Whether an operation did what was asked, and what it left out; else why not.
pub fn check_end(operation: Operation, stderr: &[u8]) -> Result<Vec<Failure>, TransferError> {
    let machine = operation.machine.clone();
    let answered = Answered::new(operation.clone(), Vec::new(), stderr);
    match answered.failure {
        None => Ok(answered.warnings),
        Some(failure) if operation.exit_code == Some(1) && operation.reason.is_none() => {
            Err(TransferError::Machine(failure, machine))
        }
        Some(_) => Err(TransferError::Ended(Box::new(operation))),
    }
}
