//! Why does it hang? From what `/proc` tells of a command's processes to a cause, with the facts it
//! rests on. Clear cases are decided here; where nothing is clear, [`ask`] puts the question to a
//! model, whose answer is advice and can never be a command.

mod analyst;
mod descriptor;
mod judge;
mod kernel;
mod prompt;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use reeve_protocol::OperationId;
use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::ProcessFinding;
use reeve_sdk::api::{Stall, StallAdvice, Time};

pub use analyst::{Advised, NotAdvice, ask, read};
pub use prompt::{Prompt, find_prompt};

/// Facts told of at most.
const MAX_FACTS: usize = 24;

/// What keeps a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Somebody has to type a password.
    WaitsForPassword,
    /// It was stopped by a signal, is being traced, or its group is frozen.
    Stopped,
    /// The kernel waits for a disk or for another machine's file system.
    Uninterruptible,
    /// Somebody else has the lock.
    WaitsForLock,
    /// A connection is being made and the other end does not answer.
    Connecting,
    /// It reads its stdin.
    WaitsForInput,
    /// What it writes is not taken.
    OutputBlocked,
    /// The other end of a named pipe, or another process, has to do something first.
    WaitsForPeer,
    /// It computes and neither reads nor writes.
    Busy,
    /// It reads or writes.
    Working,
    /// It waits for an answer over the network or a socket.
    WaitsForReply,
    /// It waits for somebody to connect.
    Listening,
    /// It waits for time to pass.
    Sleeping,
    /// It waits for a signal or for files to change.
    WaitsForEvent,
    /// Its children have ended and it does not collect them.
    Zombies,
    /// It waits for a child of which nothing is known.
    WaitsForChild,
    /// Nothing is clear.
    Unknown,
}

impl Cause {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitsForPassword => "waits_for_password",
            Self::Stopped => "stopped",
            Self::Uninterruptible => "uninterruptible",
            Self::WaitsForLock => "waits_for_lock",
            Self::Connecting => "connecting",
            Self::WaitsForInput => "waits_for_input",
            Self::OutputBlocked => "output_blocked",
            Self::WaitsForPeer => "waits_for_peer",
            Self::Busy => "busy",
            Self::Working => "working",
            Self::WaitsForReply => "waits_for_reply",
            Self::Listening => "listening",
            Self::Sleeping => "sleeping",
            Self::WaitsForEvent => "waits_for_event",
            Self::Zombies => "zombies",
            Self::WaitsForChild => "waits_for_child",
            Self::Unknown => "unknown",
        }
    }

    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::WaitsForPassword,
        Self::Stopped,
        Self::Uninterruptible,
        Self::WaitsForLock,
        Self::Connecting,
        Self::WaitsForInput,
        Self::OutputBlocked,
        Self::WaitsForPeer,
        Self::Busy,
        Self::Working,
        Self::WaitsForReply,
        Self::Listening,
        Self::Sleeping,
        Self::WaitsForEvent,
        Self::Zombies,
        Self::WaitsForChild,
        Self::Unknown,
    ];

    /// Of several processes, the one with the most telling cause counts: the lowest.
    fn rank(self) -> u8 {
        match self {
            Self::WaitsForPassword => 0,
            Self::Stopped => 1,
            Self::Uninterruptible => 2,
            Self::WaitsForLock => 3,
            Self::Connecting => 4,
            Self::WaitsForInput => 5,
            Self::OutputBlocked => 6,
            Self::Working => 7,
            Self::Busy => 8,
            Self::WaitsForReply => 9,
            Self::WaitsForPeer => 10,
            Self::Listening => 11,
            Self::Sleeping => 12,
            Self::WaitsForEvent => 13,
            Self::Zombies => 14,
            Self::WaitsForChild => 15,
            Self::Unknown => 16,
        }
    }
}

/// What the rules make of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// What keeps it.
    pub cause: Cause,
    /// In a sentence or two, for people.
    pub explanation: String,
    /// What that rests on, one a line. Parts of it are a stranger's text.
    pub facts: Vec<String>,
    /// What is best done.
    pub advice: StallAdvice,
    /// It wants a password: nobody but a person may give it.
    pub password: bool,
    /// The rules are sure; no model has to be asked.
    pub confident: bool,
}

impl Diagnosis {
    /// As the API shows it.
    #[must_use]
    pub fn into_stall(self, findings: &Findings, operation: OperationId, machine: &str) -> Stall {
        Stall {
            operation,
            machine: machine.to_owned(),
            at: Time::from_micros(findings.at_us),
            silent_ms: findings.silent_ms,
            cause: self.cause.as_str().to_owned(),
            explanation: self.explanation,
            facts: self.facts,
            advice: self.advice,
            by: "rules".to_owned(),
        }
    }
}

/// What one process says.
struct Verdict {
    cause: Cause,
    explanation: String,
    advice: StallAdvice,
    confident: bool,
}

impl Verdict {
    fn sure(cause: Cause, advice: StallAdvice, explanation: String) -> Self {
        Self { cause, explanation, advice, confident: true }
    }

    fn unsure(cause: Cause, advice: StallAdvice, explanation: String) -> Self {
        Self { cause, explanation, advice, confident: false }
    }
}

/// Decides. Never panics, whatever is in the findings.
#[must_use]
pub fn diagnose(findings: &Findings) -> Diagnosis {
    let by_pid: HashMap<u32, &ProcessFinding> =
        findings.processes.iter().map(|process| (process.pid, process)).collect();
    let of_all = judge::judge_operation(findings);
    let found = of_all.map(|verdict| (None, verdict)).or_else(|| {
        let each = findings.processes.iter().filter_map(|process| {
            judge::judge_process(findings, process, &by_pid).map(|verdict| (Some(process), verdict))
        });
        // What is sure before what is not; the first of equals is the oldest.
        each.min_by_key(|(_, verdict)| (!verdict.confident, verdict.cause.rank()))
    });
    let (process, verdict) = found.unwrap_or_else(|| {
        let explanation = match findings.processes.len() {
            0 => "no process of it was found; it may be about to end".to_owned(),
            count => format!("what its {count} processes wait for says nothing clear"),
        };
        (None, Verdict::unsure(Cause::Unknown, StallAdvice::Wait, explanation))
    });
    Diagnosis {
        cause: verdict.cause,
        explanation: words::begin_upper(&verdict.explanation),
        facts: words::list_facts(findings, process, MAX_FACTS),
        advice: verdict.advice,
        password: verdict.cause == Cause::WaitsForPassword,
        confident: verdict.confident,
    }
}
