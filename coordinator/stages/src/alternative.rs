//! Another command for a step that did not do what was expected.
//!
//! It takes the same road as a planned command: risk, policy, approval. The machines and the user
//! are the step's; an answer has no way to name others.

use std::fmt::Write as _;

use reeve_protocol::ops::Effect;
use reeve_sdk::api::PlannedCommand;
use serde::{Deserialize, Serialize};

use crate::ask::{Ask, Message, Stage, read_object, system};
use crate::clean::{line, prose};
use crate::machines::{Fleet, Machine};
use crate::markers::Nonce;
use crate::plan::{Caps, Caution, cautions, check_command, check_timeout, command_line, undo};
use crate::sample::{Sample, fit, render};
use crate::schemas;
use crate::tokens::Window;
use crate::validate::StepView;

/// Alternatives of one step.
pub const MAX_ALTERNATIVES: u32 = 3;

/// Bytes of the reason.
const MAX_WHY: usize = 1000;

/// Everything an alternative depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// What somebody wants, in words.
    pub request: String,
    /// As whom commands run; `None`: as the agents' own users.
    pub user: Option<String>,
    /// The step, with its planned command.
    pub step: StepView,
    /// The machines it is still to do on.
    pub machines: Vec<Machine>,
    /// What was tried, the planned command first.
    pub failed: Vec<Failed>,
    /// Alternatives that may still be tried; at most [`MAX_ALTERNATIVES`].
    pub tries_left: u32,
    /// Limits.
    pub caps: Caps,
    /// How much the model can read.
    pub window: Window,
}

/// A try that failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failed {
    /// What ran.
    pub command: PlannedCommand,
    /// What was concluded.
    pub reason: String,
    /// What it showed.
    pub samples: Vec<Sample>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// Try this.
    Try {
        /// What to run, as the user that was asked for.
        command: Box<PlannedCommand>,
        /// Why this.
        why: String,
        /// What the planner says it may do. Only ever raises the computed effect.
        claimed: Effect,
        /// What would take it back, as the planner says.
        undo: Option<String>,
        /// Its time limit needs a yes.
        long: bool,
        /// What is worth knowing before a yes.
        notes: Vec<String>,
    },
    /// Nothing is left to try.
    None {
        /// Why.
        why: String,
    },
}

/// Why an answer is no alternative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NotAlternative {
    /// It is not the JSON that was asked for, or its command cannot be.
    #[error("{0}")]
    Invalid(String),
    /// It was tried already.
    #[error("this command was tried and failed: {0}")]
    Tried(String),
    /// All alternatives were used.
    #[error("no try is left")]
    NoTryLeft,
}

/// What a planner is asked for another command.
#[must_use]
pub fn ask(input: &Input, nonce: &Nonce) -> Ask {
    let mut message = Message::new(&input.request, nonce);
    let user = input
        .user
        .as_deref()
        .map_or_else(|| "the agent's own user on each machine".to_owned(), |user| line(user, 64));
    message.part(
        "Limits",
        &format!(
            "Commands run as: {user}. You cannot choose another, nor other machines.\nTries left: {}.",
            input.tries_left.min(MAX_ALTERNATIVES)
        ),
    );
    message.data(
        "Machines",
        &Fleet::new(&input.machines).render(),
        input.window.share(15, 16 * 1024),
    );
    let mut step = String::new();
    let _ = writeln!(step, "planned command: {}", command_line(&input.step.command));
    let _ = writeln!(step, "for: {}", line(&input.step.purpose, 1000));
    let _ = writeln!(step, "expected: {}", line(&input.step.expected, 1000));
    message.data("Step", &step, input.window.share(15, 16 * 1024));
    message.data("What was tried", &tried(input), 256 * 1024);
    let schema = schemas::alternative();
    Ask {
        stage: Stage::Alternative,
        role: Stage::Alternative.role(),
        system: system(include_str!("../prompts/alternative.md"), &schema),
        messages: message.finish(
            &input.request,
            "Propose one other command for the step (try), or say why there is none (none).",
        ),
        schema_name: "alternative".to_owned(),
        schema,
    }
}

fn tried(input: &Input) -> String {
    let share = input.window.outputs() / (input.failed.len().max(1) as u64);
    let mut text = String::new();
    let mut next = 0;
    for (at, failed) in input.failed.iter().enumerate() {
        let _ =
            writeln!(text, "=== try {}: {}", at + 1, line(&command_line(&failed.command), 1000));
        let _ = writeln!(text, "concluded: {}", line(&failed.reason, 1000));
        let mut samples = failed.samples.clone();
        let gone = fit(&mut samples, share);
        text.push_str(&render(&samples, next));
        next += samples.len();
        if gone > 0 {
            let _ = writeln!(text, "{gone} smaller groups of results are left out");
        }
    }
    text
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kind: Kind,
    argv: Option<Vec<String>>,
    shell: Option<String>,
    cwd: Option<String>,
    effect: Effect,
    timeout_s: Option<u64>,
    undo: Option<String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Try,
    None,
}

/// Reads what was answered.
///
/// # Errors
///
/// When it is not a command that may be tried.
pub fn read(input: &Input, answer: &str) -> Result<Reply, NotAlternative> {
    let wire: Wire = read_object(answer).map_err(NotAlternative::Invalid)?;
    let why = prose(&wire.why, MAX_WHY);
    if matches!(wire.kind, Kind::None) {
        return Ok(Reply::None { why });
    }
    if input.tries_left == 0 {
        return Err(NotAlternative::NoTryLeft);
    }
    let mut command = check_command(wire.argv, wire.shell, wire.cwd, &input.caps)
        .map_err(NotAlternative::Invalid)?;
    let same = plain(&command);
    if std::iter::once(&input.step.command)
        .chain(input.failed.iter().map(|failed| &failed.command))
        .any(|failed| plain(failed) == same)
    {
        return Err(NotAlternative::Tried(line(&same, 200)));
    }
    command.user.clone_from(&input.user);
    let long = check_timeout(&mut command, wire.timeout_s, &input.caps)
        .map_err(NotAlternative::Invalid)?;
    let Caution { effect, notes } = cautions(&command);
    Ok(Reply::Try {
        command: Box::new(command),
        why,
        claimed: wire.effect.max(effect),
        undo: undo(wire.undo),
        long,
        notes,
    })
}

/// A command with its white space evened out: `a  b` is `a b`, and argv is what a shell would read.
fn plain(command: &PlannedCommand) -> String {
    let directory = command.cwd.as_deref().unwrap_or_default();
    format!("{directory}\0{}", line(&command_line(command), usize::MAX))
}
