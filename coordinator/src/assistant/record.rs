//! A task as it is recorded. Everything that decides what happens next is in here: a coordinator
//! that starts again goes on from it.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Command, Effect, Mode};
use reeve_protocol::{ApiKeyId, ApprovalId, JobId, MachineId, TaskId, UserId};
use reeve_sdk::api::{
    Attempt, Group, PlannedCommand, Quote, Reason, Stall, Subtask, SubtaskState, Summary, Task,
    TaskRequest, TaskState, TaskUsage, Time,
};
use reeve_stages::summary::Level;
use serde::{Deserialize, Serialize};

/// A machine of a task. The id decides, the name is for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MachineRef {
    pub id: MachineId,
    pub name: String,
}

/// Whose task it is. Their rights are looked up again before anything is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// As the audit says it.
    pub name: String,
    pub user: UserId,
    /// The API key it was asked with; none for a login, which may end while the task goes on.
    pub key: Option<ApiKeyId>,
}

/// The task itself.
#[derive(Clone, Debug)]
pub struct TaskRow {
    pub id: TaskId,
    pub asker: Asker,
    pub request: TaskRequest,
    pub machines: Vec<MachineRef>,
    /// What the markers of its prompts are derived from.
    pub seed: String,
    pub state: TaskState,
    pub reason: Option<Reason>,
    pub question: Option<String>,
    pub answers: Vec<String>,
    pub planner: Option<String>,
    pub plan_summary: Option<String>,
    pub summary: Option<Summary>,
    pub created_us: i64,
    pub started_us: Option<i64>,
    pub finished_us: Option<i64>,
    /// Since when nothing goes on without a yes.
    pub waiting_us: Option<i64>,
    /// How long that was the case before, µs.
    pub waited_us: i64,
    /// Who cancelled it, and why.
    pub cancelled: Option<(String, String)>,
    pub last_event: u64,
}

/// When a step is run only if an earlier one found something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyIf {
    pub step: u32,
    pub finding: String,
}

/// A step as it was planned; it never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub machines: Vec<MachineRef>,
    pub command: PlannedCommand,
    pub purpose: String,
    pub expected: String,
    pub effect: Effect,
    pub effect_reasons: Vec<String>,
    /// The command is a runbook's, or the asker's own line; not a model's.
    #[serde(default)]
    pub trusted: bool,
    #[serde(default)]
    pub undo: Option<String>,
    #[serde(default)]
    pub depends_on: Vec<u32>,
    #[serde(default)]
    pub only_if: Option<OnlyIf>,
    /// What rules look for in its output; without it a model judges, or the exit code.
    #[serde(default)]
    pub expect: Option<serde_json::Value>,
    /// What the plan offers when the command does not do; at most three.
    #[serde(default)]
    pub alternatives: Vec<Alternative>,
}

/// Another command for the same step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    pub command: PlannedCommand,
    pub why: String,
    /// What whoever proposed it claims; the computed effect can only be raised by it.
    pub claimed: Effect,
    #[serde(default)]
    pub trusted: bool,
}

/// A step and what became of it.
#[derive(Clone, Debug)]
pub struct Step {
    pub number: u32,
    pub planned: Planned,
    pub state: SubtaskState,
    pub reason: Option<Reason>,
    pub tries: Vec<Try>,
}

/// One try of a step. `number` counts from 1. Of step 0, a look around before there is a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Try {
    pub number: u32,
    pub command: PlannedCommand,
    #[serde(default)]
    pub why: String,
    pub effect: Effect,
    #[serde(default)]
    pub effect_reasons: Vec<String>,
    /// As in the plan.
    #[serde(default)]
    pub trusted: bool,
    pub parts: Vec<Part>,
    #[serde(default)]
    pub started_us: Option<i64>,
    #[serde(default)]
    pub finished_us: Option<i64>,
    #[serde(default)]
    pub groups: Vec<Group>,
    /// What rules found, by machine: later steps may depend on it.
    #[serde(default)]
    pub findings: BTreeMap<MachineId, Vec<Finding>>,
    #[serde(default)]
    pub stalls: Vec<Stall>,
}

/// Something that rules found in an output, for people and for later steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub id: String,
    pub level: Level,
    pub message: String,
    #[serde(default)]
    pub quote: Option<Quote>,
}

/// The machines of a try that need the same: inspect mode, or a yes, or nothing. One job each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Within the try; part of the job's idempotency key.
    pub name: String,
    pub machines: Vec<MachineRef>,
    pub mode: Mode,
    /// Why it needs a yes although it only reads.
    #[serde(default)]
    pub because: Option<String>,
    #[serde(default)]
    pub approval: Option<ApprovalId>,
    /// The yes had not been given when it was asked for.
    #[serde(default)]
    pub waits: bool,
    #[serde(default)]
    pub job: Option<JobId>,
    /// Its job has ended.
    #[serde(default)]
    pub ended: bool,
    /// It will not run.
    #[serde(default)]
    pub refused: Option<Reason>,
}

/// All of a task.
#[derive(Clone, Debug)]
pub struct Record {
    pub task: TaskRow,
    pub steps: Vec<Step>,
    /// Looks around before there was a plan.
    pub looks: Vec<Try>,
    pub usage: TaskUsage,
}

impl Record {
    /// One step.
    pub fn step(&self, number: u32) -> Option<&Step> {
        self.steps.iter().find(|step| step.number == number)
    }

    /// One step, to change it.
    pub fn step_mut(&mut self, number: u32) -> Option<&mut Step> {
        self.steps.iter_mut().find(|step| step.number == number)
    }

    /// One try of a step; of step 0 a look around.
    pub fn attempt(&self, step: u32, number: u32) -> Option<&Try> {
        let tries = if step == 0 { &self.looks } else { &self.step(step)?.tries };
        tries.iter().find(|each| each.number == number)
    }

    /// One try, to change it.
    pub fn attempt_mut(&mut self, step: u32, number: u32) -> Option<&mut Try> {
        let tries = if step == 0 { &mut self.looks } else { &mut self.step_mut(step)?.tries };
        tries.iter_mut().find(|each| each.number == number)
    }

    /// Every try of everything, with its step.
    pub fn tries(&self) -> impl Iterator<Item = (u32, &Try)> {
        let looks = self.looks.iter().map(|each| (0, each));
        looks.chain(
            self.steps.iter().flat_map(|step| step.tries.iter().map(|each| (step.number, each))),
        )
    }

    /// As the API shows it.
    pub fn to_api(&self) -> Task {
        let task = &self.task;
        Task {
            id: task.id,
            prompt: task.request.prompt.clone(),
            selector: task.request.selector.clone(),
            user: task.request.user.clone(),
            yes: task.request.yes,
            plan_only: task.request.plan_only,
            state: task.state,
            reason: task.reason.clone(),
            question: task.question.clone(),
            created_by: task.asker.name.clone(),
            created: Time::from_micros(task.created_us),
            finished: task.finished_us.map(Time::from_micros),
            machines: task.machines.iter().map(|machine| machine.name.clone()).collect(),
            planner: task.planner.clone(),
            plan_summary: task.plan_summary.clone(),
            subtasks: self.steps.iter().map(Step::to_api).collect(),
            summary: task.summary.clone(),
            usage: self.usage,
            last_event: task.last_event,
        }
    }
}

impl Step {
    /// As the API shows it.
    pub fn to_api(&self) -> Subtask {
        let planned = &self.planned;
        let approvals =
            self.tries.iter().flat_map(|each| each.parts.iter().filter_map(|part| part.approval));
        Subtask {
            number: self.number,
            machines: names(&planned.machines),
            command: planned.command.clone(),
            purpose: planned.purpose.clone(),
            expected: planned.expected.clone(),
            effect: planned.effect,
            effect_reasons: planned.effect_reasons.clone(),
            undo: planned.undo.clone(),
            depends_on: planned.depends_on.clone(),
            state: self.state,
            reason: self.reason.clone(),
            approvals: approvals.collect(),
            attempts: self.tries.iter().map(Try::to_api).collect(),
        }
    }
}

impl Try {
    /// A try that has not started.
    pub fn new(number: u32, command: PlannedCommand, effect: Effect, reasons: Vec<String>) -> Self {
        Self {
            number,
            command,
            why: String::new(),
            effect,
            effect_reasons: reasons,
            trusted: false,
            parts: Vec::new(),
            started_us: None,
            finished_us: None,
            groups: Vec::new(),
            findings: BTreeMap::new(),
            stalls: Vec::new(),
        }
    }

    /// Its jobs, in order.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.parts.iter().filter_map(|part| part.job)
    }

    fn to_api(&self) -> Attempt {
        Attempt {
            number: self.number,
            command: self.command.clone(),
            why: self.why.clone(),
            jobs: self.jobs().collect(),
            started: self.started_us.map(Time::from_micros),
            finished: self.finished_us.map(Time::from_micros),
            groups: self.groups.clone(),
            stalls: self.stalls.clone(),
        }
    }
}

/// Names of machines.
pub fn names(machines: &[MachineRef]) -> Vec<String> {
    machines.iter().map(|machine| machine.name.clone()).collect()
}

/// What a plan's command is, for the rules that assess it.
pub fn to_command(planned: &PlannedCommand) -> Command {
    match (&planned.argv, &planned.shell) {
        (Some(argv), _) => Command::Argv(argv.clone()),
        (None, Some(line)) => Command::Shell(line.clone()),
        (None, None) => Command::Argv(Vec::new()),
    }
}

/// A command as plans say it, with everything else at its default.
pub fn from_command(command: &Command) -> PlannedCommand {
    match command {
        Command::Argv(argv) => {
            PlannedCommand { argv: Some(argv.clone()), ..PlannedCommand::default() }
        }
        Command::Shell(line) => {
            PlannedCommand { shell: Some(line.clone()), ..PlannedCommand::default() }
        }
    }
}

/// A reason.
pub fn reason(code: &str, message: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), message: message.into() }
}
