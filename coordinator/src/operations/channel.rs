//! One operation on one connection, both ways: what it writes and how it stands go out in order,
//! what it reads and the size of its terminal come in. Stored output is read at the viewer's pace
//! from any offset; relayed output is taken by its one reader.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use reeve_protocol::{Gap, JobId, OperationId, Stream, Totals};
use reeve_sdk::api::{Operation, OperationState, Role};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::output::{Part, Reader, StreamChoice};
use super::relay;
use super::row::OperationRow;
use super::stdin::Arrived;
use super::terminals::Presence;
use super::{Operations, body};
use crate::audit;
use crate::events::Change;
use crate::problem::ApiError;
use crate::users::Principal;

/// Nothing was said for this long: ask whether the other end is still there.
const PING: Duration = Duration::from_secs(15);

/// Bytes taken of the output at once.
const TURN_BYTES: usize = 256 * 1024;

/// A piece of stdin whose operation has not come to its machine, or whose machine is away, is
/// offered again after this long.
const OFFER_AGAIN: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At this merged offset.
    Offset(u64),
    /// This many bytes before the end.
    Tail(u64),
}

/// What the client is told.
#[derive(Debug)]
pub enum Say {
    /// Bytes it wrote.
    Output {
        /// Where.
        stream: Stream,
        /// Merged offset of the first.
        all: u64,
        /// At most one piece of a frame.
        bytes: Bytes,
    },
    /// Bytes that are not kept.
    Gap(Gap),
    /// How it stands.
    State(Box<Operation>),
    /// How far its stdin has got.
    Received {
        /// Bytes that reach it whatever happens.
        received: u64,
        /// It reads no more.
        closed: bool,
    },
    /// Nothing happened for a while.
    Nothing,
}

enum Output {
    Stored(Box<Reader>),
    Relayed(relay::Reader),
}

/// What goes out to one client.
pub struct Source {
    operations: Operations,
    id: OperationId,
    changes: broadcast::Receiver<Change>,
    row: Operation,
    durable: Totals,
    output: Output,
    /// Relayed bytes up to here were handed out.
    taken: Option<u64>,
    /// Whether the client sends stdin, so wants to know how far it has got.
    writes: bool,
    stdin: Option<watch::Receiver<Arrived>>,
    told: Option<(u64, bool)>,
    queue: VecDeque<Say>,
    /// The state has to be told.
    news: bool,
    ended: bool,
}

/// What comes in from one client.
#[derive(Clone)]
pub struct Inlet {
    operations: Operations,
    row_job: JobId,
    id: OperationId,
    takes_stdin: bool,
}

/// Who attaches to what.
pub struct Attachment {
    /// What goes out.
    pub source: Source,
    /// What may come in; nothing for those who only look.
    pub inlet: Option<Inlet>,
    /// At a terminal: that they are there.
    pub presence: Option<Presence>,
}

impl Operations {
    /// Attaches to an operation.
    ///
    /// # Errors
    /// 403 without the role, 404 when there is none, 409 when it is relayed and somebody reads it.
    pub(crate) async fn attach(
        &self,
        principal: &Principal,
        id: OperationId,
        from: From,
        writes: bool,
    ) -> Result<Attachment, ApiError> {
        principal.require(if writes { Role::Operator } else { Role::Viewer })?;
        let row = self.find(principal, id).await?;
        let job = self.find_job(principal, row.job_id).await?;
        let takes_stdin = body::build(&job.operation)?.has_stdin();
        // Before the row is read again, so that no change falls in between.
        let changes = self.0.hub.watch_job(row.job_id);
        let mut presence = None;
        let output = if job.options.relay {
            let reader = (job.principal == principal.name)
                .then(|| self.0.unclaimed.take(id))
                .flatten()
                .ok_or_else(relay_taken)?;
            Output::Relayed(reader.claimed())
        } else {
            let offset = match from {
                From::Offset(offset) => offset,
                From::Tail(bytes) => row.durable.all.saturating_sub(bytes),
            };
            if self.is_terminal(id).await? {
                presence = Some(self.join(principal, row.job_id, id, writes).await?);
            } else if writes {
                self.record_attachment(principal, &row).await?;
            }
            Output::Stored(Box::new(self.reader(id, StreamChoice::All, offset)))
        };
        let row = self.find(principal, id).await?;
        let mut operation = row.to_api();
        self.complete(&mut operation);
        let source = Source {
            operations: self.clone(),
            id,
            changes,
            row: operation,
            durable: row.durable,
            output,
            taken: None,
            writes: writes && takes_stdin,
            stdin: None,
            told: None,
            queue: VecDeque::new(),
            news: true,
            ended: false,
        };
        let inlet = writes.then(|| Inlet {
            operations: self.clone(),
            row_job: row.job_id,
            id,
            takes_stdin,
        });
        Ok(Attachment { source, inlet, presence })
    }

    async fn record_attachment(
        &self,
        principal: &Principal,
        row: &OperationRow,
    ) -> Result<(), ApiError> {
        let mut tx = self.0.db.begin().await?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "operation.attach",
                target: &format!("operation:{}", row.id),
                detail: serde_json::json!({ "machine": row.machine }),
            },
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// Tells the terminal of an operation its size.
    ///
    /// # Errors
    /// 404, 409 when it does not run or its machine is away, 422 when the size makes no sense.
    pub(crate) async fn resize(
        &self,
        principal: &Principal,
        id: OperationId,
        columns: u16,
        rows: u16,
    ) -> Result<(), ApiError> {
        let row = self.find(principal, id).await?;
        if !matches!(row.state, OperationState::Running | OperationState::Sent) {
            return Err(super::not_running(&row));
        }
        self.tell_size(&row, columns, rows).await
    }
}

fn relay_taken() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "relay_taken",
        "the output of this operation is passed on once, and somebody has it already, or nobody came for it in time",
    )
}

impl Source {
    /// What to say next; nothing when the end has been told.
    ///
    /// # Errors
    /// When it cannot be read, or the coordinator stops.
    pub async fn next(&mut self) -> Result<Option<Say>, ApiError> {
        let stop = self.operations.draining();
        loop {
            if let Some(say) = self.queue.pop_front() {
                return Ok(Some(say));
            }
            if self.ended {
                return Ok(None);
            }
            if self.news && !self.row.state.is_terminal() {
                self.news = false;
                self.queue.push_back(Say::State(Box::new(self.row.clone())));
            }
            self.look_at_stdin();
            self.take_output().await?;
            if !self.queue.is_empty() {
                continue;
            }
            if self.row.state.is_terminal() {
                self.ended = true;
                if let Output::Relayed(reader) = &mut self.output {
                    reader.finish();
                }
                return Ok(Some(Say::State(Box::new(self.row.clone()))));
            }
            let change = tokio::select! {
                change = self.changes.recv() => change,
                () = arrived(&self.output) => continue,
                () = changed(&mut self.stdin) => continue,
                () = tokio::time::sleep(PING) => return Ok(Some(Say::Nothing)),
                () = stop.cancelled() => return Err(ApiError::draining()),
            };
            self.take(change).await?;
        }
    }

    async fn take_output(&mut self) -> Result<(), ApiError> {
        let parts = match &mut self.output {
            Output::Stored(reader) => {
                reader.next(self.durable, TURN_BYTES).await.map_err(ApiError::internal)?
            }
            Output::Relayed(reader) => {
                let _ = reader.ready();
                let Some(relay) = reader.relay(self.id) else { return Ok(()) };
                // What was handed out before has been sent by now.
                if let Some(until) = self.taken.take() {
                    relay.passed(until);
                }
                let taken = relay.take(TURN_BYTES);
                self.taken = (!taken.parts.is_empty()).then_some(taken.until);
                taken.parts
            }
        };
        self.queue.extend(parts.into_iter().map(|part| match part {
            Part::Bytes { stream, all, bytes, .. } => Say::Output { stream, all, bytes },
            Part::Gap(gap) => Say::Gap(gap),
        }));
        Ok(())
    }

    fn look_at_stdin(&mut self) {
        if !self.writes {
            return;
        }
        if self.stdin.is_none() {
            self.stdin = self.operations.0.stdins.watch(self.id);
        }
        let Some(stdin) = &mut self.stdin else { return };
        let now = *stdin.borrow_and_update();
        let now = (now.received, now.closed);
        if self.told != Some(now) {
            self.told = Some(now);
            self.queue.push_back(Say::Received { received: now.0, closed: now.1 });
        }
    }

    async fn take(&mut self, change: Result<Change, RecvError>) -> Result<(), ApiError> {
        match change {
            Ok(Change::Output { operation, durable, .. }) if operation == self.id => {
                if durable.all > self.durable.all {
                    self.durable = durable;
                }
            }
            Ok(Change::Operation(operation)) if operation.id == self.id => {
                let output = &operation.output;
                self.durable =
                    Totals { all: output.all, stdout: output.stdout, stderr: output.stderr };
                self.news |= self.row.state != operation.state;
                self.row = (*operation).clone();
            }
            // Its operations were told of before.
            Ok(Change::Job(_)) if self.row.state.is_terminal() => {}
            Ok(Change::Job(_)) | Err(RecvError::Lagged(_)) => {
                if let Some(row) = self.operations.load(self.id).await? {
                    self.durable = row.durable;
                    self.news |= self.row.state != row.state;
                    self.row = row.to_api();
                    self.operations.complete(&mut self.row);
                }
            }
            Err(RecvError::Closed) => return Err(ApiError::draining()),
            Ok(_) => {}
        }
        Ok(())
    }
}

async fn arrived(output: &Output) {
    match output {
        Output::Stored(_) => std::future::pending().await,
        Output::Relayed(reader) => reader.arrived().await,
    }
}

async fn changed(stdin: &mut Option<watch::Receiver<Arrived>>) {
    match stdin {
        Some(stdin) => {
            if stdin.changed().await.is_err() {
                // It is over; the operation's end is told otherwise.
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

impl Inlet {
    /// Whether the operation reads what is sent.
    #[must_use]
    pub fn takes_stdin(&self) -> bool {
        self.takes_stdin
    }

    /// Passes a piece of stdin on, until it has arrived or nobody reads it any more.
    pub async fn pass(&self, offset: u64, bytes: Bytes, last: bool) {
        let end = offset.saturating_add(bytes.len() as u64);
        let Operations(inner) = &self.operations;
        loop {
            let passed =
                inner.stdins.pass(&inner.fleet, self.id, offset, bytes.clone(), last).await;
            match passed {
                Some(accepted) if accepted.closed => return,
                Some(accepted) if accepted.received >= end => return,
                Some(_) => {}
                None => {
                    // It has not been sent to its machine yet, or has ended.
                    let row = self.operations.load(self.id).await;
                    if let Ok(row) = row
                        && row.is_none_or(|row| row.state.is_terminal())
                    {
                        return;
                    }
                    tokio::time::sleep(OFFER_AGAIN).await;
                }
            }
        }
    }

    /// Tells its terminal its size. One whose machine is away hears of it from whoever asks again.
    pub async fn resize(&self, columns: u16, rows: u16) {
        let row = match self.operations.load(self.id).await {
            Ok(Some(row)) if row.job_id == self.row_job => row,
            _ => return,
        };
        if let Err(error) = self.operations.tell_size(&row, columns, rows).await {
            tracing::debug!(?error, operation = %self.id, "a size was not passed on");
        }
    }
}
