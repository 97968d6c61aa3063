//! The planner that needs no model: a catalogue of runbooks, as data.
//!
//! [`plan`] reads a request in words against the machines it may use and answers with a plan, a
//! question, or an honest "I don't know this one" with the closest runbooks. [`check`] reads a
//! step's exit code and output against the [`Expect`] that the plan carried.
//!
//! Both are pure: the same input gives the same answer, nothing is read from the machine they run on,
//! and foreign text never becomes shell syntax (see [`slots`](crate::SlotKind)). What the files of the
//! catalogue look like, and how to add a runbook, is in `docs/runbooks.md`.

mod catalogue;
mod check;
mod clauses;
mod compose;
mod expect;
mod formula;
mod machines;
mod matcher;
mod plan;
mod quote;
mod runbook;
mod shell_line;
mod slots;
mod template;
mod vocabulary;
mod words;

#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, CatalogueError, catalogue};
pub use check::{Checked, Found, Level, Outcome, check};
pub use expect::{Expect, FineExit, Rule, Stream};
pub use machines::Named;
pub use plan::{Closest, Machine, OnlyIf, Plan, Reply, Request, Step};
pub use runbook::{Runbook, RunbookStep, Variant};
pub use slots::{Slot, SlotKind};

/// Answers a request in words.
///
/// The plan names machines of [`Request::machines`] only, in every step.
#[must_use]
pub fn plan(request: &Request<'_>) -> Reply {
    compose::answer(catalogue(), request)
}

/// The machines that a request in words names, among these.
#[must_use]
pub fn machines_in(prompt: &str, machines: &[Machine]) -> Named {
    machines::named(catalogue(), prompt, machines)
}
