//! Following a job: states and output of all its operations on one connection, each byte once and
//! in order. It reads what is durable, at the viewer's pace: a slow viewer slows nobody.

mod chunk;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use reeve_protocol::{JobId, OperationId, Totals};
use reeve_sdk::api::follow::{FollowRequest, FrameKind, Header};
use reeve_sdk::api::{Job, JobCounts, Operation, OperationState};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};

use super::Operations;
use super::output::{Part, Reader, StreamChoice};
use super::relay::Reader as Relayed;
use crate::events::{Change, JobEnd};
use crate::problem::ApiError;
use crate::users::Principal;
use chunk::Chunk;

/// Nothing was said for this long: say that we are still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes read of one operation before the next has its turn.
const TURN_BYTES: usize = 512 * 1024;

/// Chunks waiting for a viewer: at most 2 MiB.
pub const FOLLOW_QUEUE: usize = 32;

/// Parts from this size on are chunks of their own: copying them would cost more.
const UNCOPIED_BYTES: usize = 8 * 1024;

/// Chunks of half a MiB, as others make them, waiting for a reader.
pub const CHUNK_QUEUE: usize = 4;

/// Operations read from the database at once.
const PAGE: i64 = 500;

/// A job that is to be, watched from before its start: what is told of it then is all there is.
pub struct Watch {
    job: JobId,
    changes: broadcast::Receiver<Change>,
}

impl Watch {
    /// What the job is to be called.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.job
    }
}

impl Operations {
    /// Watches a job that somebody is about to ask for.
    #[must_use]
    pub fn watch_new(&self) -> Watch {
        let job = JobId::new();
        Watch { job, changes: self.0.hub.watch_job(job) }
    }
}

/// One viewer of one job.
pub struct Follower {
    operations: Operations,
    /// Whose machines are shown.
    principal: Principal,
    job: JobId,
    changes: broadcast::Receiver<Change>,
    offsets: BTreeMap<OperationId, u64>,
    states_only: bool,
    /// Where output comes from that is not kept, if the viewer is the one who reads that.
    relayed: Option<Relayed>,
    /// The job as it was told of first.
    described: Option<Job>,
    /// How it ended.
    ended: Option<JobEnd>,
    /// The operation whose end was sent last.
    last: Option<Operation>,
    /// Operations whose end has not been sent.
    open: BTreeMap<OperationId, View>,
    /// Those of them with something to send, in turn.
    ready: VecDeque<OperationId>,
    out: mpsc::Sender<std::io::Result<Bytes>>,
    chunk: Chunk,
}

struct View {
    row: Operation,
    /// What is durable and may be sent.
    durable: Totals,
    reader: Reader,
    queued: bool,
}

/// The viewer is gone.
struct Gone;

/// Why following ended early.
enum Stop {
    Gone,
    Error(ApiError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl<E: Into<ApiError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Follower {
    /// A follower that has seen this much already.
    ///
    /// # Errors
    /// When an offset's key is no operation id.
    pub fn new(
        operations: Operations,
        principal: Principal,
        job: JobId,
        request: &FollowRequest,
        out: mpsc::Sender<std::io::Result<Bytes>>,
    ) -> Result<Self, ApiError> {
        let offsets = request
            .offsets
            .iter()
            .map(|(id, offset)| Ok((id.parse()?, *offset)))
            .collect::<Result<BTreeMap<_, _>, uuid::Error>>()
            .map_err(|_| ApiError::invalid("an offset's key is no operation id"))?;
        // Before anything is read, so that no change falls in between.
        let changes = operations.0.hub.watch_job(job);
        let states_only = request.states_only;
        let new = Self::of(operations, principal, Watch { job, changes }, out);
        Ok(Self { offsets, states_only, ..new })
    }

    /// A follower of a job that was just asked for: from its start, if it is the one that was
    /// watched.
    #[must_use]
    pub fn of_new(
        operations: Operations,
        principal: Principal,
        job: Job,
        watch: Watch,
        out: mpsc::Sender<std::io::Result<Bytes>>,
    ) -> Self {
        if job.id == watch.job {
            return Self { described: Some(job), ..Self::of(operations, principal, watch, out) };
        }
        // It was asked for before.
        let watch = Watch { job: job.id, changes: operations.0.hub.watch_job(job.id) };
        Self::of(operations, principal, watch, out)
    }

    fn of(
        operations: Operations,
        principal: Principal,
        watch: Watch,
        out: mpsc::Sender<std::io::Result<Bytes>>,
    ) -> Self {
        Self {
            operations,
            principal,
            job: watch.job,
            changes: watch.changes,
            offsets: BTreeMap::new(),
            states_only: false,
            relayed: None,
            described: None,
            ended: None,
            last: None,
            open: BTreeMap::new(),
            ready: VecDeque::new(),
            out,
            chunk: Chunk::default(),
        }
    }

    /// The viewer is the one to whom the job's output is relayed.
    #[must_use]
    pub fn relaying(mut self, reader: Relayed) -> Self {
        self.relayed = Some(reader);
        self
    }

    /// Sends until everything has ended and was sent, or the viewer is gone. A failure ends the
    /// stream without its end frame, so that the viewer knows to ask again.
    pub async fn run(mut self) {
        if let Err(Stop::Error(error)) = self.run_inner().await {
            tracing::warn!(job = %self.job, ?error, "following a job was broken off");
        }
    }

    async fn run_inner(&mut self) -> Result<(), Stop> {
        self.begin().await?;
        let stop = self.operations.draining();
        loop {
            self.pump().await?;
            if self.open.is_empty() {
                match self.describe_end() {
                    Some(job) => self.chunk.job(&job)?,
                    None => self.send_job().await?,
                }
                self.chunk.about_job(FrameKind::End);
                self.flush().await?;
                if let Some(reader) = &mut self.relayed {
                    reader.finish();
                }
                return Ok(());
            }
            self.flush().await?;
            let change = tokio::select! {
                change = self.changes.recv() => change,
                () = arrived(self.relayed.as_ref()) => {
                    for id in self.relayed.iter().flat_map(Relayed::ready).collect::<Vec<_>>() {
                        self.queue(id);
                    }
                    continue;
                }
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    self.chunk.about_job(FrameKind::KeepAlive);
                    continue;
                }
                () = self.out.closed() => return Err(Stop::Gone),
                () = stop.cancelled() => return Err(Stop::Gone),
            };
            self.take(change).await?;
            loop {
                match self.changes.try_recv() {
                    Ok(change) => self.take(Ok(change)).await?,
                    // Said once: whoever does not look now never hears of what was missed.
                    Err(TryRecvError::Lagged(missed)) => {
                        self.take(Err(RecvError::Lagged(missed))).await?;
                    }
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
    }

    /// Tells of the job, and of every operation of it.
    async fn begin(&mut self) -> Result<(), Stop> {
        if let Some(job) = self.described.take()
            && let Some(single) = job.single.as_deref().cloned()
        {
            // Nothing of it was missed, so there is nothing to look for.
            self.chunk.job(&job)?;
            self.described = Some(job);
            return self.load(single, true).await;
        }
        self.send_job().await?;
        self.load_all(true).await
    }

    async fn take(&mut self, change: Result<Change, RecvError>) -> Result<(), Stop> {
        match change {
            Ok(Change::Output { operation, durable, .. }) => {
                if let Some(view) = self.open.get_mut(&operation) {
                    if durable.all > view.durable.all {
                        view.durable = durable;
                    }
                    self.queue(operation);
                }
            }
            Ok(Change::Operation(operation)) => {
                if let Some(view) = self.open.get_mut(&operation.id) {
                    view.durable = totals(&operation);
                    view.row = (*operation).clone();
                    let id = operation.id;
                    if !operation.state.is_terminal() {
                        self.send_operation(id)?;
                    }
                    self.queue(id);
                }
            }
            Ok(Change::Job(end)) => {
                self.ended = Some(end);
                // Its operations were told of before.
                if self.open.values().any(|view| !view.row.state.is_terminal()) {
                    self.load_all(false).await?;
                }
            }
            Err(RecvError::Lagged(_)) => self.load_all(false).await?,
            Err(RecvError::Closed) => return Err(Stop::Gone),
        }
        Ok(())
    }

    fn queue(&mut self, id: OperationId) {
        if let Some(view) = self.open.get_mut(&id)
            && !view.queued
        {
            view.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Looks at every operation of the job.
    async fn load_all(&mut self, first: bool) -> Result<(), Stop> {
        let mut after = -1;
        loop {
            let rows = self.operations.load_page(self.job, after, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.ordinal;
            let full = rows.len() as i64 == PAGE;
            for row in rows {
                let mut operation = row.to_api();
                self.operations.complete(&mut operation);
                self.load(operation, first).await?;
            }
            if !full {
                return Ok(());
            }
        }
    }

    async fn load(&mut self, operation: Operation, first: bool) -> Result<(), Stop> {
        let (id, durable) = (operation.id, totals(&operation));
        let has_ended = operation.state.is_terminal();
        if let Some(view) = self.open.get_mut(&id) {
            let changed = view.row.state != operation.state;
            view.durable = durable;
            view.row = operation;
            if changed && !has_ended {
                self.send_operation(id)?;
            }
        } else if first && self.operations.is_visible(&self.principal, operation.machine_id) {
            let from = self.offsets.get(&id).copied().unwrap_or_default();
            let reader = self.operations.reader(id, StreamChoice::All, from);
            let view = View { row: operation, durable, reader, queued: false };
            if !has_ended {
                self.chunk.operation(&view.row)?;
            } else if !self.states_only && durable.all > from {
                // Its end comes behind its output; whose output it is has to come before.
                self.chunk.operation(&as_it_ran(&view.row))?;
            }
            self.open.insert(id, view);
        }
        if let Some(relay) = self.relayed.as_ref().and_then(|reader| reader.relay(id))
            && !self.open.contains_key(&id)
        {
            // Not shown any more, so nobody takes it.
            relay.discard();
        }
        self.queue(id);
        if self.chunk.is_large() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what is ready, one operation after the other. An end is sent behind all its output.
    async fn pump(&mut self) -> Result<(), Stop> {
        while let Some(id) = self.ready.pop_front() {
            let Some(view) = self.open.get_mut(&id) else { continue };
            view.queued = false;
            if self.relayed.is_some() {
                self.pump_relayed(id).await?;
                continue;
            }
            let parts = if self.states_only {
                Vec::new()
            } else {
                view.reader.next(view.durable, TURN_BYTES).await.map_err(ApiError::internal)?
            };
            let more = !parts.is_empty();
            let ended = view.row.state.is_terminal();
            for part in parts {
                self.send_large_part(id, part).await?;
            }
            if more {
                self.queue(id);
            } else if ended {
                self.send_operation(id)?;
                self.last = self.open.remove(&id).map(|view| view.row);
            }
            if self.chunk.is_large() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// As [`Self::pump`], of one operation whose output is relayed. More is asked of its machine
    /// once the viewer's connection has taken this.
    async fn pump_relayed(&mut self, id: OperationId) -> Result<(), Stop> {
        let Some(relay) = self.relayed.as_ref().and_then(|reader| reader.relay(id)).cloned() else {
            return Ok(());
        };
        let taken = relay.take(TURN_BYTES);
        if taken.parts.is_empty() {
            if self.open.get(&id).is_some_and(|view| view.row.state.is_terminal()) {
                self.send_operation(id)?;
                self.last = self.open.remove(&id).map(|view| view.row);
            }
            return Ok(());
        }
        for part in taken.parts {
            self.send_large_part(id, part).await?;
        }
        self.flush().await?;
        relay.passed(taken.until);
        self.queue(id);
        Ok(())
    }

    /// Large parts go on as they came, without another copy.
    async fn send_large_part(&mut self, id: OperationId, part: Part) -> Result<(), Stop> {
        match part {
            Part::Bytes { stream, all, offset, bytes } if bytes.len() >= UNCOPIED_BYTES => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let kind = FrameKind::Output(stream);
                self.chunk.frame(Header { kind, operation: id, all, offset, length }, &[]);
                self.flush().await?;
                Ok(self.out.send(Ok(bytes)).await.map_err(|_| Gone)?)
            }
            part => {
                self.chunk.part(id, part)?;
                if self.chunk.is_large() {
                    self.flush().await?;
                }
                Ok(())
            }
        }
    }

    fn send_operation(&mut self, id: OperationId) -> Result<(), Stop> {
        let Some(view) = self.open.get(&id) else { return Ok(()) };
        Ok(self.chunk.operation(&view.row)?)
    }

    async fn send_job(&mut self) -> Result<(), Stop> {
        let job = self.operations.describe_job(self.job).await?;
        self.chunk.job(&job)?;
        self.described = Some(job);
        Ok(())
    }

    /// The job as it ended, where all that changed of it since it was described was told: one with one
    /// operation.
    fn describe_end(&mut self) -> Option<Job> {
        let (end, last) = (self.ended?, self.last.take()?);
        let mut job = self.described.take()?;
        if job.single.as_ref()?.id != last.id || !last.state.is_terminal() {
            return None;
        }
        job.counts = JobCounts { total: 1, ..JobCounts::default() };
        *job.counts.of(last.state) = 1;
        job.state = end.state;
        job.finished = Some(end.finished);
        job.cancel_requested = end.cancel_requested;
        job.single = Some(Box::new(last));
        Some(job)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let Some(bytes) = self.chunk.take() else { return Ok(()) };
        self.out.send(Ok(bytes)).await.map_err(|_| Gone)
    }
}

async fn arrived(reader: Option<&Relayed>) {
    match reader {
        Some(reader) => reader.arrived().await,
        None => std::future::pending().await,
    }
}

/// An operation that has ended, as it was before.
fn as_it_ran(operation: &Operation) -> Operation {
    Operation {
        state: OperationState::Running,
        exit_code: None,
        signal: None,
        reason: None,
        finished: None,
        duration_ms: None,
        leftovers_killed: 0,
        usage: None,
        ..operation.clone()
    }
}

fn totals(operation: &Operation) -> Totals {
    let output = &operation.output;
    Totals { all: output.all, stdout: output.stdout, stderr: output.stderr }
}
