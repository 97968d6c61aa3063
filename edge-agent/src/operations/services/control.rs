//! `service_control`.

use std::time::Duration;

use futures_util::StreamExt;
use reeve_protocol::ops::service_control::{DEFAULT_WAIT_MS, MAX_WAIT_MS};
use reeve_protocol::ops::service_status::unit_name;
use reeve_protocol::ops::{Failure, ServiceAction, ServiceChange, ServiceControl, UnitStatus};
use tokio::time::{Instant, timeout_at};
use zbus::{MatchRule, MessageStream, OwnedObjectPath};

use super::bus::{MANAGER, NAME, Systemd, read};
use super::status::look;
use super::{fault, with_systemd};
use crate::operations::worker::{Needs, Perform, Worker};

/// How often it is asked whether a job is still there: its end may have been told while systemd
/// executed itself anew, when nobody hears it.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What ends as soon as it has started is found out by looking once more after this long.
const SECOND_LOOK: Duration = Duration::from_millis(300);

impl Perform for ServiceControl {
    const NEEDS: Needs = Needs::Exec;
    const LIMIT: Option<Duration> = Some(Duration::from_millis(MAX_WAIT_MS as u64 + 60_000));

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let unit = unit_name(&self.unit);
        let wait = Duration::from_millis(self.wait_ms.unwrap_or(DEFAULT_WAIT_MS).into());
        let (change, failure) = with_systemd(async |systemd| {
            let object = systemd.load(&unit).await?;
            let before = look(systemd, &object, &unit).await?;
            let task = Task { systemd, object: &object, unit: &unit, action: self.action };
            match self.action {
                ServiceAction::Start
                | ServiceAction::Stop
                | ServiceAction::Restart
                | ServiceAction::Reload => task.run_job(before, Instant::now() + wait).await,
                ServiceAction::Enable
                | ServiceAction::Disable
                | ServiceAction::Mask
                | ServiceAction::Unmask => task.change_files(&before).await,
            }
        })?;
        worker.answer(&change)?;
        failure.map_or(Ok(()), Err)
    }
}

/// What came of it, and why that is no success.
type Outcome = (ServiceChange, Option<Failure>);

struct Task<'a> {
    systemd: &'a Systemd,
    object: &'a OwnedObjectPath,
    unit: &'a str,
    action: ServiceAction,
}

impl Task<'_> {
    async fn run_job(&self, before: UnitStatus, until: Instant) -> Result<Outcome, Failure> {
        let action = self.action;
        let already = match action {
            ServiceAction::Start => matches!(before.active.as_str(), "active" | "reloading"),
            ServiceAction::Stop => matches!(before.active.as_str(), "inactive" | "failed"),
            _ => false,
        };
        if already {
            let change =
                ServiceChange { action, already, job: None, links: Vec::new(), status: before };
            return Ok((change, None));
        }
        let method = match action {
            ServiceAction::Start => "StartUnit",
            ServiceAction::Stop => "StopUnit",
            ServiceAction::Restart => "RestartUnit",
            _ => "ReloadUnit",
        };
        // Listening comes first: a job may end before the answer to the call is read.
        let mut ends = self.listen().await?;
        let reply = self.systemd.call(method, &(self.unit, "replace"), self.unit).await?;
        let job: OwnedObjectPath = read(&reply)?;
        let Ok(ended) = timeout_at(until, self.wait(&mut ends, &job)).await else {
            let status = look(self.systemd, self.object, self.unit).await?;
            let message = format!(
                "{}: systemd has not ended the job to {} it in time; it goes on ({})",
                self.unit,
                action.as_str(),
                state_text(&status)
            );
            let change = ServiceChange { action, already, job: None, links: Vec::new(), status };
            return Ok((change, Some(Failure::new("timed_out", message))));
        };
        let job = ended?;
        if matches!(action, ServiceAction::Start | ServiceAction::Restart) {
            tokio::time::sleep(SECOND_LOOK).await;
        }
        let status = look(self.systemd, self.object, self.unit).await?;
        let failure = self.judge(job.as_deref(), &status);
        let change = ServiceChange { action, already, job, links: Vec::new(), status };
        Ok((change, failure))
    }

    async fn listen(&self) -> Result<MessageStream, Failure> {
        let described = |error: zbus::Error| fault::describe(&error, self.unit);
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(NAME)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(described)?;
        let connection = self.systemd.connection();
        let stream = MessageStream::for_match_rule(rule, connection, None).await;
        let stream = stream.map_err(described)?;
        self.systemd.call("Subscribe", &(), self.unit).await?;
        Ok(stream)
    }

    /// Waits until a job has ended; how it did, unless nobody heard it.
    async fn wait(
        &self,
        ends: &mut MessageStream,
        job: &OwnedObjectPath,
    ) -> Result<Option<String>, Failure> {
        let mut missing = false;
        loop {
            let next = tokio::time::timeout(LOOK_EVERY, ends.next()).await;
            match next {
                Ok(Some(Ok(signal))) => {
                    let (_, ended, _, result): (u32, OwnedObjectPath, String, String) =
                        read(&signal)?;
                    if ended == *job {
                        return Ok(Some(result));
                    }
                }
                Ok(Some(Err(_)) | None) => return Err(fault::bus_gone(self.unit)),
                // Not there twice in a row: the signal was not merely behind the answer.
                Err(_) => match self.systemd.has_job(job).await {
                    Ok(false) if missing => return Ok(None),
                    Ok(is_there) => missing = !is_there,
                    Err(_) if self.systemd.connection().is_closed() => {
                        return Err(fault::bus_gone(self.unit));
                    }
                    // While systemd executes itself anew nobody answers.
                    Err(error) => tracing::debug!(%error, "a job could not be looked at"),
                },
            }
        }
    }

    /// Why what came of it is not what was wanted.
    fn judge(&self, job: Option<&str>, status: &UnitStatus) -> Option<Failure> {
        let (verb, state) = (self.action.as_str(), state_text(status));
        if let Some(result) = job.filter(|result| *result != "done") {
            let why = match result {
                "timeout" => "it took longer than the unit allows",
                "dependency" => "something it needs could not be started",
                "canceled" => "another job took its place",
                "skipped" => "its conditions are not met",
                _ => "it did not work",
            };
            return Some(Failure::new(
                "job_failed",
                format!("{}: could not {verb}: {why} ({state})", self.unit),
            ));
        }
        let wanted_up = matches!(self.action, ServiceAction::Start | ServiceAction::Restart);
        let fell = status.active == "failed" || status.sub == "auto-restart";
        if wanted_up && fell {
            return Some(Failure::new(
                "job_failed",
                format!("{}: started and ended at once ({state})", self.unit),
            ));
        }
        if self.action == ServiceAction::Stop && status.active == "active" {
            return Some(Failure::new(
                "job_failed",
                format!("{}: was stopped and runs again ({state})", self.unit),
            ));
        }
        None
    }

    async fn change_files(&self, before: &UnitStatus) -> Result<Outcome, Failure> {
        let units = [self.unit];
        let call = async |method: &str| match method {
            "EnableUnitFiles" | "MaskUnitFiles" => {
                self.systemd.call(method, &(&units[..], false, false), self.unit).await
            }
            _ => self.systemd.call(method, &(&units[..], false), self.unit).await,
        };
        let mut installable = true;
        let links: Vec<(String, String, String)> = match self.action {
            ServiceAction::Enable => {
                let reply = call("EnableUnitFiles").await?;
                let (carries, links) = read(&reply)?;
                installable = carries;
                links
            }
            ServiceAction::Disable => read(&call("DisableUnitFiles").await?)?,
            ServiceAction::Mask => read(&call("MaskUnitFiles").await?)?,
            _ => read(&call("UnmaskUnitFiles").await?)?,
        };
        if !installable && links.is_empty() {
            return Err(Failure::new(
                "not_applicable",
                format!(
                    "{} says nothing of when it is to be started ([Install] is empty; it is {}), \
                     so it cannot be enabled; what needs it starts it",
                    self.unit, before.enabled
                ),
            ));
        }
        if !links.is_empty() {
            // Else systemd goes on with what it has read before (systemctl(1) does the same).
            self.systemd.call("Reload", &(), self.unit).await?;
        }
        let object = self.systemd.load(self.unit).await?;
        let status = look(self.systemd, &object, self.unit).await?;
        let links = links.into_iter().map(|(kind, link, target)| match kind.as_str() {
            "unlink" => format!("removed {link}"),
            _ => format!("{link} -> {target}"),
        });
        let links: Vec<String> = links.collect();
        let change = ServiceChange {
            action: self.action,
            already: links.is_empty(),
            job: None,
            links,
            status,
        };
        Ok((change, None))
    }
}

/// `failed, result exit-code, exit 1`.
fn state_text(status: &UnitStatus) -> String {
    let mut text = format!("{} {}", status.active, status.sub);
    if !matches!(status.result.as_str(), "" | "success") {
        text.push_str(&format!(", result {}", status.result));
    }
    match (status.last_exit, status.last_signal) {
        (Some(code), _) if code != 0 => text.push_str(&format!(", exit {code}")),
        (None, Some(signal)) => text.push_str(&format!(", signal {signal}")),
        _ => {}
    }
    text
}
