//! Operations whose answer is a document rather than a stream: asked, awaited, handed back whole.

use std::collections::BTreeMap;

use reeve_protocol::ops::Failure;
use reeve_protocol::{OperationId, Stream};

use super::Client;
use crate::api::{JobRequest, Operation, OperationState};
use crate::{Error, Event};

/// Bytes of one machine's answer. What may be longer is followed instead.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// One machine's answer.
#[derive(Debug)]
pub struct Answered {
    /// How it ended.
    pub operation: Operation,
    /// What it said.
    pub stdout: Vec<u8>,
    /// What was left out on the way.
    pub warnings: Vec<Failure>,
    /// Why it did not succeed; `None` exactly if it did.
    pub failure: Option<Failure>,
}

impl Client {
    /// Has a worker's operation done on every machine of a selector, and waits for all of them. In
    /// the order of the rollout.
    ///
    /// # Errors
    /// When the job could not be submitted or followed; what became of each machine is in its
    /// answer.
    pub async fn perform(&self, request: &JobRequest) -> Result<Vec<Answered>, Error> {
        Answered::gather(self.run(request)?).await
    }
}

impl Answered {
    /// Follows a job to its end and puts together what each machine answered. In the order of the
    /// rollout.
    ///
    /// # Errors
    /// When it could not be followed, or an answer is too long to be held.
    pub async fn gather(mut follow: crate::Follow) -> Result<Vec<Self>, Error> {
        let mut order = Vec::new();
        let mut parts: BTreeMap<OperationId, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        let mut ended: BTreeMap<OperationId, Operation> = BTreeMap::new();
        while let Some(event) = follow.next().await? {
            match event {
                Event::Operation(operation) => {
                    if !order.contains(&operation.id) {
                        order.push(operation.id);
                    }
                    ended.insert(operation.id, *operation);
                }
                Event::Output(output) => {
                    let (stdout, stderr) = parts.entry(output.operation).or_default();
                    let kept = match output.stream {
                        Stream::Stdout => stdout,
                        Stream::Stderr => stderr,
                    };
                    if kept.len() + output.bytes.len() > MAX_ANSWER_BYTES {
                        return Err(Error::Protocol {
                            what: format!(
                                "the answer is longer than {} MiB",
                                MAX_ANSWER_BYTES / (1024 * 1024)
                            ),
                        });
                    }
                    kept.extend_from_slice(&output.bytes);
                }
                _ => {}
            }
        }
        let answers = order.into_iter().filter_map(|id| {
            let operation = ended.remove(&id)?;
            let (stdout, stderr) = parts.remove(&id).unwrap_or_default();
            Some(answered(operation, stdout, &stderr))
        });
        Ok(answers.collect())
    }

    /// Puts together what a followed operation said: its end, its stdout, and its stderr, where
    /// workers write warnings and why they failed.
    #[must_use]
    pub fn new(operation: Operation, stdout: Vec<u8>, stderr: &[u8]) -> Self {
        answered(operation, stdout, stderr)
    }
}

fn answered(operation: Operation, stdout: Vec<u8>, stderr: &[u8]) -> Answered {
    let mut warnings: Vec<Failure> = stderr
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let failure = match operation.state {
        OperationState::Succeeded => None,
        OperationState::Failed if operation.reason.is_none() && !warnings.is_empty() => {
            warnings.pop()
        }
        state => Some(match &operation.reason {
            Some(reason) => Failure::new(&reason.code, reason.message.clone()),
            None => Failure::new(
                state.as_str(),
                format!("'{}' did not do it: {}", operation.machine, state.as_str()),
            ),
        }),
    };
    Answered { operation, stdout, warnings, failure }
}
