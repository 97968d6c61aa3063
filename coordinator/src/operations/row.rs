//! Jobs and operations as the database keeps them, and how the API shows them.

use reeve_protocol::{
    Containment, JobId, JournalId, MachineId, OperationId, OperationResult, Outcome, Totals, Usage,
};
use reeve_sdk::api::{
    Job, JobCounts, JobInput, JobState, Operation, OperationRequest, OperationState, OutputInfo,
    OutputTo, Reason, Rollout, Time,
};
use serde::{Deserialize, Serialize};

use super::approved::Approved;

/// A job.
#[derive(Clone, Debug)]
pub struct JobRow {
    pub id: JobId,
    pub principal: String,
    pub selector: String,
    pub operation: OperationRequest,
    pub rollout: Rollout,
    pub output_limit: u64,
    /// Operations not started by then never will be.
    pub expires_us: Option<i64>,
    pub state: JobState,
    pub created_us: i64,
    pub finished_us: Option<i64>,
    pub cancel_requested_us: Option<i64>,
    /// The yes it runs with, if it needed one.
    pub approval: Option<Approved>,
    /// What else was asked.
    pub options: JobOptions,
}

/// What besides its operation was asked of a job and still matters when the coordinator starts
/// anew. Whatever is added has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobOptions {
    /// Secrets in what workers write are replaced on the machine.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redact: bool,
    /// Output is passed on and not kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
    /// Where stdin comes from, unless somebody sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<JobInput>,
    /// The operation of which stdout is stdin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_to: Option<OutputTo>,
}

impl JobRow {
    /// As the API shows it.
    pub fn to_api(&self, counts: JobCounts, single: Option<Operation>) -> Job {
        Job {
            id: self.id,
            selector: self.selector.clone(),
            operation: self.operation.clone(),
            rollout: self.rollout.clone(),
            input: self.options.input,
            output_to: self.options.output_to,
            state: self.state,
            counts,
            created_by: self.principal.clone(),
            created: Time::from_micros(self.created_us),
            finished: self.finished_us.map(Time::from_micros),
            cancel_requested: self.cancel_requested_us.map(Time::from_micros),
            relay: self.options.relay,
            single: single.map(Box::new),
        }
    }
}

/// An operation.
#[derive(Clone, Debug)]
pub struct OperationRow {
    pub id: OperationId,
    pub job_id: JobId,
    pub ordinal: i64,
    pub machine_id: MachineId,
    pub machine: String,
    pub state: OperationState,
    /// The boot it was sent to; set before it is sent.
    pub boot_id: Option<String>,
    /// The agent's journal it was sent to; set before it is sent.
    pub journal_id: Option<JournalId>,
    pub created_us: i64,
    pub sent_us: Option<i64>,
    pub started_us: Option<i64>,
    pub finished_us: Option<i64>,
    pub updated_us: i64,
    pub cancel_requested_us: Option<i64>,
    pub cancel_reason: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<Reason>,
    pub containment: Option<Containment>,
    pub duration_ms: Option<u64>,
    pub leftovers_killed: u32,
    pub usage: Option<Usage>,
    pub durable: Totals,
}

impl OperationRow {
    /// A fresh one.
    pub fn new(
        job_id: JobId,
        ordinal: i64,
        machine_id: MachineId,
        machine: &str,
        now_us: i64,
    ) -> Self {
        Self {
            id: OperationId::new(),
            job_id,
            ordinal,
            machine_id,
            machine: machine.to_owned(),
            state: OperationState::Queued,
            boot_id: None,
            journal_id: None,
            created_us: now_us,
            sent_us: None,
            started_us: None,
            finished_us: None,
            updated_us: now_us,
            cancel_requested_us: None,
            cancel_reason: None,
            exit_code: None,
            signal: None,
            reason: None,
            containment: None,
            duration_ms: None,
            leftovers_killed: 0,
            usage: None,
            durable: Totals::default(),
        }
    }

    /// Whoever cancelled it said why.
    fn why_cancelled(&self) -> Option<Reason> {
        let said = self.cancel_reason.as_ref().filter(|said| !said.is_empty())?;
        (self.state == OperationState::Cancelled).then(|| reason("cancelled", said))
    }

    /// As the API shows it. Gaps, reachability and stdin are filled in by whoever knows them.
    pub fn to_api(&self) -> Operation {
        Operation {
            id: self.id,
            job_id: self.job_id,
            machine_id: self.machine_id,
            machine: self.machine.clone(),
            state: self.state,
            reachable: None,
            exit_code: self.exit_code,
            signal: self.signal,
            reason: self.reason.clone().or_else(|| self.why_cancelled()),
            containment: self.containment,
            created: Time::from_micros(self.created_us),
            sent: self.sent_us.map(Time::from_micros),
            started: self.started_us.map(Time::from_micros),
            finished: self.finished_us.map(Time::from_micros),
            duration_ms: self.duration_ms,
            output: OutputInfo {
                all: self.durable.all,
                stdout: self.durable.stdout,
                stderr: self.durable.stderr,
                gaps: None,
            },
            leftovers_killed: self.leftovers_killed,
            usage: self.usage,
            stdin_received: 0,
            stdin_closed: false,
        }
    }
}

/// How an operation ended, as it will be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub state: OperationState,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub reason: Option<Reason>,
    pub started_us: Option<i64>,
    pub containment: Option<Containment>,
    pub duration_ms: Option<u64>,
    pub leftovers_killed: u32,
    pub usage: Option<Usage>,
}

impl Ending {
    /// An end that the coordinator decides, with nothing from a machine.
    pub fn decided(state: OperationState, code: &str, message: impl Into<String>) -> Self {
        Self {
            state,
            exit_code: None,
            signal: None,
            reason: Some(Reason { code: code.to_owned(), message: message.into() }),
            started_us: None,
            containment: None,
            duration_ms: None,
            leftovers_killed: 0,
            usage: None,
        }
    }

    /// What a machine's result means. Only exit code 0 is success.
    pub fn of(result: &OperationResult) -> Self {
        let mut ending = Self {
            state: OperationState::Failed,
            exit_code: None,
            signal: None,
            reason: None,
            started_us: result.started_us,
            containment: (result.containment != Containment::None).then_some(result.containment),
            duration_ms: result.started_us.map(|_| result.duration_ms),
            leftovers_killed: result.leftovers_killed,
            usage: result.started_us.map(|_| result.usage),
        };
        match &result.outcome {
            Outcome::Exited { code } => {
                ending.exit_code = Some(*code);
                if *code == 0 {
                    ending.state = OperationState::Succeeded;
                }
            }
            Outcome::Signaled { signal } => ending.signal = Some(*signal),
            Outcome::NotStarted { exit_code, code, message } => {
                ending.exit_code = Some(*exit_code);
                ending.reason = Some(reason(code, message));
            }
            Outcome::TimedOut { exit_code, signal } => {
                ending.state = OperationState::TimedOut;
                (ending.exit_code, ending.signal) = (*exit_code, *signal);
            }
            Outcome::Cancelled { exit_code, signal } => {
                ending.state = OperationState::Cancelled;
                (ending.exit_code, ending.signal) = (*exit_code, *signal);
            }
            Outcome::Refused(refusal) => {
                ending.state = match refusal.code.as_str() {
                    "expired" => OperationState::Expired,
                    _ => OperationState::Refused,
                };
                ending.reason = Some(reason(&refusal.code, &refusal.message));
            }
            Outcome::Lost(evidence) => {
                ending.state = OperationState::Lost;
                let mut text = evidence.message.clone();
                for (name, value) in [
                    ("boot", evidence.boot_id.clone()),
                    ("last byte", evidence.last_byte.map(|byte| byte.to_string())),
                    (
                        "last seen",
                        evidence.last_seen_us.map(|at| Time::from_micros(at).to_string()),
                    ),
                    ("processes killed", Some(evidence.killed.to_string())),
                ] {
                    if let Some(value) = value {
                        text.push_str(&format!("; {name} {value}"));
                    }
                }
                ending.reason = Some(reason(&evidence.code, &text));
            }
        }
        ending
    }
}

/// Text from a machine, cut to a sane length. Databases refuse NUL in text.
fn reason(code: &str, message: &str) -> Reason {
    let clean = |text: &str, limit| text.replace('\0', "").chars().take(limit).collect();
    Reason { code: clean(code, 64), message: clean(message, 2048) }
}
