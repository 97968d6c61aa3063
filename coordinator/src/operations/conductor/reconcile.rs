//! After a connect: what the agent holds against what the database says it was given.

use std::collections::HashMap;
use std::sync::Arc;

use reeve_protocol::{Control, OperationId, OperationReport, ReportedState};
use reeve_sdk::api::OperationState;

use super::Conductor;
use super::state::Phase;
use crate::fleet::Session;
use crate::operations::output::{Command, Opening};
use crate::operations::row::Ending;

/// What to do about an operation that was sent and that the agent does not know.
#[derive(Debug, PartialEq, Eq)]
enum Unknown {
    /// It never arrived, and the agent would remember if it had: send it again.
    SendAgain,
    /// It never arrived, and it is not wanted any more.
    Cancelled,
    /// It never arrived, and its time is up.
    Expired,
    /// It never arrived, and its approval is worth nothing any more.
    Barred(Box<Ending>),
    /// It may have started.
    Lost(&'static str, String),
}

impl Conductor {
    pub(super) async fn reconcile(
        &mut self,
        session: &Arc<Session>,
        reports: Vec<OperationReport>,
    ) {
        let reported: HashMap<OperationId, OperationReport> =
            reports.into_iter().map(|report| (report.id, report)).collect();
        let in_flight: Vec<OperationId> = self
            .book
            .machines
            .get(&session.machine)
            .map(|machine| machine.in_flight.keys().copied().collect())
            .unwrap_or_default();
        for id in reported.keys().filter(|id| !in_flight.contains(id)) {
            self.answer_unknown(session, *id).await;
        }
        for id in in_flight {
            match reported.get(&id) {
                Some(report) => self.resume(session, report),
                None => self.settle_unknown(session, id),
            }
        }
    }

    /// The agent has it: it goes on from where we are.
    fn resume(&mut self, session: &Arc<Session>, report: &OperationReport) {
        let Some(operation) = self.book.operations.get(&report.id) else { return };
        let Some(job) = self.book.jobs.get(&operation.job) else { return };
        let relay = job.relay(report.id);
        self.writer.put(Command::Open(Box::new(Opening {
            operation: report.id,
            job: operation.job,
            machine: operation.machine,
            session: Arc::clone(session),
            durable: operation.durable,
            limit: job.output_limit,
            resumed: relay.is_none(),
            // Agents announce a start once; the report says it again if that was lost.
            accepted: (report.state == ReportedState::Running && operation.phase == Phase::Sent)
                .then(|| report.accepted.clone()),
            relay: relay.clone(),
        })));
        if let Some(relay) = relay {
            relay.resume(session, report);
        }
        if job.work.stdin {
            self.stdins.open(report.id, session, report.stdin_received);
            if let Some(upload) = job.upload {
                self.feeders.start(report.id, upload);
            }
        }
        if let Some(reason) = &operation.cancel {
            session.tell(Some(report.id), &Control::Cancel { reason: reason.clone() });
        }
    }

    fn settle_unknown(&mut self, session: &Arc<Session>, id: OperationId) {
        let verdict = self.judge_unknown(session, id);
        tracing::info!(machine = session.name, operation = %id, ?verdict, "not known to its agent");
        let decided = |state, code, message: &str| Ending::decided(state, code, message);
        let ending = match verdict {
            Unknown::SendAgain => {
                self.send(id, session);
                return;
            }
            Unknown::Cancelled => decided(
                OperationState::Cancelled,
                "cancelled",
                "it was cancelled before it started",
            ),
            Unknown::Barred(ending) => *ending,
            Unknown::Expired => {
                decided(OperationState::Expired, "expired", "its time was up before it started")
            }
            Unknown::Lost(code, message) => decided(OperationState::Lost, code, &message),
        };
        self.book.endings.push((id, ending));
    }

    fn judge_unknown(&self, session: &Session, id: OperationId) -> Unknown {
        let lost = |code, what: &str| {
            Unknown::Lost(
                code,
                format!(
                    "{what}; whether it had started or ended by then is not known, and it was not run again; boot now {}",
                    session.boot_id
                ),
            )
        };
        let Some(operation) = self.book.operations.get(&id) else {
            return lost("unknown", "it is not known here");
        };
        let Some((boot_id, journal)) = &operation.sent_to else {
            return lost("unknown", "it is not recorded where it was sent");
        };
        if *boot_id != session.boot_id {
            return lost(
                "rebooted",
                &format!("the machine rebooted; it was sent to boot {boot_id}"),
            );
        }
        if *journal != session.journal {
            return lost("journal_gone", "the agent's memory of what it started is gone");
        }
        if operation.phase == Phase::Running {
            return lost("forgotten", "the agent had started it and knows it no more");
        }
        if operation.cancel.is_some() {
            return Unknown::Cancelled;
        }
        let now_us = self.clock.micros();
        let Some(job) = self.book.jobs.get(&operation.job) else { return Unknown::SendAgain };
        if let Some(ending) = job.bar(now_us, &operation.name) {
            return Unknown::Barred(Box::new(ending));
        }
        if job.expires_us.is_some_and(|at| at <= now_us) {
            return Unknown::Expired;
        }
        Unknown::SendAgain
    }
}
