//! One step: its tries, one after the other, until one does what was expected.

use futures_util::future::join_all;
use reeve_protocol::MachineId;
use reeve_sdk::api::{PlannedCommand, Reason, SubtaskState, TaskEventKind, VerdictOutcome};

use super::super::ledger::Draft;
use super::super::record::{Alternative, MachineRef, Part, Record, Step, Try, reason};
use super::gate::Assessed;
use super::submit::job_key;
use super::{Runner, Stop, shell};

/// Tries of a step after the first.
const MAX_ALTERNATIVES: usize = 3;

/// Commands on one machine in one task.
const MAX_COMMANDS: usize = 40;

/// The same command on one machine in one task: more often is a loop.
const MAX_IDENTICAL: usize = 4;

/// What comes next for a step.
enum Next {
    /// Its newest try is not judged yet.
    GoOn(u32),
    /// Another try on these machines.
    Try(Alternative, Vec<MachineRef>),
    /// It may be worth asking for another command for these machines.
    Ask(Vec<MachineRef>),
    /// It has ended.
    End(SubtaskState, Option<Reason>),
}

impl Runner {
    /// Takes a step to its end.
    pub(super) async fn run_step(&self, number: u32) -> Result<(), Stop> {
        loop {
            self.check()?;
            let next = self.ledger.read(|record| next(record, number)).await;
            match next {
                None => return Ok(()),
                Some(Next::GoOn(attempt)) => self.run_try(number, attempt).await?,
                Some(Next::Try(alternative, machines)) => {
                    self.begin_try(number, alternative, machines).await?;
                }
                Some(Next::Ask(machines)) => {
                    let found = self.ask_alternative(number, &machines).await?;
                    match found {
                        Some(alternative) => self.begin_try(number, alternative, machines).await?,
                        None => {
                            let end = self.ledger.read(|record| outcome(record, number)).await;
                            self.end_step(number, end.0, end.1).await?;
                        }
                    }
                }
                Some(Next::End(state, why)) => self.end_step(number, state, why).await?,
            }
        }
    }

    async fn end_step(
        &self,
        number: u32,
        state: SubtaskState,
        why: Option<Reason>,
    ) -> Result<(), Stop> {
        self.ledger
            .change(|draft| {
                if let Some(step) = draft.step(number) {
                    step.state = state;
                    step.reason = why;
                }
            })
            .await?;
        Ok(())
    }

    /// Records a try with what it needs of each machine; nothing runs yet.
    async fn begin_try(
        &self,
        number: u32,
        alternative: Alternative,
        machines: Vec<MachineRef>,
    ) -> Result<(), Stop> {
        let Alternative { mut command, why, claimed, trusted } = alternative;
        let user = self.ledger.read(|record| record.task.request.user.clone()).await;
        command.user = user;
        let Assessed { effect, reasons, network } = super::gate::assess(&command, claimed);
        let reads = effect == reeve_protocol::ops::Effect::Read;
        command.network = network;
        command.timeout_ms =
            Some(u64::try_from(shell::timeout(&command, reads).as_millis()).unwrap_or(60_000));
        let parts = self.parts(&machines, &command, effect, trusted).await?;
        let limit = self
            .ledger
            .read(|record| machines.iter().find_map(|each| over_limit(record, each, &command)))
            .await;
        self.ledger
            .change(|draft| {
                let attempt = draft.record().step(number).map_or(1, |step| step.tries.len() + 1);
                let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
                let mut each = Try::new(attempt, command, effect, reasons);
                (each.why, each.trusted, each.parts) = (why, trusted, parts);
                if let Some(why) = limit {
                    for part in &mut each.parts {
                        part.refused = Some(why.clone());
                    }
                }
                draft.add_try(number, each);
            })
            .await?;
        Ok(())
    }

    /// Runs every part of a try, then judges what came of it.
    async fn run_try(&self, step: u32, number: u32) -> Result<(), Stop> {
        let parts = self
            .ledger
            .read(|record| record.attempt(step, number).map_or(0, |each| each.parts.len()))
            .await;
        let runs = (0..parts).map(|at| self.run_part(step, number, at));
        for done in join_all(runs).await {
            done?;
        }
        // A machine said only now that it cannot keep commands from changing anything.
        if self.add_refused_parts(step, number).await? {
            return Ok(());
        }
        if step != 0 {
            self.set_step(step, SubtaskState::Judging).await?;
            self.judge(step, number).await?;
        }
        Ok(())
    }

    /// Takes one part to the end of its job.
    pub(super) async fn run_part(&self, step: u32, number: u32, at: usize) -> Result<(), Stop> {
        let Some((each, part)) = self.load_part(step, number, at).await else { return Ok(()) };
        if part.refused.is_some() || part.ended {
            return Ok(());
        }
        let job = match part.job {
            Some(job) => job,
            None => {
                let key = job_key(self.id, step, number, &part.name);
                let found = match self.find_job(&key).await? {
                    Some(job) => Ok(job),
                    None => self.get_approved(step, &each, &part, at).await?,
                };
                match found {
                    Ok(job) => {
                        self.change_part(step, number, at, |draft, part| {
                            part.job = Some(job);
                            draft.tell(TaskEventKind::Job { subtask: step, attempt: number, job });
                        })
                        .await?;
                        job
                    }
                    Err(why) => {
                        return self
                            .change_part(step, number, at, |_, part| part.refused = Some(why))
                            .await;
                    }
                }
            }
        };
        self.follow(step, number, job).await?;
        self.change_part(step, number, at, |_, part| part.ended = true).await
    }

    pub(super) async fn load_part(&self, step: u32, number: u32, at: usize) -> Option<(Try, Part)> {
        self.ledger
            .read(|record| {
                let each = record.attempt(step, number)?;
                Some((each.clone(), each.parts.get(at)?.clone()))
            })
            .await
    }

    /// Changes a part, and with it the step's state.
    pub(super) async fn change_part(
        &self,
        step: u32,
        number: u32,
        at: usize,
        change: impl FnOnce(&mut Draft, &mut Part),
    ) -> Result<(), Stop> {
        self.ledger
            .change(|draft| {
                let now_us = draft.now_us();
                let found =
                    draft.attempt(step, number).and_then(|each| each.parts.get(at).cloned());
                let Some(mut part) = found else { return };
                change(draft, &mut part);
                let Some(each) = draft.attempt(step, number) else { return };
                if part.job.is_some() {
                    each.started_us.get_or_insert(now_us);
                }
                if let Some(place) = each.parts.get_mut(at) {
                    *place = part;
                }
                let state = state_of(each);
                if step != 0
                    && let Some(step) = draft.step(step)
                {
                    step.state = state;
                }
            })
            .await?;
        Ok(())
    }

    async fn set_step(&self, number: u32, state: SubtaskState) -> Result<(), Stop> {
        self.ledger
            .change(|draft| {
                if let Some(step) = draft.step(number) {
                    step.state = state;
                }
            })
            .await?;
        Ok(())
    }
}

/// Where a step stands whose try is under way.
fn state_of(each: &Try) -> SubtaskState {
    let runs = |part: &Part| part.job.is_some() && !part.ended;
    let waits = |part: &Part| part.job.is_none() && part.refused.is_none() && part.waits;
    if !each.parts.iter().any(runs) && each.parts.iter().any(waits) {
        SubtaskState::AwaitingApproval
    } else {
        SubtaskState::Running
    }
}

/// Why one more command on a machine is too many.
fn over_limit(record: &Record, machine: &MachineRef, command: &PlannedCommand) -> Option<Reason> {
    let on_machine = |each: &&Try| {
        each.parts.iter().any(|part| part.machines.iter().any(|other| other.id == machine.id))
    };
    let tries: Vec<&Try> = record.tries().map(|(_, each)| each).filter(on_machine).collect();
    if tries.len() >= MAX_COMMANDS {
        return Some(reason(
            "too_many_commands",
            format!(
                "this task has run {MAX_COMMANDS} commands on '{}', as many as one may",
                machine.name
            ),
        ));
    }
    let same = tries
        .iter()
        .filter(|each| {
            let other = &each.command;
            (&other.argv, &other.shell, &other.operation)
                == (&command.argv, &command.shell, &command.operation)
        })
        .count();
    (same >= MAX_IDENTICAL).then(|| {
        reason(
            "loop",
            format!("this very command was run {same} times on '{}' by this task", machine.name),
        )
    })
}

/// The machines a step is for: with a condition, those where the earlier step found it.
fn machines_for(record: &Record, step: &Step) -> Vec<MachineRef> {
    let Some(condition) = &step.planned.only_if else { return step.planned.machines.clone() };
    let Some(before) = record.step(condition.step) else { return Vec::new() };
    let found = |machine: MachineId| {
        before.tries.iter().any(|each| {
            each.findings
                .get(&machine)
                .is_some_and(|found| found.iter().any(|one| one.id == condition.finding))
        })
    };
    let looked_at =
        |machine: &MachineRef| before.planned.machines.iter().any(|other| other.id == machine.id);
    if step.planned.machines.iter().all(looked_at) {
        step.planned.machines.iter().filter(|machine| found(machine.id)).cloned().collect()
    } else if before.planned.machines.iter().any(|machine| found(machine.id)) {
        step.planned.machines.clone()
    } else {
        Vec::new()
    }
}

/// What comes next for a step, from the record alone.
fn next(record: &Record, number: u32) -> Option<Next> {
    let step = record.step(number)?;
    if step.state.is_terminal() {
        return None;
    }
    let Some(last) = step.tries.last() else {
        let machines = machines_for(record, step);
        if machines.is_empty() {
            let why = reason("not_needed", "what it is for was not found");
            return Some(Next::End(SubtaskState::Skipped, Some(why)));
        }
        let first = Alternative {
            command: step.planned.command.clone(),
            why: String::new(),
            claimed: step.planned.effect,
            trusted: step.planned.trusted,
        };
        return Some(Next::Try(first, machines));
    };
    if last.finished_us.is_none() {
        return Some(Next::GoOn(last.number));
    }
    let failed = machines_not_met(step);
    let (state, why) = outcome(record, number);
    if state != SubtaskState::NotMet || failed.is_empty() || step.tries.len() > MAX_ALTERNATIVES {
        return Some(Next::End(state, why));
    }
    match step.planned.alternatives.get(step.tries.len() - 1) {
        Some(alternative) => Some(Next::Try(alternative.clone(), failed)),
        None if step.planned.trusted => Some(Next::End(state, why)),
        None => Some(Next::Ask(failed)),
    }
}

/// The newest verdict on a machine, by a step's tries.
fn verdict_on(step: &Step, machine: &MachineRef) -> Option<VerdictOutcome> {
    step.tries.iter().rev().find_map(|each| {
        let group = each.groups.iter().find(|group| group.machines.contains(&machine.name))?;
        Some(group.verdict.as_ref()?.outcome)
    })
}

fn tried_machines(step: &Step) -> Vec<MachineRef> {
    let first = step.tries.first();
    first.iter().flat_map(|each| each.parts.iter().flat_map(|part| part.machines.clone())).collect()
}

fn machines_not_met(step: &Step) -> Vec<MachineRef> {
    let mut machines = tried_machines(step);
    machines.retain(|machine| verdict_on(step, machine) == Some(VerdictOutcome::NotMet));
    machines.sort();
    machines.dedup();
    machines
}

/// What a step has come to, over all its machines and tries.
pub(super) fn outcome(record: &Record, number: u32) -> (SubtaskState, Option<Reason>) {
    let Some(step) = record.step(number) else { return (SubtaskState::Skipped, None) };
    let refused =
        step.tries.iter().rev().flat_map(|each| &each.parts).find_map(|part| part.refused.as_ref());
    let verdicts: Vec<Option<VerdictOutcome>> =
        tried_machines(step).iter().map(|machine| verdict_on(step, machine)).collect();
    let has = |wanted| verdicts.contains(&Some(wanted));
    if has(VerdictOutcome::NotMet) {
        let why = newest_verdict(step, VerdictOutcome::NotMet);
        return (SubtaskState::NotMet, Some(reason("not_met", why)));
    }
    if let Some(why) = refused {
        return (SubtaskState::Refused, Some(why.clone()));
    }
    if has(VerdictOutcome::Inconclusive) || verdicts.iter().any(Option::is_none) {
        let why = newest_verdict(step, VerdictOutcome::Inconclusive);
        return (SubtaskState::Inconclusive, Some(reason("inconclusive", why)));
    }
    (SubtaskState::Met, None)
}

fn newest_verdict(step: &Step, outcome: VerdictOutcome) -> String {
    let verdicts = step.tries.iter().rev().flat_map(|each| &each.groups);
    let mut verdicts = verdicts.filter_map(|group| group.verdict.as_ref());
    verdicts.find(|verdict| verdict.outcome == outcome).map_or_else(
        || "nothing shows what came of it".to_owned(),
        |verdict| verdict.reason.clone(),
    )
}
