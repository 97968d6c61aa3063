//! What an agent of a swarm was asked to do and has not been told to forget.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reeve_protocol::{
    Accepted, Containment, Gap, OperationId, OperationReport, OperationResult, Outcome, Output,
    ReportedState, Stream, Totals, Usage, limits,
};
use tokio::time::Instant;

/// What commands of a swarm write, over and over.
pub const LINE: &[u8; 64] = b"the same sixty-four bytes again and again, and a line feed here\n";

/// A frame's worth of lines.
const PIECE: usize = limits::MAX_DATA_BYTES;

/// One that was started.
pub(super) struct Operation {
    started_us: i64,
    began: Instant,
    due: Instant,
    /// Bytes it writes in all.
    output: u64,
    /// Up to where they were sent in this session.
    sent: u64,
    /// Up to where they may be.
    until: u64,
    /// Nothing of it goes out before the coordinator has said where to go on.
    waits: bool,
    cancelled: bool,
    /// The result was sent in this session.
    told: bool,
}

/// All of one agent.
#[derive(Default)]
pub(super) struct Operations {
    open: HashMap<OperationId, Operation>,
    /// Everything that was ever started here.
    journal: HashSet<OperationId>,
}

/// What a request leads to.
pub(super) enum Answer {
    /// It starts.
    Started(Accepted),
    /// It had been started, and is still known.
    Known(Accepted),
    /// It is over and forgotten.
    Forgotten(OperationResult),
}

impl Operation {
    fn accepted(&self) -> Accepted {
        Accepted { started_us: self.started_us, pid: None, containment: Containment::None }
    }

    fn result(&self) -> OperationResult {
        let duration = self.began.elapsed();
        let outcome = match self.cancelled {
            true => Outcome::Cancelled { exit_code: None, signal: Some(15) },
            false => Outcome::Exited { code: 0 },
        };
        OperationResult {
            outcome,
            started_us: Some(self.started_us),
            finished_us: self.started_us + i64::try_from(duration.as_micros()).unwrap_or(0),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            containment: Containment::None,
            totals: Totals { all: self.output, stdout: self.output, stderr: 0 },
            leftovers_killed: 0,
            usage: Usage::default(),
        }
    }
}

impl Operations {
    pub(super) fn request(
        &mut self,
        id: OperationId,
        output: u64,
        delay: Duration,
        now_us: i64,
    ) -> Answer {
        if let Some(known) = self.open.get(&id) {
            return Answer::Known(known.accepted());
        }
        let now = Instant::now();
        let mut operation = Operation {
            started_us: now_us,
            began: now,
            due: now + delay,
            output,
            sent: 0,
            until: limits::INITIAL_CREDIT,
            waits: false,
            cancelled: false,
            told: false,
        };
        if !self.journal.insert(id) {
            operation.output = 0;
            let evidence = reeve_protocol::Evidence {
                code: "already_finished".to_owned(),
                ..reeve_protocol::Evidence::default()
            };
            return Answer::Forgotten(OperationResult {
                outcome: Outcome::Lost(evidence),
                ..operation.result()
            });
        }
        let accepted = operation.accepted();
        self.open.insert(id, operation);
        Answer::Started(accepted)
    }

    /// For `report`: nothing is sent of any of them until the coordinator has said from where.
    pub(super) fn report(&mut self) -> Vec<OperationReport> {
        let now = Instant::now();
        let report = |(id, one): (&OperationId, &mut Operation)| {
            (one.waits, one.told) = (true, false);
            OperationReport {
                id: *id,
                state: match one.due <= now {
                    true => ReportedState::Finished,
                    false => ReportedState::Running,
                },
                spool_from: 0,
                spool_to: if one.due <= now { one.output } else { 0 },
                accepted: one.accepted(),
                stdin_received: 0,
            }
        };
        self.open.iter_mut().map(report).collect()
    }

    /// The coordinator has this much.
    pub(super) fn resume(&mut self, id: OperationId, durable: u64) {
        if let Some(one) = self.open.get_mut(&id).filter(|one| one.waits) {
            one.waits = false;
            one.sent = durable.min(one.output);
            one.until = durable.saturating_add(limits::INITIAL_CREDIT);
        }
    }

    /// Whether it was known.
    pub(super) fn forget(&mut self, id: OperationId) -> bool {
        self.open.remove(&id).is_some()
    }

    pub(super) fn allow(&mut self, id: OperationId, until: u64) {
        if let Some(one) = self.open.get_mut(&id) {
            one.until = one.until.max(until);
        }
    }

    pub(super) fn cancel(&mut self, id: OperationId) {
        if let Some(one) = self.open.get_mut(&id).filter(|one| one.sent == 0 && !one.told) {
            one.cancelled = true;
            one.output = 0;
            one.due = Instant::now();
        }
    }

    /// The next frame that may be sent: a piece of output, or the result behind the last one.
    pub(super) fn next(&mut self) -> Option<(OperationId, Next)> {
        let now = Instant::now();
        for (id, one) in &mut self.open {
            if one.waits || one.told || one.due > now {
                continue;
            }
            if one.sent >= one.output {
                one.told = true;
                return Some((*id, Next::Result(one.result())));
            }
            let end = one.output.min(one.until).min(one.sent + PIECE as u64);
            if end > one.sent {
                let (at, count) = (one.sent, usize::try_from(end - one.sent).unwrap_or(PIECE));
                one.sent = end;
                let none: Option<Gap> = None;
                let bytes = lines(at, count);
                let output =
                    Output { stream: Stream::Stdout, offset: at, all: at, bytes, gap: none };
                return Some((*id, Next::Output(output)));
            }
        }
        None
    }

    /// When the next one ends that is still running.
    pub(super) fn due(&self) -> Option<Instant> {
        // One that is due and not told waits for credit, which wakes the session by itself.
        let now = Instant::now();
        self.open.values().map(|one| one.due).filter(|due| *due > now).min()
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}

/// What an operation has to say next.
pub(super) enum Next {
    Output(Output),
    Result(OperationResult),
}

/// The bytes from an offset on.
fn lines(from: u64, count: usize) -> Vec<u8> {
    let start = usize::try_from(from % LINE.len() as u64).unwrap_or(0);
    LINE.iter().copied().cycle().skip(start).take(count).collect()
}
