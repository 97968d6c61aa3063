//! `process_signal`: a signal to exactly those processes that somebody saw. The answer is one JSON
//! document on stdout: [`Signalled`]. It fails when any of them could not be signalled.

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, Work};
use crate::SignalName;

/// Processes of one request.
pub const MAX_TARGETS: usize = 1024;

/// Send a signal to processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProcessSignal {
    /// Which, as `process_list` names them.
    pub targets: Vec<ProcessTarget>,
    /// `HUP`, `INT`, `QUIT`, `TERM`, `KILL`, `USR1`, `USR2`, `STOP` or `CONT`.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub signal: SignalName,
    /// The boot in which they were seen. In another one nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// One process, such that no other can be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProcessTarget {
    /// Process id.
    pub pid: u32,
    /// Its start, as `process_list` tells it: a process that has the id now and started at another
    /// time is left alone.
    pub start_time: u64,
}

impl Operation for ProcessSignal {
    const NAME: &'static str = "process_signal";
}

impl Work for ProcessSignal {
    fn effect(&self) -> Effect {
        match self.signal {
            // A process that has ended does not come back as it was.
            SignalName::Int | SignalName::Quit | SignalName::Term | SignalName::Kill => {
                Effect::Destroy
            }
            SignalName::Hup
            | SignalName::Usr1
            | SignalName::Usr2
            | SignalName::Stop
            | SignalName::Cont => Effect::Change,
        }
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        let fault = if self.targets.is_empty() {
            "there is no process in targets".to_owned()
        } else if self.targets.len() > MAX_TARGETS {
            format!(
                "there are {} processes in targets; {MAX_TARGETS} is the most",
                self.targets.len()
            )
        } else if self.targets.iter().any(|target| target.pid == 0) {
            "0 is no process".to_owned()
        } else {
            return Ok(());
        };
        Err(InvalidWork::Value(fault))
    }

    fn describe(&self) -> String {
        let signal = signal_word(self.signal);
        match self.targets.as_slice() {
            [target] => format!("send {signal} to process {}", target.pid),
            many => {
                let pids: Vec<String> =
                    many.iter().take(20).map(|target| target.pid.to_string()).collect();
                let more = if many.len() > pids.len() { " …" } else { "" };
                format!("send {signal} to {} processes: {}{more}", many.len(), pids.join(" "))
            }
        }
    }
}

/// A signal as people write it, without `SIG`.
#[must_use]
pub fn signal_word(signal: SignalName) -> &'static str {
    match signal {
        SignalName::Hup => "HUP",
        SignalName::Int => "INT",
        SignalName::Quit => "QUIT",
        SignalName::Term => "TERM",
        SignalName::Kill => "KILL",
        SignalName::Usr1 => "USR1",
        SignalName::Usr2 => "USR2",
        SignalName::Stop => "STOP",
        SignalName::Cont => "CONT",
    }
}

/// What became of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalled {
    /// In the order of the request.
    pub targets: Vec<SignalledTarget>,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalledTarget {
    /// Process id.
    pub pid: u32,
    /// Whether the signal was sent.
    pub sent: bool,
    /// Why not: `not_found`, `not_permitted`, `unsupported`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
