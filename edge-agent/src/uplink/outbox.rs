//! What is sent of one operation within one session: that it started, its output as far as credit
//! goes, where its stdin stands, and its result behind the last byte.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reeve_link::credit::Allowance;
use reeve_link::{Closed, Sender};
use reeve_protocol::{
    CodecError, Credit, Envelope, Evidence, OperationResult, Outcome, Output, Stream, limits,
};
use tokio::sync::watch;

use crate::host;
use crate::keeper::spool::{Piece, SpoolReader};
use crate::keeper::wire::{StdinState, ToKeeper};
use crate::operations::{Operation, Operations};

/// Between two tries to read a spool: a disk that fails for a moment, no memory for a moment, no
/// descriptor left.
const RETRY: Duration = Duration::from_millis(200);

/// As often in a row: as long as a keeper tries.
const PATIENCE: u32 = 25;

/// Why sending ended early.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The session is over; the next one goes on.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// A message of ours could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The spool cannot be read.
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] io::Error),
}

/// One operation in one session.
pub struct Outbox {
    /// Which.
    pub operation: Arc<Operation>,
    /// Where to.
    pub sender: Sender,
    /// All of them: they share what stdin may take of memory.
    pub operations: Operations,
    /// Merged offset up to which the coordinator lets us send.
    pub allowed: watch::Receiver<u64>,
    /// The coordinator has everything below this.
    pub from: u64,
    /// Whether the coordinator is to be told that it started.
    pub announce: bool,
}

impl Outbox {
    /// Sends until the result is sent, or the session ends.
    ///
    /// # Errors
    /// Why it ended early.
    pub async fn run(mut self) -> Result<(), OutboxError> {
        match self.send_all().await {
            Err(OutboxError::Spool(error)) => {
                // Nothing more can be read. While the command runs there is no result to give yet.
                let id = self.operation.id();
                tracing::error!(%id, %error, "the spool cannot be read");
                if self.operation.is_work() {
                    // Whoever asked waits for an answer that cannot come, and it, perhaps, for them.
                    let reason = "its answer cannot be read".to_owned();
                    let _ = self.operation.command(ToKeeper::Cancel { reason });
                }
                let mut watch = self.operation.watch();
                let finished = watch.wait_for(|view| view.finished.is_some()).await;
                let result = finished.ok().and_then(|view| view.finished.clone());
                match result {
                    Some(result) => self.send_result(&describe_damage(&result, &error)).await,
                    None => Ok(()),
                }
            }
            other => other,
        }
    }

    async fn send_all(&mut self) -> Result<(), OutboxError> {
        let mut watch = self.operation.watch();
        let mut reader = None;
        let mut told = StdinState::default();
        let mut granted = 0;
        let mut failed = 0;
        loop {
            let view = watch.borrow_and_update().clone();
            let until = *self.allowed.borrow_and_update();
            if let Some(accepted) = view.accepted.as_ref().filter(|_| self.announce) {
                self.announce = false;
                let envelope = Envelope::about(self.operation.id(), accepted)?;
                self.sender.control(&envelope)?;
            }
            let started = view.accepted.is_some() || view.finished.is_some();
            if self.operation.has_stdin() && started && view.stdin != told {
                told = view.stdin;
                granted = self.grant_stdin(told, granted);
                self.tell_stdin(StdinState { until: granted, ..told })?;
            }
            match self.send_output(&mut reader, view.spool_to, until).await {
                Err(OutboxError::Spool(error)) if is_passing(&error) && failed < PATIENCE => {
                    failed += 1;
                    tracing::warn!(id = %self.operation.id(), %error, "a spool is read again in a moment");
                    reader = None;
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                sent => sent?,
            }
            failed = 0;
            if let Some(result) = &view.finished
                && self.from >= result.totals.all
            {
                return self.send_result(result).await;
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() { return Ok(()) },
                changed = self.allowed.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// How far stdin may be sent: as far as the keeper takes it, and no further than its share of
    /// what may be on its way through this agent. Never back.
    fn grant_stdin(&self, state: StdinState, granted: u64) -> u64 {
        let share = limits::STDIN_BUDGET / u64::from(self.operations.count_with_stdin().max(1));
        let window = limits::STDIN_WINDOW + share;
        granted.max(state.until.min(state.received.saturating_add(window)))
    }

    fn tell_stdin(&self, state: StdinState) -> Result<(), OutboxError> {
        let credit = Credit::Stdin {
            received: state.received,
            until: state.until.max(state.received),
            closed: state.closed,
        };
        Ok(self.sender.control(&Envelope::about(self.operation.id(), &credit)?)?)
    }

    async fn send_output(
        &mut self,
        reader: &mut Option<SpoolReader>,
        to: u64,
        until: u64,
    ) -> Result<(), OutboxError> {
        if self.from >= to.min(until) {
            return Ok(());
        }
        if reader.is_none() {
            let folder = host::unix::open_folder(self.operation.path())?;
            *reader = Some(SpoolReader::open(folder, self.from)?);
        }
        let Some(reader) = reader else { return Ok(()) };
        let allowance = Allowance::new(until);
        while let Some(piece) = reader.next(to, allowance.room(reader.position()))? {
            let (stream, at, bytes, gap) = match piece {
                Piece::Bytes { stream, at, bytes } => (stream, at, bytes, None),
                Piece::Gap { at, gap } => (Stream::Stdout, at, Vec::new(), Some(gap)),
            };
            let offset = match stream {
                Stream::Stdout => at.stdout,
                Stream::Stderr => at.stderr,
            };
            debug_assert!(bytes.len() <= limits::MAX_DATA_BYTES);
            let output = Output { stream, offset, all: at.all, bytes: Vec::new(), gap };
            self.sender.bytes(self.operation.id(), &output, &bytes).await?;
            self.from = reader.position();
        }
        Ok(())
    }

    /// As data, because control overtakes: the result comes behind the last byte.
    async fn send_result(&self, result: &OperationResult) -> Result<(), OutboxError> {
        let id = self.operation.id();
        Ok(self.sender.data(id, &Envelope::about(id, result)?).await?)
    }
}

/// Whether it is the system that failed, and not what was read that makes no sense.
fn is_passing(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

/// The command ended as it did, but its output is not whole any more: that is `lost`.
fn describe_damage(result: &OperationResult, error: &io::Error) -> OperationResult {
    OperationResult {
        outcome: Outcome::Lost(Evidence {
            code: "spool_damaged".to_owned(),
            message: format!(
                "its output on the machine's disk cannot be read any more ({error}); it ended \
                 with {:?}",
                result.outcome
            ),
            boot_id: None,
            last_byte: Some(result.totals.all),
            last_seen_us: Some(result.finished_us),
            killed: 0,
        }),
        ..result.clone()
    }
}
