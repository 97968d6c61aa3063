//! `process_signal`.

use reeve_protocol::ops::process_signal::signal_word;
use reeve_protocol::ops::{Failure, ProcessSignal, ProcessTarget, Signalled, SignalledTarget};

use crate::host;
use crate::host::process::{NotSent, Signal, signal_exactly, to_signal};
use crate::operations::worker::{Needs, Perform, Worker};

impl Perform for ProcessSignal {
    const NEEDS: Needs = Needs::Exec;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        if self.boot_id.as_ref().is_some_and(|boot_id| *boot_id != host::read_boot_id()) {
            return Err(Failure::new(
                "rebooted",
                "the machine was booted again since these processes were seen, so none of them is \
                 there any more; list them anew",
            ));
        }
        let word = signal_word(self.signal);
        let signal = to_signal(self.signal);
        let targets: Vec<_> =
            self.targets.iter().map(|target| send(*target, signal, word)).collect();
        let answer = Signalled { targets };
        worker.answer(&answer)?;
        let mut failed: Vec<&SignalledTarget> =
            answer.targets.iter().filter(|target| !target.sent).collect();
        let Some(first) = failed.pop() else { return Ok(()) };
        let code = first.code.clone().unwrap_or_default();
        let message = first.message.clone().unwrap_or_default();
        let others = match failed.len() {
            0 => String::new(),
            more => format!("; {more} more of {} could not be signalled", answer.targets.len()),
        };
        Err(Failure::new(&code, message + &others))
    }
}

fn send(target: ProcessTarget, signal: Signal, word: &str) -> SignalledTarget {
    let ProcessTarget { pid, start_time } = target;
    let failure = match signal_exactly(pid, start_time, signal) {
        Ok(()) => return SignalledTarget { pid, sent: true, code: None, message: None },
        Err(failure) => failure,
    };
    let (code, message) = match failure {
        NotSent::Gone => ("not_found", format!("process {pid} has ended; list them anew")),
        NotSent::Another => (
            "not_found",
            format!("process {pid} has ended and another has its id now, which was left alone"),
        ),
        NotSent::NotPermitted => (
            "not_permitted",
            format!(
                "the agent may not send {word} to process {pid}: it runs as '{}'",
                host::users::load_own_account().name
            ),
        ),
        NotSent::Unsupported => (
            "unsupported",
            "this kernel cannot name a process for certain (pidfd_open needs Linux 5.3), so no \
             signal was sent"
                .to_owned(),
        ),
        NotSent::Other(error) => ("io", format!("process {pid}: {error}")),
    };
    SignalledTarget { pid, sent: false, code: Some(code.to_owned()), message: Some(message) }
}
