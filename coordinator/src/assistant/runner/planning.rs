//! From words to a plan: a model's where one is configured, else a runbook's.

mod model;
mod policy;

use std::collections::BTreeMap;

use reeve_protocol::ops::Effect;
use reeve_runbooks::{Closest, Reply};
use reeve_sdk::api::{PlannedCommand, SubtaskState, TaskEventKind, TaskState};

use super::super::ask::mistyped;
use super::super::record::{Alternative, MachineRef, OnlyIf, Planned, Record, Step, from_command};
use super::gate::Assessed;
use super::{Runner, Stop, shell};

/// Steps of one plan.
const MAX_STEPS: usize = 40;

/// Bytes of a plan's command.
const MAX_COMMAND: usize = 64 * 1024;

/// A plan before it is recorded.
struct Draft {
    planner: String,
    summary: String,
    steps: Vec<Planned>,
    notes: Vec<String>,
}

impl Runner {
    /// Makes a plan and records it, or ends the task with the reason why there is none.
    pub(super) async fn plan(&self) -> Result<(), Stop> {
        self.ledger
            .change(|draft| {
                let now_us = draft.now_us();
                draft.task().started_us.get_or_insert(now_us);
                if draft.record().task.state == TaskState::Pending {
                    draft.set_state(TaskState::Planning);
                }
            })
            .await?;
        let (machines, model) = self
            .ledger
            .read(|record| (record.task.machines.clone(), record.task.request.model.clone()))
            .await;
        self.principal(&machines).await?;
        let draft = if model.as_deref() == Some("builtin") {
            self.plan_by_runbooks(&machines).await?
        } else {
            match self.plan_by_model(&machines).await? {
                Some(draft) => draft,
                None => self.plan_by_runbooks(&machines).await?,
            }
        };
        self.accept(draft).await
    }

    /// Records a plan; nothing has run yet.
    async fn accept(&self, plan: Draft) -> Result<(), Stop> {
        if plan.steps.is_empty() {
            return Err(Stop::failed("plan_invalid", "the plan has no steps"));
        }
        if plan.steps.len() > MAX_STEPS {
            return Err(Stop::failed(
                "plan_invalid",
                format!(
                    "the plan has {} steps and may have {MAX_STEPS}; ask for less at once",
                    plan.steps.len()
                ),
            ));
        }
        self.ledger
            .change(|draft| {
                for (planned, number) in plan.steps.into_iter().zip(1..) {
                    let step = Step {
                        number,
                        planned,
                        state: SubtaskState::Waiting,
                        reason: None,
                        tries: Vec::new(),
                    };
                    draft.add_step(step);
                }
                let subtasks = draft.record().steps.iter().map(Step::to_api).collect();
                draft.keep_quiet();
                draft.task().planner = Some(plan.planner.clone());
                draft.task().plan_summary = Some(plan.summary.clone());
                draft.tell(TaskEventKind::Plan {
                    summary: plan.summary,
                    planner: plan.planner,
                    subtasks,
                });
                for note in plan.notes {
                    draft.note("plan", note);
                }
                let ends = draft.record().task.request.plan_only;
                draft.set_state(if ends { TaskState::Completed } else { TaskState::Running });
            })
            .await?;
        Ok(())
    }

    /// A runbook's plan, or the asker's own command line.
    async fn plan_by_runbooks(&self, machines: &[MachineRef]) -> Result<Draft, Stop> {
        let known = self.runbook_machines(machines).await?;
        let (words, last) = self.ledger.read(words).await;
        let ask = |prompt: &str| {
            reeve_runbooks::plan(&reeve_runbooks::Request { prompt, machines: &known, named: true })
        };
        let mut reply = ask(&words);
        if let (Reply::Unknown { .. }, Some(last)) = (&reply, &last) {
            // The answer may say it all in other words.
            reply = ask(last);
        }
        let plan = match reply {
            Reply::Plan(plan) => plan,
            Reply::ShellLine { mut plan, .. } => {
                // Nobody declared anything of it: what it may do is what is computed.
                plan.steps.iter_mut().for_each(|step| step.effect = Effect::Read);
                plan
            }
            Reply::NeedsSlot { runbook, question } => {
                return Err(Stop::needs_answer(
                    "needs_slot",
                    format!("something is missing for the runbook {runbook}"),
                    question,
                ));
            }
            Reply::UnknownMachine { names, nearest } => {
                return Err(Stop::failed("no_machine", mistyped(&names, &nearest)));
            }
            Reply::Unknown { closest } => return Err(unknown_intent(&closest)),
        };
        let by_name: BTreeMap<&str, &MachineRef> =
            machines.iter().map(|machine| (machine.name.as_str(), machine)).collect();
        let mut steps = Vec::new();
        for step in plan.steps {
            steps.push(runbook_step(step, &by_name)?);
        }
        Ok(Draft { planner: "builtin".to_owned(), summary: plan.summary, steps, notes: plan.notes })
    }

    async fn runbook_machines(
        &self,
        machines: &[MachineRef],
    ) -> Result<Vec<reeve_runbooks::Machine>, Stop> {
        let found = self.facts(machines).await?;
        Ok(found
            .into_iter()
            .map(|(machine, online)| reeve_runbooks::Machine {
                name: machine.name,
                labels: machine.labels,
                os_id: machine.facts.os_id,
                os_like: machine.facts.os_like,
                init: machine.facts.init,
                package_manager: machine.facts.package_manager,
                online,
            })
            .collect())
    }

    /// What is known of machines, and whether each is connected; those that are gone are left out.
    pub(super) async fn facts(
        &self,
        machines: &[MachineRef],
    ) -> Result<Vec<(reeve_sdk::api::Machine, bool)>, Stop> {
        let registry = self.assistant.0.machines.registry();
        let known: Vec<_> =
            machines.iter().filter_map(|machine| registry.find(machine.id)).collect();
        loop {
            match self.assistant.0.machines.describe(&known).await {
                Ok(found) => {
                    let operations = &self.assistant.0.operations;
                    return Ok(found
                        .into_iter()
                        .map(|machine| {
                            let online = operations.is_online(machine.id);
                            (machine, online)
                        })
                        .collect());
                }
                Err(error) => self.wait_out(&error.into()).await?,
            }
        }
    }
}

/// The request with what was answered, and the last answer alone.
fn words(record: &Record) -> (String, Option<String>) {
    let task = &record.task;
    let mut words = task.request.prompt.clone();
    for answer in &task.answers {
        words.push(' ');
        words.push_str(answer);
    }
    (words, task.answers.last().cloned())
}

fn runbook_step(
    step: reeve_runbooks::Step,
    machines: &BTreeMap<&str, &MachineRef>,
) -> Result<Planned, Stop> {
    let mut found = Vec::new();
    for name in &step.machines {
        match machines.get(name.as_str()) {
            Some(machine) => found.push((*machine).clone()),
            None => {
                return Err(Stop::failed(
                    "plan_unknown_machine",
                    format!("the plan names '{name}', which is none of the task's machines"),
                ));
            }
        }
    }
    let mut command = from_command(&step.command);
    command.network = step.network;
    command.timeout_ms = step.timeout_ms;
    let offered = |other: &reeve_protocol::ops::Command| Alternative {
        command: PlannedCommand {
            network: step.network,
            timeout_ms: step.timeout_ms,
            ..from_command(other)
        },
        why: "the runbook's next way".to_owned(),
        claimed: step.effect,
        trusted: true,
    };
    let alternatives = step.alternatives.iter().take(3).map(offered).collect();
    let (command, effect, effect_reasons) = settle(command, step.effect)?;
    Ok(Planned {
        machines: found,
        command,
        purpose: step.purpose,
        expected: step.expected,
        effect,
        effect_reasons,
        trusted: true,
        undo: step.undo,
        depends_on: step.depends_on,
        only_if: step
            .only_if
            .map(|condition| OnlyIf { step: condition.step, finding: condition.finding }),
        expect: serde_json::to_value(&step.expect).ok(),
        alternatives,
    })
}

/// A planned command with its effect as computed, its network and its time.
fn settle(
    mut command: PlannedCommand,
    claimed: Effect,
) -> Result<(PlannedCommand, Effect, Vec<String>), Stop> {
    let length = command.shell.as_ref().map_or(0, String::len)
        + command.argv.iter().flatten().map(String::len).sum::<usize>();
    if command.operation.is_none() && (length == 0 || length > MAX_COMMAND) {
        return Err(Stop::failed("plan_invalid", "a command of the plan is empty or too long"));
    }
    let Assessed { effect, reasons, network } = super::gate::assess(&command, claimed);
    command.network = network;
    let timeout = shell::timeout(&command, effect == Effect::Read);
    command.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(60_000));
    Ok((command, effect, reasons))
}

fn unknown_intent(closest: &[Closest]) -> Stop {
    let mut text = "I don't know this one; configure a model ('reeve models add')".to_owned();
    let near: Vec<String> =
        closest.iter().map(|one| format!("{} (\"{}\")", one.title, one.example)).collect();
    if !near.is_empty() {
        text.push_str(&format!(". Closest: {}", near.join("; ")));
    }
    Stop::needs_answer("unknown_intent", text, "Say it in other words, or with a command line.")
}
