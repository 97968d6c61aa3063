//! Reading a planner's answer. Nothing in it is taken on trust.

use std::collections::{BTreeSet, HashMap};

use reeve_protocol::ops::Effect;
use serde::{Deserialize, Serialize};

use super::command::{Caution, cautions, check_command, check_timeout, undo};
use super::operation::{WireOperation, check_operation};
use super::{Input, Reply, Step, command_line, topology};
use crate::ask::read_object;
use crate::clean::{line, prose};
use crate::machines::Fleet;

/// Steps of one plan.
const MAX_STEPS: usize = 200;

/// Entries in a step's list of machines.
const MAX_ENTRIES: usize = 10_000;

/// Bytes of a purpose, an expectation, an undo.
pub(super) const MAX_WORDS: usize = 1000;

/// Why an answer is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum PlanError {
    /// It is not the JSON that was asked for.
    #[error("{why}")]
    NotSchema {
        /// What is wrong.
        why: String,
    },
    /// It names a machine the task may not touch.
    #[error(
        "step {step} names {machine:?}, which is none of the machines of this task{}",
        meant(nearest)
    )]
    UnknownMachine {
        /// Which step, as the planner numbers.
        step: u32,
        /// What it names.
        machine: String,
        /// Names that may have been meant.
        nearest: Vec<String>,
    },
    /// A step that cannot be.
    #[error("step {step}: {why}")]
    BadStep {
        /// Which step, as the planner numbers.
        step: u32,
        /// What is wrong.
        why: String,
    },
    /// The steps wait for each other.
    #[error("steps depend on each other in a circle")]
    Circle,
    /// More commands than a machine may get.
    #[error("{machine} would get {count} commands in this task; at most {most} are allowed")]
    TooMany {
        /// Which machine.
        machine: String,
        /// How many it would get.
        count: u32,
        /// How many it may get.
        most: u32,
    },
    /// The same command again and again.
    #[error(
        "{machine} would get the same command {count} times: {command}. Say polling if that is meant"
    )]
    Loop {
        /// Which machine.
        machine: String,
        /// How often.
        count: u32,
        /// Which command.
        command: String,
    },
}

fn meant(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", nearest.join(", "))
}

impl PlanError {
    /// Stable, for programs: a task's reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownMachine { .. } => "plan_unknown_machine",
            _ => "plan_invalid",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kind: Kind,
    // Models whose provider does not enforce the schema leave out what is empty.
    #[serde(default)]
    summary: String,
    #[serde(default)]
    steps: Vec<WireStep>,
    question: Option<String>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Explore,
    Plan,
    Question,
    GiveUp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStep {
    id: u32,
    machines: Vec<String>,
    argv: Option<Vec<String>>,
    shell: Option<String>,
    #[serde(default)]
    operation: Option<WireOperation>,
    cwd: Option<String>,
    purpose: String,
    expected: String,
    effect: Effect,
    timeout_s: Option<u64>,
    #[serde(default)]
    depends_on: Vec<u32>,
    undo: Option<String>,
    #[serde(default)]
    polling: bool,
}

/// Reads what a planner answered.
///
/// # Errors
///
/// When it is not a plan that may be shown to anybody; the text says what is wrong in words the
/// planner can use (see [`crate::Ask::again`]).
pub fn read(input: &Input, answer: &str) -> Result<Reply, PlanError> {
    let wire: Wire = read_object(answer).map_err(|why| PlanError::NotSchema { why })?;
    let not = |why: &str| Err(PlanError::NotSchema { why: why.to_owned() });
    let said = |text: &Option<String>| {
        text.as_deref().map(|text| prose(text, MAX_WORDS)).filter(|text| !text.is_empty())
    };
    match wire.kind {
        Kind::Question | Kind::GiveUp if !wire.steps.is_empty() => {
            return not("a question and give_up have no steps");
        }
        Kind::Question => {
            return match said(&wire.question) {
                Some(question) => Ok(Reply::Question { question }),
                None => not("a question says nothing"),
            };
        }
        Kind::GiveUp => {
            return match said(&wire.reason) {
                Some(reason) => Ok(Reply::GiveUp { reason }),
                None => not("give_up needs a reason"),
            };
        }
        Kind::Explore if input.rounds_left == 0 => return not("there is no round of explore left"),
        Kind::Explore | Kind::Plan => {}
    }
    if wire.steps.is_empty() {
        return not("a plan has at least one step");
    }
    if wire.steps.len() > MAX_STEPS {
        return not("a plan has at most 200 steps");
    }
    let summary = line(&prose(&wire.summary, MAX_WORDS), MAX_WORDS);
    if summary.is_empty() {
        return not("a plan says in a sentence what it does");
    }
    let steps = read_steps(input, wire.steps, wire.kind == Kind::Explore)?;
    Ok(match wire.kind {
        Kind::Explore => Reply::Explore { summary, steps },
        _ => Reply::Plan { summary, steps },
    })
}

fn read_steps(input: &Input, wire: Vec<WireStep>, explore: bool) -> Result<Vec<Step>, PlanError> {
    let mut index = HashMap::new();
    for (at, step) in wire.iter().enumerate() {
        if index.insert(step.id, at).is_some() {
            return bad(step.id, "another step has the same id");
        }
    }
    let done: BTreeSet<u32> = input.explored.iter().map(|step| step.number).collect();
    let mut dependencies = Vec::with_capacity(wire.len());
    for step in &wire {
        let mut needed = Vec::new();
        for id in &step.depends_on {
            match index.get(id) {
                Some(at) if !needed.contains(at) => needed.push(*at),
                Some(_) => {}
                // What was looked at is over.
                None if done.contains(id) => {}
                None => return bad(step.id, &format!("it depends on {id}, which is no step")),
            }
        }
        dependencies.push(needed);
    }
    let order = topology::order(&dependencies).ok_or(PlanError::Circle)?;
    let first = input.next_number.max(1);
    let mut numbers = vec![0; wire.len()];
    for (place, at) in order.iter().enumerate() {
        numbers[*at] = first.saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
    }
    let fleet = Fleet::new(&input.machines);
    let mut steps = Vec::with_capacity(wire.len());
    for (at, step) in wire.into_iter().enumerate() {
        let mut depends_on: Vec<u32> = dependencies[at].iter().map(|at| numbers[*at]).collect();
        depends_on.sort_unstable();
        steps.push(read_step(input, &fleet, step, numbers[at], depends_on, explore)?);
    }
    steps.sort_by_key(|step| step.number);
    check_counts(input, &fleet, &steps)?;
    Ok(steps)
}

fn bad<T>(step: u32, why: &str) -> Result<T, PlanError> {
    Err(PlanError::BadStep { step, why: why.to_owned() })
}

fn read_step(
    input: &Input,
    fleet: &Fleet<'_>,
    wire: WireStep,
    number: u32,
    depends_on: Vec<u32>,
    explore: bool,
) -> Result<Step, PlanError> {
    let id = wire.id;
    if wire.machines.is_empty() || wire.machines.len() > MAX_ENTRIES {
        return bad(id, "it names no machine, or too many");
    }
    let indices = fleet.resolve_all(&wire.machines).map_err(|(entry, nearest)| {
        PlanError::UnknownMachine { step: id, machine: line(entry, 80), nearest }
    })?;
    let machines = indices.iter().map(|at| fleet.machines()[*at].name.clone()).collect();
    let has_command = wire.argv.as_ref().is_some_and(|argv| !argv.is_empty())
        || wire.shell.as_ref().is_some_and(|shell| !shell.is_empty());
    let command = match &wire.operation {
        None => check_command(wire.argv, wire.shell, wire.cwd, &input.caps),
        Some(_) if has_command => Err("a step is either a command or an operation".to_owned()),
        Some(operation) => {
            check_operation(operation, input.user.as_deref(), input.caps.command_bytes)
        }
    };
    let mut command = command.map_err(|why| PlanError::BadStep { step: id, why })?;
    command.user.clone_from(&input.user);
    let long = check_timeout(&mut command, wire.timeout_s, &input.caps)
        .map_err(|why| PlanError::BadStep { step: id, why })?;
    let words = |text: &str| prose(text, MAX_WORDS);
    let (purpose, expected) = (words(&wire.purpose), words(&wire.expected));
    if purpose.is_empty() || expected.is_empty() {
        return bad(id, "it has to say what it is for, and what a good result looks like");
    }
    if explore && wire.effect != Effect::Read {
        return bad(id, "explore only looks; what changes something belongs into a plan");
    }
    let Caution { effect, notes } = cautions(&command);
    let effect = match command.operation.as_ref().and_then(|operation| operation.as_work()) {
        Some(work) => work.effect(),
        None => effect,
    };
    if explore && effect != Effect::Read {
        return bad(id, "explore only looks, as the user that was asked for and not as another");
    }
    Ok(Step {
        number,
        machines,
        purpose,
        expected,
        claimed: wire.effect.max(effect),
        undo: undo(wire.undo),
        depends_on,
        polling: wire.polling,
        long,
        notes,
        command,
    })
}

/// Commands per machine, and loops; what was looked at counts.
fn check_counts(input: &Input, fleet: &Fleet<'_>, steps: &[Step]) -> Result<(), PlanError> {
    let caps = &input.caps;
    let before = input.explored.iter().map(|step| (&step.machines, &step.command, false));
    let now = steps.iter().map(|step| (&step.machines, &step.command, step.polling));
    let name = |at: usize| fleet.machines()[at].name.clone();
    let mut counts = vec![0_u32; fleet.machines().len()];
    // By command, so that its text is made once and not for each of thousands of machines.
    let mut same: HashMap<String, Vec<u32>> = HashMap::new();
    for (machines, command, polling) in before.chain(now) {
        let text = line(&command_line(command), usize::MAX);
        let repeats = same.entry(text).or_insert_with(|| vec![0; counts.len()]);
        // A machine that is no more of the task can get no more commands.
        for at in machines.iter().filter_map(|machine| fleet.find(machine)) {
            counts[at] += 1;
            if counts[at] > caps.commands_per_machine {
                let most = caps.commands_per_machine;
                return Err(PlanError::TooMany { machine: name(at), count: counts[at], most });
            }
            repeats[at] += u32::from(!polling);
            if repeats[at] >= caps.identical {
                let command = line(&command_line(command), 120);
                return Err(PlanError::Loop { machine: name(at), count: repeats[at], command });
            }
        }
    }
    Ok(())
}
