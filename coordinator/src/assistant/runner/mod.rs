//! Runners: one per live task. A runner reads the record and does what comes next; it can be ended
//! at any point and taken up again from the record.

mod advice;
mod approval;
mod finish;
mod follow;
mod gate;
mod judge;
mod planning;
mod schedule;
mod shell;
mod stall;
mod step;
mod submit;
mod think;
mod wind_down;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reeve_protocol::TaskId;
use reeve_sdk::api::{Reason, Role, SubtaskState, TaskState};
use tokio_util::sync::CancellationToken;

use super::ledger::{Ledger, Stopping};
use super::record::{MachineRef, Record, Step, reason};
use super::{Assistant, Halt, Live, store};
use crate::problem::ApiError;
use crate::users::Principal;

pub(super) use wind_down::cancelled_text;

/// How often a task's time and its asker's rights are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks at the asker's rights, in units of the above: what is started looks by itself.
const RIGHTS_EVERY: u32 = 2;

/// Why a part of a runner ends before it is done.
#[derive(Debug)]
enum Stop {
    /// The runner was told to: see `Live::halt`.
    Halted,
    /// The task comes to an end, or to a question.
    End { state: TaskState, reason: Reason, question: Option<String> },
}

impl From<Stopping> for Stop {
    fn from(_: Stopping) -> Self {
        Self::Halted
    }
}

impl Stop {
    fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::End { state: TaskState::Failed, reason: reason(code, message), question: None }
    }

    fn needs_answer(code: &str, message: impl Into<String>, question: impl Into<String>) -> Self {
        Self::End {
            state: TaskState::NeedsAnswer,
            reason: reason(code, message),
            question: Some(question.into()),
        }
    }
}

/// A live task and what works on it.
struct Runner {
    assistant: Assistant,
    id: TaskId,
    live: Arc<Live>,
    ledger: Ledger,
    budget: think::Budget,
}

fn is_live(state: TaskState) -> bool {
    !state.is_terminal() && state != TaskState::NeedsAnswer
}

impl Runner {
    async fn run(self) {
        let work = self.work();
        let mut work = std::pin::pin!(work);
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            () = self.watch() => work.await,
        };
        match outcome {
            Ok(()) => {}
            Err(Stop::End { state, reason, question }) => self.end(state, reason, question).await,
            Err(Stop::Halted) => match self.live.halt.get().cloned() {
                // The coordinator stops: the next one goes on from the record.
                None => {}
                Some(why) => self.wind_down(why).await,
            },
        }
    }

    /// Looks at the time and the asker now and then; comes back when the runner is to stop.
    async fn watch(&self) {
        let mut round = 0_u32;
        loop {
            tokio::select! {
                () = self.live.token.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now_us = self.assistant.0.clock.micros();
            let limit = self.assistant.0.settings.time_limit;
            let (used_us, waits) = self.ledger.read(|record| used(record, now_us)).await;
            self.live.waiting.store(waits, Ordering::Relaxed);
            if used_us > i64::try_from(limit.as_micros()).unwrap_or(i64::MAX) {
                self.live.halt(Halt::Time);
                return;
            }
            round = round.wrapping_add(1);
            let machines = self.ledger.read(|record| record.task.machines.clone()).await;
            if round.is_multiple_of(RIGHTS_EVERY) && self.principal(&machines).await.is_err() {
                // Told to stop by that very look, unless the database is away.
                if self.live.token.is_cancelled() {
                    return;
                }
            }
        }
    }

    async fn work(&self) -> Result<(), Stop> {
        let state = self.ledger.read(|record| record.task.state).await;
        if matches!(state, TaskState::Pending | TaskState::Planning) {
            self.check()?;
            self.plan().await?;
        }
        let state = self.ledger.read(|record| record.task.state).await;
        if matches!(state, TaskState::AwaitingApproval | TaskState::Running) {
            self.run_steps().await?;
            self.finish().await?;
        }
        Ok(())
    }

    /// Runs every step whose turn it is, those that are independent at the same time.
    async fn run_steps(&self) -> Result<(), Stop> {
        let mut running = FuturesUnordered::new();
        let mut begun = Vec::new();
        let mut stopped = Ok(());
        loop {
            let mut ended = false;
            if stopped.is_ok() {
                // A step may hold the record while it waits for the database: whoever waits for
                // the record here has to let the steps go on meanwhile.
                let ready = {
                    let mut turn = std::pin::pin!(self.take_turn(&begun));
                    loop {
                        tokio::select! {
                            biased;
                            Some(done) = running.next(), if !running.is_empty() => {
                                ended = true;
                                stopped = stopped.and(done);
                            }
                            ready = &mut turn => break ready,
                        }
                    }
                };
                match ready {
                    Ok(ready) if stopped.is_ok() => {
                        for number in ready {
                            begun.push(number);
                            running.push(self.run_step(number));
                        }
                    }
                    Ok(_) => {}
                    Err(stop) => stopped = stopped.and(Err(stop)),
                }
            }
            if ended {
                continue;
            }
            match running.next().await {
                None => return stopped,
                // The others are told to stop as well, and come to a place where nothing they
                // started is unknown.
                Some(done) => stopped = stopped.and(done),
            }
        }
    }

    /// The steps whose turn it is now, behind those that will never have one.
    async fn take_turn(&self, begun: &[u32]) -> Result<Vec<u32>, Stop> {
        self.skip_what_cannot_run().await?;
        Ok(self.ledger.read(|record| ready_steps(record, begun)).await)
    }

    /// A step behind one that was not met is not run.
    async fn skip_what_cannot_run(&self) -> Result<(), Stop> {
        loop {
            let found = self.ledger.read(find_stuck).await;
            let Some((number, why)) = found else { return Ok(()) };
            self.ledger
                .change(|draft| {
                    if let Some(step) = draft.step(number) {
                        step.state = SubtaskState::Skipped;
                        step.reason = Some(why);
                    }
                })
                .await?;
        }
    }

    /// Whether the runner may go on.
    fn check(&self) -> Result<(), Stop> {
        if self.live.token.is_cancelled() { Err(Stop::Halted) } else { Ok(()) }
    }

    fn token(&self) -> &CancellationToken {
        &self.live.token
    }

    /// Whoever asked, with the rights they have now; told to stop when they are not enough any more
    /// for these machines.
    async fn principal(&self, machines: &[MachineRef]) -> Result<Principal, Stop> {
        let asker = self.ledger.read(|record| record.task.asker.clone()).await;
        let principal = loop {
            match self.assistant.0.users.recall(asker.user, asker.key).await {
                Ok(found) => break found,
                Err(error) => self.wait_out(&ApiError::from(error)).await?,
            }
        };
        let why = match principal {
            None => {
                format!("{} may no longer do anything: the key or the person is gone", asker.name)
            }
            Some(found) if found.role < Role::Operator => {
                format!("{} has the role {} by now", asker.name, found.role.as_str())
            }
            Some(found) => {
                let lost = machines.iter().find(|each| !self.assistant.sees(&found, each.id));
                match lost {
                    None => return Ok(found),
                    Some(lost) => {
                        format!("'{}' is outside of the scope of {} by now", lost.name, asker.name)
                    }
                }
            }
        };
        self.live.halt(Halt::Asker(why));
        Err(Stop::Halted)
    }

    /// Something the runner needs is away: waits a little.
    async fn wait_out(&self, error: &ApiError) -> Result<(), Stop> {
        tracing::debug!(task = %self.id, ?error, "waits for what is away");
        let wait = error.wait().unwrap_or(LOOK_EVERY).min(Duration::from_secs(5));
        tokio::select! {
            () = self.token().cancelled() => Err(Stop::Halted),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// The time a task has used, µs, and whether it waits for a yes now.
fn used(record: &Record, now_us: i64) -> (i64, bool) {
    let task = &record.task;
    let Some(started) = task.started_us else { return (0, false) };
    let waiting = task.waiting_us.map_or(0, |since| now_us.saturating_sub(since).max(0));
    let used = now_us.saturating_sub(started) - task.waited_us - waiting;
    (used, task.state == TaskState::AwaitingApproval)
}

/// Steps to run now: not ended, not begun by this runner, and everything before them met.
fn ready_steps(record: &Record, begun: &[u32]) -> Vec<u32> {
    let met = |number: &u32| record.step(*number).is_none_or(is_done);
    record
        .steps
        .iter()
        .filter(|step| !step.state.is_terminal() && !begun.contains(&step.number))
        .filter(|step| step.planned.depends_on.iter().all(met))
        // Whether it is needed at all is known when the step it looks at has ended.
        .filter(|step| {
            let condition = step.planned.only_if.as_ref();
            let before = condition.and_then(|condition| record.step(condition.step));
            before.is_none_or(|before| before.state.is_terminal())
        })
        .map(|step| step.number)
        .collect()
}

/// Whether what builds on a step may go on: it did what was expected, or what it is for was not
/// there.
fn is_done(step: &Step) -> bool {
    let not_needed = step.reason.as_ref().is_some_and(|why| why.code == "not_needed");
    step.state == SubtaskState::Met || (step.state == SubtaskState::Skipped && not_needed)
}

/// A waiting step that will never be ready, and why.
fn find_stuck(record: &Record) -> Option<(u32, Reason)> {
    record.steps.iter().filter(|step| step.state == SubtaskState::Waiting).find_map(|step| {
        let stuck = step.planned.depends_on.iter().find_map(|number| {
            let before = record.step(*number)?;
            (before.state.is_terminal() && !is_done(before)).then_some(before)
        })?;
        let why =
            reason("dependency", format!("step {} did not do what was expected", stuck.number));
        Some((step.number, why))
    })
}
