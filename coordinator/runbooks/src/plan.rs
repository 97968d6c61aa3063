//! What is asked, and what is answered.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Command, Effect, Network};
use serde::{Deserialize, Serialize};

use crate::expect::Expect;

/// A machine that the request may use, with what decides which commands fit it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `ID` of os-release(5), such as `debian`.
    pub os_id: String,
    /// `ID_LIKE` of os-release(5), such as `rhel fedora`.
    pub os_like: String,
    /// `systemd`, `openrc`, … or empty when unknown.
    pub init: String,
    /// `apt`, `dnf`, `yum`, `apk`, `pacman`, `zypper`, or empty when unknown.
    pub package_manager: String,
    /// Whether it is connected now. Others are planned for and noted.
    pub online: bool,
}

/// A request in words.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the person wrote.
    pub prompt: &'a str,
    /// The only machines that may be used.
    pub machines: &'a [Machine],
    /// A selector chose `machines`: all of them are meant, unless the sentence names some of them.
    pub named: bool,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// What to run.
    Plan(Plan),
    /// The prompt is a shell command already, offered as it is.
    ShellLine {
        /// The line.
        line: String,
        /// It, as a plan of one step, with the effect that the risk rules compute.
        plan: Plan,
    },
    /// It is clear what is asked, but something is missing.
    NeedsSlot {
        /// The runbook that would answer; `machines` when it is the machine that is missing.
        runbook: String,
        /// What to ask the person.
        question: String,
    },
    /// The sentence names machines that are not there, or not among those allowed.
    UnknownMachine {
        /// As written.
        names: Vec<String>,
        /// Names of machines that could have been meant, the nearest first, at most five.
        nearest: Vec<String>,
    },
    /// Nothing fits.
    Unknown {
        /// Up to three runbooks that come closest.
        closest: Vec<Closest>,
    },
}

/// A runbook that comes close to what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closest {
    /// Its id, such as `disk.usage`.
    pub id: String,
    /// What it does.
    pub title: String,
    /// A sentence that it answers.
    pub example: String,
}

/// What to run, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Ids of the runbooks it was made from, joined with `+`.
    pub runbook: String,
    /// What it does, in one sentence.
    pub summary: String,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What the person should know before saying yes: machines that are offline or left out, parts
    /// of the sentence that were not understood or were forbidden in it.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One command on some machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub machines: Vec<String>,
    /// What.
    pub command: Command,
    /// Why, for people.
    pub purpose: String,
    /// What a good result looks like, for people.
    pub expected: String,
    /// What the runbook says it may do. Whoever runs it computes the effect and takes the higher.
    pub effect: Effect,
    /// What it needs of the network in inspect mode.
    pub network: Network,
    /// End it after this long, milliseconds.
    pub timeout_ms: Option<u64>,
    /// How to take it back, as a shell line.
    pub undo: Option<String>,
    /// Numbers of steps, from 1, that have to be done before.
    pub depends_on: Vec<u32>,
    /// Run it on a machine only if a step found something there.
    pub only_if: Option<OnlyIf>,
    /// What the result is checked against.
    pub expect: Expect,
    /// What to try when it fails, in order, at most three.
    pub alternatives: Vec<Command>,
}

/// A condition on what an earlier step found, on each machine by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyIf {
    /// The step's number, from 1.
    pub step: u32,
    /// The [`Found::id`](crate::Found) that has to be among what it found.
    pub finding: String,
}
