//! One open operation as the writer sees it: what has come in, what of it is durable.

use std::sync::Arc;

use reeve_link::credit::Window;
use reeve_protocol::{
    Accepted, JobId, MachineId, OperationResult, OutputRef, Stream, Totals, limits,
};

use super::super::incoming::{self, Breach, Fresh};
use super::super::record;
use super::Opening;
use crate::fleet::Session;
use crate::operations::relay::Relay;
use crate::operations::row::Ending;

/// Bytes of one piece. Bounds what a reader holds in memory.
const PIECE_BYTES: usize = 1024 * 1024;

/// Bytes of one with its records' headers: those of full frames, and of some that are not.
const FULL_BYTES: usize = PIECE_BYTES + 1024;

/// Of an operation whose output is over its limit, the end that is kept, at most.
const MAX_TAIL_BYTES: u64 = 16 * 1024 * 1024;

/// A piece that is being collected.
pub struct Collected {
    pub from: Totals,
    pub to: Totals,
    pub records: Vec<u8>,
}

pub struct Live {
    pub job: JobId,
    pub machine: MachineId,
    pub session: Arc<Session>,
    pub window: Window,
    /// What has come in; everything below is durable or in `collected`.
    pub received: Totals,
    /// What is durable.
    pub durable: Totals,
    pub collected: Vec<Collected>,
    pub accepted: Option<Accepted>,
    /// Whether `running` is in the database.
    pub started: bool,
    pub result: Option<OperationResult>,
    /// Its end is in a batch; whatever still comes says nothing new.
    pub ended: bool,
    /// The agent waits to hear from where to send.
    pub resumed: bool,
    /// Output up to here is kept whole.
    pub head: u64,
    /// Beyond it, this much of the end.
    pub tail: u64,
    /// Output is not ours: it goes to whoever reads it here, and only its length is recorded.
    pub relay: Option<Arc<Relay>>,
}

impl Live {
    pub fn new(opening: Opening) -> Self {
        let tail = (opening.limit / 4).min(MAX_TAIL_BYTES);
        Self {
            job: opening.job,
            machine: opening.machine,
            session: opening.session,
            window: Window::new(opening.durable.all),
            received: opening.durable,
            durable: opening.durable,
            collected: Vec::new(),
            accepted: opening.accepted,
            started: false,
            result: None,
            ended: false,
            resumed: opening.resumed,
            head: opening.limit - tail,
            tail,
            relay: opening.relay,
        }
    }

    /// The machine has a new session. What came in through the old one counts.
    pub fn reopened(mut self, opening: Opening) -> Self {
        self.session = opening.session;
        self.resumed |= opening.resumed;
        if let Some(accepted) = opening.accepted {
            self.take_accepted(accepted);
        }
        self
    }

    pub fn take_accepted(&mut self, accepted: Accepted) {
        if !self.started {
            self.accepted = Some(accepted);
        }
    }

    pub fn take_output(&mut self, output: OutputRef<'_>) -> Result<(), Breach> {
        match incoming::check(self.received, &self.window, output)? {
            Fresh::Nothing => {}
            Fresh::Bytes { known } => {
                self.collect(output.stream, output.bytes.get(known..).unwrap_or_default());
            }
            // A hole between two pieces is what a gap is, so the next byte begins a new one.
            Fresh::Gap(gap) => incoming::skip(&mut self.received, gap),
        }
        Ok(())
    }

    fn collect(&mut self, stream: Stream, bytes: &[u8]) {
        let starts_new = self.collected.last().is_none_or(|piece| {
            piece.to != self.received || piece.records.len() + bytes.len() > PIECE_BYTES
        });
        if starts_new {
            self.collected.push(Collected {
                from: self.received,
                to: self.received,
                records: Vec::new(),
            });
        }
        incoming::advance(&mut self.received, stream, bytes.len() as u64);
        if let Some(piece) = self.collected.last_mut() {
            // More than one full frame: it will be a full piece, and growing would copy it again and
            // again.
            if piece.records.len() > limits::MAX_DATA_BYTES {
                piece.records.reserve_exact(FULL_BYTES.saturating_sub(piece.records.len()));
            }
            record::push(&mut piece.records, stream, bytes);
            piece.to = self.received;
        }
    }

    pub fn take_result(&mut self, result: OperationResult) -> Result<(), Breach> {
        if let Some(relay) = &self.relay {
            relay.finish(result.totals)?;
            self.received = result.totals;
        }
        if result.totals != self.received {
            return Err(Breach::Short(result.totals.all, self.received.all));
        }
        if !self.ended {
            self.result = Some(result);
        }
        Ok(())
    }

    /// How it ended, once, for the batch that records it.
    pub fn take_ending(&mut self) -> Option<Ending> {
        let result = self.result.take()?;
        self.ended = true;
        Some(Ending::of(&result))
    }

    /// The range of the merged order that is beyond the limit once `durable` is the end.
    pub fn middle_to_drop(&self, durable: u64) -> Option<(u64, u64)> {
        let to = durable.saturating_sub(self.tail);
        (to > self.head).then_some((self.head, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_link::{Settings, memory_pair, open};
    use reeve_protocol::{
        Containment, Gap, Hello, JournalId, OperationId, Outcome, VersionRange, limits,
    };

    fn live() -> Live {
        let (transport, _other) = memory_pair();
        let (sender, _receiver, _driver) = open(transport, Settings::default());
        let machine = MachineId::new();
        let hello = Hello {
            versions: VersionRange::ours(),
            agent_version: String::new(),
            machine,
            operations: Vec::new(),
            boot_id: "boot".to_owned(),
            journal: JournalId::new(),
            max_concurrent: 1,
        };
        Live::new(Opening {
            operation: OperationId::new(),
            job: JobId::new(),
            machine,
            session: Arc::new(Session::for_test(hello, sender)),
            durable: Totals::default(),
            limit: 1 << 20,
            resumed: false,
            accepted: None,
            relay: None,
        })
    }

    fn output(stream: Stream, offset: u64, all: u64, bytes: &[u8]) -> OutputRef<'_> {
        OutputRef { stream, offset, all, bytes, gap: None }
    }

    fn bytes_of(live: &Live) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in &live.collected {
            let mut rest = piece.records.as_slice();
            while let Ok(Some(record)) = record::take(&mut rest) {
                bytes.extend_from_slice(record.bytes);
            }
        }
        bytes
    }

    #[test]
    fn repeated_and_overlapping_output_counts_once() {
        let mut live = live();
        live.take_output(output(Stream::Stdout, 0, 0, b"abc")).expect("fits");
        live.take_output(output(Stream::Stdout, 0, 0, b"abc")).expect("repeated");
        live.take_output(output(Stream::Stdout, 1, 1, b"bcde")).expect("overlaps");
        live.take_output(output(Stream::Stderr, 0, 5, b"!")).expect("fits");
        assert_eq!(bytes_of(&live), b"abcde!");
        assert_eq!(live.received, Totals { all: 6, stdout: 5, stderr: 1 });
    }

    #[test]
    fn skipped_offset_is_a_breach() {
        let mut live = live();
        live.take_output(output(Stream::Stdout, 0, 0, b"abc")).expect("fits");
        assert!(live.take_output(output(Stream::Stdout, 4, 4, b"e")).is_err());
        assert!(live.take_output(output(Stream::Stdout, 4, 3, b"e")).is_err());
        assert!(live.take_output(output(Stream::Stderr, 3, 3, b"e")).is_err());
    }

    #[test]
    fn output_beyond_the_credit_is_a_breach() {
        let mut live = live();
        let full = vec![0; limits::MAX_DATA_BYTES];
        live.take_output(output(Stream::Stdout, 0, 0, &full)).expect("credit");
        let at = full.len() as u64;
        assert!(live.take_output(output(Stream::Stdout, at, at, b"x")).is_err());
    }

    #[test]
    fn gap_leaves_a_hole_and_renumbers_nothing() {
        let mut live = live();
        live.take_output(output(Stream::Stdout, 0, 0, b"abc")).expect("fits");
        let gap = Gap { from: 3, to: 10, stdout: 5, stderr: 2 };
        let mut frame = output(Stream::Stdout, 3, 3, b"");
        frame.gap = Some(gap);
        live.take_output(frame).expect("a gap");
        live.take_output(frame).expect("repeated");
        live.take_output(output(Stream::Stdout, 8, 10, b"z")).expect("fits");
        assert_eq!(live.collected.len(), 2);
        assert_eq!(live.collected[1].from, Totals { all: 10, stdout: 8, stderr: 2 });
        frame.gap = Some(Gap { from: 11, to: 20, stdout: 1, stderr: 1 });
        frame.all = 11;
        assert!(live.take_output(frame).is_err());
    }

    #[test]
    fn result_before_its_output_is_a_breach() {
        let mut live = live();
        let result = OperationResult {
            outcome: Outcome::Exited { code: 0 },
            started_us: Some(1),
            finished_us: 2,
            duration_ms: 1,
            containment: Containment::CgroupV2,
            totals: Totals { all: 3, stdout: 3, stderr: 0 },
            leftovers_killed: 0,
            usage: reeve_protocol::Usage::default(),
        };
        assert!(live.take_result(result.clone()).is_err());
        live.take_output(output(Stream::Stdout, 0, 0, b"abc")).expect("fits");
        live.take_result(result).expect("whole");
    }

    #[test]
    fn middle_is_dropped_only_beyond_head_and_tail() {
        let live = live();
        let limit = 1 << 20;
        assert_eq!(live.middle_to_drop(limit), None);
        let (from, to) = live.middle_to_drop(limit + 100).expect("over the limit");
        assert_eq!((from, to), (live.head, live.head + 100));
    }
}
