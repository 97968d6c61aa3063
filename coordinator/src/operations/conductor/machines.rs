//! Machines coming and going, and which operation goes to which of them next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::{
    Acknowledge, Control, Credit, Envelope, JobId, Kind, MachineId, OperationId, Report, Request,
};
use reeve_sdk::api::OperationState;

use super::state::Phase;
use super::{Conductor, Operation, RECONNECT_GRACE};
use crate::fleet::{Event, Session};
use crate::machines::Registry;
use crate::operations::body::Lane;
use crate::operations::output::{Command, Opening};
use crate::operations::row::Ending;
use crate::operations::store;

/// Places of a machine for what its agent answers itself, which takes moments.
const ANSWER_PLACES: usize = 4;

/// Places of a machine for what workers do: transfers, followed logs, terminals, tunnels. Less than
/// the agent's own bound.
const WORK_PLACES: usize = 128;

impl Conductor {
    pub(super) async fn take_event(&mut self, event: Event) {
        match event {
            Event::Connected(session) => {
                let machine = self.book.machines.entry(session.machine).or_default();
                if machine.session.as_ref().is_none_or(|old| old.epoch < session.epoch) {
                    machine.session = Some(session);
                    machine.reported = false;
                    machine.reports.clear();
                }
            }
            Event::Disconnected(session) => self.disconnected(&session),
            Event::Frame(session, envelope) => {
                if self.is_current(&session) {
                    self.take_frame(&session, envelope).await;
                }
            }
        }
    }

    fn is_current(&self, session: &Session) -> bool {
        self.book
            .machines
            .get(&session.machine)
            .and_then(|machine| machine.session.as_ref())
            .is_some_and(|current| current.epoch == session.epoch)
    }

    fn disconnected(&mut self, session: &Arc<Session>) {
        if !self.is_current(session) {
            return;
        }
        let now_us = self.clock.micros();
        let Some(machine) = self.book.machines.get_mut(&session.machine) else { return };
        machine.session = None;
        machine.reported = false;
        machine.reports.clear();
        machine.gone_us = now_us;
        if machine.is_idle() {
            self.book.machines.remove(&session.machine);
        }
    }

    async fn take_frame(&mut self, session: &Arc<Session>, envelope: Envelope) {
        let taken = match envelope.kind {
            Kind::Report => envelope.open::<Report>().map(Some),
            Kind::Credit => envelope.operation().and_then(|operation| {
                if let Credit::Stdin { received, until, closed } = envelope.open()?
                    && self.is_of(operation, session.machine)
                {
                    self.stdins.advance(operation, received, until, closed);
                }
                Ok(None)
            }),
            _ => Ok(None),
        };
        match taken {
            Ok(None) => {}
            Ok(Some(report)) => self.take_report(session, report).await,
            Err(error) => {
                metrics::counter!("reeve_protocol_breaches_total").increment(1);
                tracing::warn!(machine = session.name, %error, "closing a link");
                session.dismiss(
                    reeve_protocol::GoodbyeReason::Protocol,
                    &error.to_string(),
                    Duration::from_secs(5),
                );
            }
        }
    }

    fn is_of(&self, operation: OperationId, machine: MachineId) -> bool {
        self.book.operations.get(&operation).is_some_and(|found| found.machine == machine)
    }

    async fn take_report(&mut self, session: &Arc<Session>, report: Report) {
        let Some(machine) = self.book.machines.get_mut(&session.machine) else { return };
        if machine.reported {
            return;
        }
        machine.reports.extend(report.operations);
        if report.last {
            machine.reported = true;
            let reports = std::mem::take(&mut machine.reports);
            self.reconcile(session, reports).await;
            self.book.dirty_machines.insert(session.machine);
        }
    }

    /// Operations of a job whose turn has come go to their machines, or end because those are away.
    pub(super) fn release(&mut self, id: JobId) {
        let waits = self.book.jobs.get(&id).is_some_and(|job| job.expires_us.is_some());
        self.release_to(id, waits);
    }

    /// As [`Self::release`] when the coordinator has just started: machines that were here come
    /// back in a moment, so all of them are waited for.
    pub(super) fn release_restored(&mut self, id: JobId) {
        self.release_to(id, true);
    }

    fn release_to(&mut self, id: JobId, waits: bool) {
        let Some(job) = self.book.jobs.get_mut(&id) else { return };
        for operation_id in job.progress.release() {
            let Some(operation) = self.book.operations.get_mut(&operation_id) else { continue };
            operation.phase = Phase::Waiting;
            if let Some(ending) = gone(&self.registry, operation) {
                self.book.endings.push((operation_id, ending));
                continue;
            }
            let machine = self.book.machines.entry(operation.machine).or_default();
            if machine.session.is_none() && !waits && self.fleet.is_online(operation.machine) {
                // Everybody sees that it is here, and this loop will in a moment.
                machine.gone_us = self.clock.micros();
            } else if machine.session.is_none() && !waits {
                let ending = unreachable(&self.registry, operation);
                self.book.endings.push((operation_id, ending));
                continue;
            }
            machine.waiting.entry(operation.lane).or_default().push_back(operation_id);
            self.book.dirty_machines.insert(operation.machine);
        }
    }

    /// Operations that may be sent now, their places taken. Whoever cannot record it puts them back.
    pub(super) fn pick(&mut self) -> Vec<(OperationId, Arc<Session>)> {
        let now_us = self.clock.micros();
        let mut picked = Vec::new();
        for id in std::mem::take(&mut self.book.dirty_machines) {
            let Some(machine) = self.book.machines.get_mut(&id) else { continue };
            let Some(session) = machine.session.clone().filter(|_| machine.reported) else {
                continue;
            };
            let most = self.in_flight_limit.min(session.max_concurrent as usize);
            for lane in [Lane::Answer, Lane::Work, Lane::Command] {
                let places = match lane {
                    Lane::Answer => ANSWER_PLACES,
                    Lane::Work => WORK_PLACES,
                    Lane::Command => most,
                };
                while machine.count_in_flight(lane) < places
                    && let Some(operation_id) =
                        machine.waiting.get_mut(&lane).and_then(VecDeque::pop_front)
                {
                    let Some(operation) = self.book.operations.get_mut(&operation_id) else {
                        continue;
                    };
                    let job = self.book.jobs.get(&operation.job);
                    if let Some(ending) = job.and_then(|job| job.bar(now_us, &operation.name)) {
                        self.book.endings.push((operation_id, ending));
                        continue;
                    }
                    machine.in_flight.insert(operation_id, lane);
                    operation.phase = Phase::Sent;
                    operation.sent_to = Some((session.boot_id.clone(), session.journal));
                    picked.push((operation_id, session.clone()));
                }
            }
        }
        picked
    }

    /// What was picked could not be recorded: it waits again.
    pub(super) fn put_back(&mut self, picked: Vec<(OperationId, Arc<Session>)>) {
        for (id, session) in picked.into_iter().rev() {
            let Some(operation) = self.book.operations.get_mut(&id) else { continue };
            operation.phase = Phase::Waiting;
            operation.sent_to = None;
            if let Some(machine) = self.book.machines.get_mut(&session.machine) {
                machine.in_flight.remove(&id);
                machine.waiting.entry(operation.lane).or_default().push_front(id);
                self.book.dirty_machines.insert(session.machine);
            }
        }
    }

    /// Sends what the database already calls sent. If the session is over meanwhile, the next one's
    /// report tells whether it arrived.
    pub(super) fn send(&mut self, id: OperationId, session: &Arc<Session>) {
        let now_us = self.clock.micros();
        let Some(operation) = self.book.operations.get(&id) else { return };
        let Some(job) = self.book.jobs.get(&operation.job) else { return };
        let Some((boot_id, journal)) = operation.sent_to.clone() else { return };
        let expires_in_ms = job
            .start_by_us()
            .map(|at| u64::try_from(at.saturating_sub(now_us)).unwrap_or(0) / 1000);
        let body = job.work.body.clone();
        let approval = job.approval.as_ref().map(|(approved, _)| approved.stamp.clone());
        let redact = job.work.redact;
        let request = Request { boot_id, journal, expires_in_ms, body, approval, redact };
        let relay = job.relay(id);
        if let Some(relay) = &relay {
            relay.begin(session);
        }
        self.writer.put(Command::Open(Box::new(Opening {
            operation: id,
            job: operation.job,
            machine: operation.machine,
            session: Arc::clone(session),
            durable: operation.durable,
            limit: job.output_limit,
            resumed: false,
            accepted: None,
            relay,
        })));
        if job.work.stdin {
            self.stdins.open(id, session, 0);
            if let Some(upload) = job.upload {
                self.feeders.start(id, upload);
            }
        }
        match Envelope::request(id, job.work.name, &request) {
            Ok(envelope) => session.request(&envelope),
            Err(error) => tracing::error!(%error, "a request could not be encoded"),
        }
        if let Some(reason) = &operation.cancel {
            session.tell(Some(id), &Control::Cancel { reason: reason.clone() });
        }
    }

    /// Deadlines.
    pub(super) fn take_tick(&mut self) {
        let now_us = self.clock.micros();
        let grace = i64::try_from(RECONNECT_GRACE.as_micros()).unwrap_or(i64::MAX);
        let decided: std::collections::HashSet<OperationId> =
            self.book.endings.iter().map(|(id, _)| *id).collect();
        for (id, operation) in &self.book.operations {
            if !matches!(operation.phase, Phase::Pending | Phase::Waiting) || decided.contains(id) {
                continue;
            }
            let Some(job) = self.book.jobs.get(&operation.job) else { continue };
            if let Some(ending) = job.bar(now_us, &operation.name) {
                self.book.endings.push((*id, ending));
            } else if job.expires_us.is_some_and(|at| at <= now_us) {
                let ending = Ending::decided(
                    OperationState::Expired,
                    "expired",
                    format!("'{}' did not take it in time; it never started", operation.name),
                );
                self.book.endings.push((*id, ending));
            } else if job.expires_us.is_none()
                && operation.phase == Phase::Waiting
                && self.book.machines.get(&operation.machine).is_none_or(|machine| {
                    machine.session.is_none() && machine.gone_us.saturating_add(grace) <= now_us
                })
            {
                self.book.endings.push((*id, unreachable(&self.registry, operation)));
            }
        }
        // What could not be recorded is tried again.
        self.book.dirty_machines.extend(
            self.book
                .machines
                .iter()
                .filter(|(_, machine)| {
                    machine.reported && !machine.waiting.values().all(VecDeque::is_empty)
                })
                .map(|(id, _)| *id),
        );
    }

    /// The machine was revoked or removed: nothing more will be heard of what it runs.
    pub(super) fn abandon(&mut self, machine: MachineId) {
        for (id, operation) in &self.book.operations {
            if operation.machine != machine {
                continue;
            }
            let ending = match operation.phase {
                Phase::Pending | Phase::Waiting => Ending::decided(
                    OperationState::Cancelled,
                    "machine_revoked",
                    format!("'{}' was revoked or removed before it started", operation.name),
                ),
                Phase::Sent | Phase::Running => Ending::decided(
                    OperationState::Lost,
                    "machine_revoked",
                    format!("'{}' was revoked or removed while it ran", operation.name),
                ),
            };
            self.book.endings.push((*id, ending));
        }
    }

    /// The agent holds something that has ended here, or that we never heard of.
    pub(super) async fn answer_unknown(&self, session: &Session, id: OperationId) {
        let row = match self.db.reader().await {
            Ok(mut conn) => store::load(&mut conn, id).await,
            Err(error) => Err(error),
        };
        match row {
            Ok(Some(row)) if row.state.is_terminal() && row.machine_id == session.machine => {
                session.tell(Some(id), &Acknowledge { durable: u64::MAX, result: true });
            }
            Ok(_) => tracing::warn!(
                machine = session.name,
                operation = %id,
                "the agent holds an operation that is not known here; it is left alone"
            ),
            Err(error) => tracing::warn!(%error, "an operation could not be looked up"),
        }
    }
}

/// Why nothing can be given to a machine that was revoked or removed before its turn came: what was
/// approved names its machines, whatever became of them meanwhile.
fn gone(registry: &Registry, operation: &Operation) -> Option<Ending> {
    let known = registry.find(operation.machine);
    if known.is_some_and(|known| known.revoked_us.is_none()) {
        return None;
    }
    Some(Ending::decided(
        OperationState::Refused,
        "machine_revoked",
        format!("'{}' was revoked or removed; it never started", operation.name),
    ))
}

/// Why a machine without a session cannot be given anything.
fn unreachable(registry: &Registry, operation: &Operation) -> Ending {
    let name = &operation.name;
    let quarantined =
        registry.find(operation.machine).is_some_and(|known| known.quarantined_us.is_some());
    if quarantined {
        return Ending::decided(
            OperationState::Expired,
            "machine_quarantined",
            format!(
                "'{name}' is in quarantine because two agents used its key at the same time; it \
                 never started. Stop the copy, then: reeve machines unquarantine {name}"
            ),
        );
    }
    Ending::decided(
        OperationState::Expired,
        "machine_offline",
        format!("'{name}' is offline; it never started. To wait for it use --wait 1h"),
    )
}
