//! From a request to a plan: what the planner is shown and asked.
//!
//! The planner may look first (`explore`, read-only commands, a few rounds), plan, ask back, or say
//! that it cannot. What it answers is read by [`read`], which takes nothing on trust: machines come
//! from the list alone, there is no way to name a user, and limits are ours.

mod command;
mod delta;
mod operation;
mod read;
mod topology;

use std::fmt::Write as _;

use reeve_protocol::ops::Effect;
use reeve_sdk::api::PlannedCommand;
use serde::{Deserialize, Serialize};

pub(crate) use command::{Caution, cautions, check_command, check_timeout, undo};
pub use delta::Deltas;
pub use read::{PlanError, read};

use crate::ask::{Ask, Message, Stage, system};
use crate::clean::line;
use crate::machines::{Fleet, Machine};
use crate::markers::Nonce;
use crate::sample::{Sample, fit, names, render};
use crate::schemas;
use crate::tokens::Window;

/// Bytes of the machines' part of a prompt.
const MAX_MACHINES_TEXT: usize = 32 * 1024;

/// Bytes of all outputs in a prompt; [`fit`] keeps them well below.
const MAX_OUTPUTS_TEXT: usize = 256 * 1024;

/// What a plan may ask for at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caps {
    /// Commands on one machine in a task, those of exploration included.
    pub commands_per_machine: u32,
    /// Time of a command whose plan does not say, seconds.
    pub timeout_s: u64,
    /// The same for commands of package managers, seconds.
    pub package_timeout_s: u64,
    /// The same for backups, seconds.
    pub backup_timeout_s: u64,
    /// Longer than this needs a yes ([`Step::long`]), seconds.
    pub long_timeout_s: u64,
    /// Longer than this is refused, seconds.
    pub most_timeout_s: u64,
    /// Bytes of a command.
    pub command_bytes: usize,
    /// So many identical commands on one machine are a loop, unless they poll.
    pub identical: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            commands_per_machine: 40,
            timeout_s: 60,
            package_timeout_s: 15 * 60,
            backup_timeout_s: 60 * 60,
            long_timeout_s: 30 * 60,
            most_timeout_s: 4 * 60 * 60,
            command_bytes: 8 * 1024,
            identical: 5,
        }
    }
}

/// Everything a plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// What somebody wants, in words.
    pub request: String,
    /// As whom commands run; `None`: as the agents' own users.
    pub user: Option<String>,
    /// The only machines a plan may use.
    pub machines: Vec<Machine>,
    /// What policy says about these machines, in lines; empty: only the rules that always hold.
    pub policy: String,
    /// What was looked at so far, oldest first.
    pub explored: Vec<Explored>,
    /// Questions that were asked back, and their answers.
    pub answers: Vec<Answered>,
    /// How often it may still look first.
    pub rounds_left: u32,
    /// Limits.
    pub caps: Caps,
    /// The number of the next step; steps count through the whole task, from 1. 0 means 1.
    pub next_number: u32,
    /// How much the model can read.
    pub window: Window,
}

/// A step of exploration and what it showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explored {
    /// Its number.
    pub number: u32,
    /// Where it ran.
    pub machines: Vec<String>,
    /// What ran.
    pub command: PlannedCommand,
    /// What for.
    pub purpose: String,
    /// Results, like ones together.
    pub samples: Vec<Sample>,
    /// What is worth keeping of it when its output has to go, in a sentence.
    pub finding: String,
}

/// A question of the planner and what a person answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// What it asked.
    pub question: String,
    /// What was answered.
    pub answer: String,
}

/// What a planner answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// It wants to look first. The steps claim to be read-only; they run in inspect mode or not
    /// without a yes, as every step.
    Explore {
        /// What it wants to find out.
        summary: String,
        /// The steps.
        steps: Vec<Step>,
    },
    /// The plan.
    Plan {
        /// What it does, in a sentence.
        summary: String,
        /// The steps; each depends on earlier ones only.
        steps: Vec<Step>,
    },
    /// It needs to know something from a person.
    Question {
        /// What.
        question: String,
    },
    /// It cannot be done.
    GiveUp {
        /// Why.
        reason: String,
    },
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Counts through the task.
    pub number: u32,
    /// Names of machines, resolved, each once; all from the list.
    pub machines: Vec<String>,
    /// What runs: as the user that was asked for, with a time limit. Its mode and network are for
    /// the risk to decide; here they are the defaults.
    pub command: PlannedCommand,
    /// What for.
    pub purpose: String,
    /// What a good result looks like.
    pub expected: String,
    /// What the planner says it may do. Only ever raises the computed effect.
    pub claimed: Effect,
    /// What would take it back, as the planner says.
    pub undo: Option<String>,
    /// Earlier steps of this plan that have to be met before.
    pub depends_on: Vec<u32>,
    /// Repeats of it are meant.
    pub polling: bool,
    /// Its time limit needs a yes.
    pub long: bool,
    /// What is worth knowing about it before a yes: `sudo` in the command, …
    pub notes: Vec<String>,
}

/// What a planner is asked. When it would fill the window, outputs of the oldest exploration go
/// first; their findings stay.
#[must_use]
pub fn ask(input: &Input, nonce: &Nonce) -> Ask {
    let fleet = Fleet::new(&input.machines);
    let machines = fleet.render();
    let mut forgotten = 0;
    loop {
        let ask = ask_without(input, &machines, forgotten, nonce);
        if ask.tokens() <= input.window.compaction() || forgotten >= input.explored.len() {
            return ask;
        }
        forgotten += 1;
    }
}

fn ask_without(input: &Input, machines: &str, forgotten: usize, nonce: &Nonce) -> Ask {
    let mut message = Message::new(&input.request, nonce);
    message.part("Limits", &limits(input));
    if input.user.is_none() {
        message.part("Operations", &operation::describe_offered());
    }
    message.words("Policy", if input.policy.is_empty() { NO_POLICY } else { &input.policy });
    message.data("Machines", machines, input.window.share(20, MAX_MACHINES_TEXT));
    for answered in &input.answers {
        message.words("You asked", &answered.question);
        message.words("The answer was", &answered.answer);
    }
    if !input.explored.is_empty() {
        message.data("What was looked at", &explored(input, forgotten), MAX_OUTPUTS_TEXT);
    }
    let task = match input.rounds_left {
        0 => {
            "Answer with a plan, a question, or give_up. You cannot look first any more.".to_owned()
        }
        1 => "Answer with a plan, a question, give_up, or explore. You can look once more."
            .to_owned(),
        rounds => format!(
            "Answer with explore (you can look {rounds} more times), a plan, a question, or give_up."
        ),
    };
    let schema = schemas::plan();
    Ask {
        stage: Stage::Plan,
        role: Stage::Plan.role(),
        system: system(include_str!("../../prompts/plan.md"), &schema),
        messages: message.finish(&input.request, &task),
        schema_name: "plan".to_owned(),
        schema,
    }
}

const NO_POLICY: &str = "Steps that only look run at once in inspect mode, where the kernel lets \
                         them change nothing. Every other step waits for a person's yes.";

fn limits(input: &Input) -> String {
    let caps = &input.caps;
    let user = input
        .user
        .as_deref()
        .map_or_else(|| "the agent's own user on each machine".to_owned(), |user| line(user, 64));
    format!(
        "Commands run as: {user}. You cannot choose another.\n\
         At most {} commands on one machine in the whole task, what was looked at included.\n\
         Time of a command: {} s unless you say otherwise; packages {} s, backups {} s; at most {} s, \
         and over {} s needs a person's yes.\n\
         stdin is empty; there is no terminal; PAGER is cat, DEBIAN_FRONTEND is noninteractive.",
        caps.commands_per_machine,
        caps.timeout_s,
        caps.package_timeout_s,
        caps.backup_timeout_s,
        caps.most_timeout_s,
        caps.long_timeout_s,
    )
}

fn explored(input: &Input, forgotten: usize) -> String {
    let mut kept: Vec<Sample> =
        input.explored.iter().skip(forgotten).flat_map(|step| step.samples.clone()).collect();
    let left_out = fit(&mut kept, input.window.outputs());
    let mut text = String::new();
    let mut next = 0;
    for (at, step) in input.explored.iter().enumerate() {
        let _ = writeln!(
            text,
            "=== step {} on {}: {}",
            step.number,
            names(&step.machines, step.machines.len() as u64),
            line(&command_line(&step.command), 500)
        );
        if !step.purpose.is_empty() {
            let _ = writeln!(text, "for: {}", line(&step.purpose, 300));
        }
        if !step.finding.is_empty() {
            let _ = writeln!(text, "found: {}", line(&step.finding, 500));
        }
        if at < forgotten {
            let _ = writeln!(text, "its output is left out: there was too much");
            continue;
        }
        let of_step: Vec<Sample> = step
            .samples
            .iter()
            .filter_map(|sample| kept.iter().find(|kept| kept.operation == sample.operation))
            .cloned()
            .collect();
        text.push_str(&render(&of_step, next));
        next += of_step.len();
    }
    if left_out > 0 {
        let _ = writeln!(text, "{left_out} smaller groups of results are left out");
    }
    text
}

/// A command as one line for people and prompts; arguments are quoted where they need it. An
/// operation is its name and its parameters.
#[must_use]
pub fn command_line(command: &PlannedCommand) -> String {
    if let Some(operation) = &command.operation {
        return operation.to_line();
    }
    if let Some(shell) = &command.shell {
        return shell.clone();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    let words = command.argv.iter().flatten().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The environment of every command of a task: no pager, no questions, plain text.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
    ("SYSTEMD_PAGER", ""),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
];
