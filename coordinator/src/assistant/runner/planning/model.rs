//! A model's plan: it may look around first, in inspect mode and nowhere else.

use std::collections::BTreeMap;

use reeve_models::ErrorCode;
use reeve_protocol::ops::{Effect, Mode, Network};
use reeve_sdk::api::ModelRole;
use reeve_stages::plan::{self, Answered, Caps, Explored, Input, Reply};
use reeve_stages::{Machine, Sample, Window};

use super::super::super::record::{MachineRef, Planned, Try};
use super::super::think::{Question, Thought};
use super::super::{Runner, Stop};
use super::{Draft, settle};

/// Numbers of looks around begin anew this much higher after each answer of the asker.
const LOOKS_PER_ANSWER: u32 = 1000;

impl Runner {
    /// The plan of a model; none when runbooks are to make it.
    pub(super) async fn plan_by_model(
        &self,
        machines: &[MachineRef],
    ) -> Result<Option<Draft>, Stop> {
        let only = self.ledger.read(|record| record.task.request.model.clone()).await;
        let window = match self.window(ModelRole::Planner) {
            Some(window) => window,
            // Somebody named a model that the role does not ask.
            None if only.is_some() => Window::default(),
            None => return Ok(None),
        };
        let mut input = self.plan_input(machines, window).await?;
        let answers = self.ledger.read(|record| record.task.answers.len()).await;
        let rounds = self.assistant.0.settings.explore_rounds;
        for round in 0..=rounds {
            input.rounds_left = rounds - round;
            let name = format!("plan-{answers}-{round}");
            let nonce = self.nonce(&name).await;
            let question = Question {
                name,
                ask: plan::ask(&input, &nonce),
                input: serde_json::to_value(&input).unwrap_or_default(),
                nonce,
            };
            let read = |text: &str, _: &str| {
                plan::read(&input, text).map_err(|error| format!("{}: {error}", error.code()))
            };
            let (reply, by) = match self.think(question, only.as_deref(), read).await? {
                Thought::Said(reply, by) => (reply, by),
                Thought::Builtin(why) => {
                    if let Some(why) = why {
                        self.note_fallback("plan", "builtin", &why).await?;
                    }
                    return Ok(None);
                }
                Thought::Failed { code, message } => return Err(no_plan(code, message)),
            };
            match reply {
                Reply::Plan { summary, steps } => {
                    return draft(&input, by, summary, steps, machines).map(Some);
                }
                Reply::Question { question } => {
                    return Err(Stop::needs_answer(
                        "question",
                        "the planner asks something",
                        question,
                    ));
                }
                Reply::GiveUp { reason } => return Err(Stop::failed("plan_given_up", reason)),
                Reply::Explore { summary, steps } => {
                    self.explore(&mut input, answers, summary, steps, machines).await?;
                }
            }
        }
        Err(Stop::failed("plan_invalid", "the planner looked around and came to no plan"))
    }

    async fn plan_input(&self, machines: &[MachineRef], window: Window) -> Result<Input, Stop> {
        let policy = self.policy_digest(machines);
        let machines = self.stage_machines(machines).await?;
        let input = self
            .ledger
            .read(|record| Input {
                request: record.task.request.prompt.clone(),
                user: record.task.request.user.clone(),
                machines,
                policy,
                explored: Vec::new(),
                answers: record
                    .task
                    .answers
                    .iter()
                    .map(|answer| Answered {
                        question: "More about the request".to_owned(),
                        answer: answer.clone(),
                    })
                    .collect(),
                rounds_left: 0,
                caps: Caps::default(),
                next_number: 1,
                window,
            })
            .await;
        Ok(input)
    }

    /// Machines as stages see them.
    pub(in super::super) async fn stage_machines(
        &self,
        machines: &[MachineRef],
    ) -> Result<Vec<Machine>, Stop> {
        let found = self.facts(machines).await?;
        let shown = found.iter().map(|(machine, online)| {
            Machine::new(&machine.name, &machine.labels, *online, &machine.facts)
        });
        Ok(shown.collect())
    }

    /// Runs what only looks, where the kernel lets it do nothing else; the rest is told to be
    /// left out. What was run before the coordinator started again is not run again.
    async fn explore(
        &self,
        input: &mut Input,
        answers: usize,
        summary: String,
        steps: Vec<plan::Step>,
        machines: &[MachineRef],
    ) -> Result<(), Stop> {
        self.ledger.change(|draft| draft.note("explore", summary)).await?;
        let base = u32::try_from(answers).unwrap_or(0) * LOOKS_PER_ANSWER;
        for step in steps {
            input.next_number = input.next_number.max(step.number + 1);
            let explored = self.look_around(base + step.number, step, machines).await?;
            input.explored.push(explored);
        }
        Ok(())
    }

    async fn look_around(
        &self,
        number: u32,
        step: plan::Step,
        machines: &[MachineRef],
    ) -> Result<Explored, Stop> {
        let targets: Vec<MachineRef> =
            machines.iter().filter(|each| step.machines.contains(&each.name)).cloned().collect();
        let (command, effect, reasons) = settle(step.command.clone(), step.claimed)?;
        let mut explored = Explored {
            number: step.number,
            machines: step.machines,
            command: command.clone(),
            purpose: step.purpose,
            samples: Vec::new(),
            finding: String::new(),
        };
        let known = self.ledger.read(|record| record.attempt(0, number).is_some()).await;
        if !known {
            let parts = self.parts(&targets, &command, effect, false).await?;
            let free = effect == Effect::Read
                && command.network != Network::Use
                && parts.iter().all(|part| part.mode == Mode::Inspect && part.because.is_none());
            if !free {
                "not run: only what changes nothing and talks to nobody can be looked at before there is a plan"
                    .clone_into(&mut explored.finding);
                return Ok(explored);
            }
            let mut each = Try::new(number, command, effect, reasons);
            each.parts = parts;
            self.ledger.change(|draft| draft.add_try(0, each)).await?;
        }
        let parts = self
            .ledger
            .read(|record| record.attempt(0, number).map_or(0, |each| each.parts.len()))
            .await;
        for at in 0..parts {
            self.run_part(0, number, at).await?;
        }
        let Some(each) = self.ledger.read(|record| record.attempt(0, number).cloned()).await else {
            return Ok(explored);
        };
        explored.samples = self.samples(&each).await?;
        if let Some(why) = each.parts.iter().find_map(|part| part.refused.as_ref()) {
            explored.finding = format!("not run: {}", why.message);
        }
        Ok(explored)
    }

    /// What stands for each class of like results of a try.
    pub(in super::super) async fn samples(&self, each: &Try) -> Result<Vec<Sample>, Stop> {
        let (classes, looked) = self.look(each, None).await?;
        let samples = classes.iter().filter_map(|class| {
            let (operation, _) = class.representative()?;
            let one = looked.iter().find(|one| one.row.id == operation)?;
            Some(Sample {
                machines: class.machines.iter().take(8).cloned().collect(),
                count: class.machines.len() as u64,
                outlier: class.outlier,
                ..one.sample.clone()
            })
        });
        Ok(samples.collect())
    }
}

/// A plan that was read, as it is recorded: steps count from 1, machines have their ids.
fn draft(
    input: &Input,
    planner: String,
    summary: String,
    steps: Vec<plan::Step>,
    machines: &[MachineRef],
) -> Result<Draft, Stop> {
    let first = steps.first().map_or(input.next_number, |step| step.number);
    let by_name: BTreeMap<&str, &MachineRef> =
        machines.iter().map(|machine| (machine.name.as_str(), machine)).collect();
    let mut notes = Vec::new();
    let mut planned = Vec::new();
    for step in steps {
        let number = step.number.saturating_sub(first) + 1;
        notes.extend(step.notes.iter().map(|note| format!("step {number}: {note}")));
        let mut targets = Vec::new();
        for name in &step.machines {
            let Some(machine) = by_name.get(name.as_str()) else {
                return Err(Stop::failed(
                    "plan_unknown_machine",
                    format!("the plan names '{name}', which is none of the task's machines"),
                ));
            };
            targets.push((*machine).clone());
        }
        let claimed = if step.long { step.claimed.max(Effect::Change) } else { step.claimed };
        let (command, effect, effect_reasons) = settle(step.command, claimed)?;
        planned.push(Planned {
            machines: targets,
            command,
            purpose: step.purpose,
            expected: step.expected,
            effect,
            effect_reasons,
            trusted: false,
            undo: step.undo,
            depends_on: step
                .depends_on
                .iter()
                .map(|other| other.saturating_sub(first) + 1)
                .collect(),
            only_if: None,
            expect: None,
            alternatives: Vec::new(),
        });
    }
    Ok(Draft { planner, summary, steps: planned, notes })
}

/// Why there is no plan of a model, and how that is mended.
fn no_plan(code: &'static str, message: String) -> Stop {
    let is = |wanted: ErrorCode| code == wanted.as_str();
    if is(ErrorCode::Schema) || is(ErrorCode::Truncated) {
        let code = if message.contains("plan_unknown_machine") {
            "plan_unknown_machine"
        } else {
            "plan_invalid"
        };
        return Stop::failed(code, message);
    }
    let remedy = if is(ErrorCode::VaultSealed) {
        "Unlock the vault ('reeve vault unlock'), then answer anything to go on."
    } else if is(ErrorCode::Key) {
        "Mend the key ('reeve models list' shows which), then answer anything to go on."
    } else if is(ErrorCode::BudgetReached) {
        "Answer anything to let models cost as much again."
    } else {
        "Answer anything to try again, or ask with the model 'builtin'."
    };
    Stop::needs_answer(code, message, remedy)
}
