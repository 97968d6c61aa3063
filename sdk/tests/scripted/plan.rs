//! What a scripted job does, and its frames.

use std::collections::{BTreeMap, VecDeque};

use axum::body::Bytes;
use reeve_protocol::{Gap, JobId, MachineId, OperationId, Stream};
use reeve_sdk::api::follow::{FrameKind, Header};
use reeve_sdk::api::{
    Job, JobCounts, JobRequest, JobState, Operation, OperationState, OutputInfo, Reason, Time,
};

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub operations: Vec<Planned>,
    /// Every connection is cut after so many bytes.
    pub cut_after: Option<usize>,
    /// After a break, so many bytes that were seen already come again.
    pub overlap: u64,
    /// Runs until somebody cancels it.
    pub until_cancelled: bool,
    /// Somebody's cancelling changes nothing.
    pub ignores_cancel: bool,
    /// Runs until its stdin has ended.
    pub until_input_ends: bool,
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub machine: String,
    pub output: Vec<(Stream, Vec<u8>)>,
    /// Dropped behind the first piece of output.
    pub gap: Option<Gap>,
    pub state: OperationState,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<Reason>,
}

impl Planned {
    pub fn succeeds(machine: &str, stdout: &[u8]) -> Self {
        Self {
            machine: machine.to_owned(),
            output: vec![(Stream::Stdout, stdout.to_vec())],
            gap: None,
            state: OperationState::Succeeded,
            exit_code: Some(0),
            signal: None,
            reason: None,
        }
    }

    pub fn fails(machine: &str, stderr: &[u8], code: i32) -> Self {
        Self {
            output: vec![(Stream::Stderr, stderr.to_vec())],
            state: OperationState::Failed,
            exit_code: Some(code),
            ..Self::succeeds(machine, b"")
        }
    }

    pub fn offline(machine: &str) -> Self {
        Self {
            output: Vec::new(),
            state: OperationState::Expired,
            exit_code: None,
            reason: Some(Reason {
                code: "machine_offline".to_owned(),
                message: format!("{machine} is offline"),
            }),
            ..Self::succeeds(machine, b"")
        }
    }

    pub fn operation(&self, id: OperationId, job_id: JobId, ended: bool) -> Operation {
        let all: usize = self.output.iter().map(|(_, bytes)| bytes.len()).sum();
        Operation {
            id,
            job_id,
            machine_id: MachineId(id.0),
            machine: self.machine.clone(),
            state: if ended { self.state } else { OperationState::Running },
            reachable: None,
            exit_code: self.exit_code.filter(|_| ended),
            signal: self.signal.filter(|_| ended),
            reason: self.reason.clone().filter(|_| ended),
            containment: None,
            created: Time::from_micros(1),
            sent: None,
            started: None,
            finished: None,
            duration_ms: ended.then_some(5),
            output: OutputInfo {
                all: all as u64,
                gaps: Some(self.gap.into_iter().collect()),
                ..Default::default()
            },
            leftovers_killed: 0,
            usage: None,
            stdin_received: 0,
            stdin_closed: false,
        }
    }
}

pub enum Part {
    Bytes(Bytes),
    WaitForCancel,
    WaitForInput,
}

impl Plan {
    pub fn of(operations: Vec<Planned>) -> Self {
        Self { operations, ..Self::default() }
    }

    pub fn job(&self, id: JobId, request: &JobRequest, ids: &[OperationId], ended: bool) -> Job {
        let ok = self.operations.iter().filter(|o| o.state == OperationState::Succeeded).count();
        let total = u32::try_from(self.operations.len()).expect("few");
        let all_ok = ok == self.operations.len();
        Job {
            id,
            selector: request.selector.clone(),
            operation: request.operation.clone(),
            rollout: request.rollout.clone(),
            input: None,
            output_to: None,
            state: match (ended, all_ok) {
                (false, _) => JobState::Running,
                (true, true) => JobState::Succeeded,
                (true, false) => JobState::Failed,
            },
            counts: JobCounts { total, ..Default::default() },
            created_by: "user:ada".to_owned(),
            created: Time::from_micros(1),
            finished: ended.then(|| Time::from_micros(2)),
            cancel_requested: None,
            relay: false,
            single: match (self.operations.as_slice(), ids) {
                ([one], [id_of_one]) => Some(Box::new(one.operation(*id_of_one, id, ended))),
                _ => None,
            },
        }
    }

    /// The stream from the given offsets on.
    pub fn parts(
        &self,
        id: JobId,
        request: &JobRequest,
        ids: &[OperationId],
        offsets: &BTreeMap<String, u64>,
    ) -> VecDeque<Part> {
        let mut parts = VecDeque::new();
        let mut push = |frame: Vec<u8>| parts.push_back(Part::Bytes(frame.into()));
        let json = |value: &Job| serde_json::to_vec(value).expect("json");
        push(about_job(FrameKind::Job, &json(&self.job(id, request, ids, false))));
        for (planned, operation) in self.operations.iter().zip(ids) {
            push(state(&planned.operation(*operation, id, false)));
        }
        for (planned, operation) in self.operations.iter().zip(ids) {
            let reached = offsets.get(&operation.to_string()).copied().unwrap_or(0);
            for frame in output_frames(planned, *operation, reached.saturating_sub(self.overlap)) {
                push(frame);
            }
        }
        if self.until_cancelled {
            parts.push_back(Part::WaitForCancel);
        }
        if self.until_input_ends {
            parts.push_back(Part::WaitForInput);
        }
        let mut push = |frame: Vec<u8>| parts.push_back(Part::Bytes(frame.into()));
        for (planned, operation) in self.operations.iter().zip(ids) {
            push(state(&planned.operation(*operation, id, true)));
        }
        // An old picture of the job after the news of its end must not undo them.
        push(about_job(FrameKind::Job, &json(&self.job(id, request, ids, false))));
        push(about_job(FrameKind::End, b""));
        parts
    }
}

fn about_job(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let header = Header::about_job(kind, u32::try_from(payload.len()).expect("short"));
    [&header.to_bytes()[..], payload].concat()
}

fn state(operation: &Operation) -> Vec<u8> {
    let payload = serde_json::to_vec(operation).expect("json");
    frame(FrameKind::Operation, operation.id, 0, 0, &payload)
}

fn frame(
    kind: FrameKind,
    operation: OperationId,
    all: u64,
    offset: u64,
    payload: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    let header = Header { kind, operation, all, offset, length };
    [&header.to_bytes()[..], payload].concat()
}

fn output_frames(planned: &Planned, id: OperationId, from: u64) -> Vec<Vec<u8>> {
    const FRAME: usize = 60_000;
    let mut frames = Vec::new();
    let (mut all, mut own) = (0u64, [0u64; 2]);
    for (index, (stream, bytes)) in planned.output.iter().enumerate() {
        let own = &mut own[usize::from(*stream == Stream::Stderr)];
        for piece in bytes.chunks(FRAME) {
            let end = all + piece.len() as u64;
            if end > from {
                let skip = usize::try_from(from.saturating_sub(all)).expect("small");
                frames.push(frame(
                    FrameKind::Output(*stream),
                    id,
                    all + skip as u64,
                    *own + skip as u64,
                    &piece[skip..],
                ));
            }
            all = end;
            *own += piece.len() as u64;
        }
        if let (0, Some(gap)) = (index, planned.gap) {
            assert_eq!(gap.from, all, "the plan's gap is behind its first piece");
            if gap.to > from {
                frames.push(frame(
                    FrameKind::Gap,
                    id,
                    0,
                    0,
                    &serde_json::to_vec(&gap).expect("json"),
                ));
            }
            all = gap.to;
            *own += gap.to - gap.from;
        }
    }
    frames
}
