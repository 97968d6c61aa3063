//! What a command may do to its machine, computed from its syntax tree by rules that are data.
//!
//! Nothing is run, nothing is asked, and no model takes part: the same command has the same
//! assessment on every coordinator. A model may raise the result, never lower it. The assessment is
//! a fast path and an explanation for whoever approves; the wall is inspect mode in the kernel.
//!
//! # Principles
//!
//! - **Read**: no run of it changes the machine, whatever files, names and values it meets. It may
//!   take time, and it may print what is secret: who may see what is decided elsewhere.
//! - **Change**: it changes something that can be changed back: starts, stops or restarts a service,
//!   installs a package, writes a new file, edits a setting, ends a process with a signal it can
//!   handle. Whatever is not known is at least this.
//! - **Destroy**: it removes data or overwrites what was there (`rm`, `mkfs`, `DROP`, `UPDATE`, `>` onto a
//!   file of the system), ends what cannot be brought back (`kill -9`, `reboot`), or can lock people
//!   out (passwords, accounts, firewalls, the network, ssh).
//! - The whole is what its worst part is: every command of a pipeline, list, branch, loop, function,
//!   substitution and wrapper is judged.
//! - What cannot be parsed, and text that is run without being visible (`eval "$x"`, a script, code for an
//!   interpreter), is a change; it is destruction when its text, taken word by word, names a program
//!   that destroys.
//! - The line is for `/bin/sh`, which is dash, bash or BusyBox: what these understand differently is
//!   never read-only.
//! - A word that may turn into an option (`*`, `$x`, the output of a command) is one for programs
//!   with an option that acts.
//! - What sends to other machines is read-only only for names and addresses written out in the line
//!   (`dig`, `ping`), and for requests to the machine itself. `network` says what it needs; who starts
//!   a command with [`Network::Use`] without asking decides that nothing can leave that way.
//! - SQL is never read-only, since a SELECT can call functions that write; `SHOW …` is.
//! - Settings files of the user who runs it, and programs in the system's own folders, are taken as honest.

mod assess;
mod brace;
mod check;
mod command;
mod expand;
mod judge;
mod literal;
mod options;
mod redirect;
mod rule;
mod surroundings;
mod text;
mod variables;
mod walk;
mod word;
mod wrapped;

use std::collections::BTreeMap;
use std::fmt;

use reeve_protocol::ops::{Command, Effect, Network};

pub use rule::RuleError;

/// What a command may do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The worst of the findings; [`Effect::Read`] without any.
    pub effect: Effect,
    /// What makes it more than read-only, worst first, each once; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// What inspect mode would have to give it of the network.
    pub network: Network,
}

/// One reason why a command is not read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What this part does.
    pub effect: Effect,
    /// The part of the command, at most 200 characters, control characters replaced.
    pub segment: String,
    /// The rule's id, or one of the words in [`reasons`].
    pub rule: String,
    /// For a person: what happens, in one line.
    pub reason: String,
}

/// Findings kept of one command.
pub const MAX_FINDINGS: usize = 32;

/// Names of findings that come from the shell itself and not from a rule about a program.
pub mod reasons {
    /// A program without a rule, or from a folder that is not the system's.
    pub const UNKNOWN_PROGRAM: &str = "unknown_program";
    /// Text that the parser refuses, or that shells understand differently.
    pub const UNPARSABLE: &str = "unparsable";
    /// Longer or deeper than what is looked at.
    pub const TOO_COMPLEX: &str = "too_complex";
    /// Something is run that is not written in the line.
    pub const OPAQUE: &str = "opaque";
    /// Characters that hide or reorder text.
    pub const HIDDEN_CHARACTERS: &str = "hidden_characters";
    /// Output goes to a file.
    pub const REDIRECT: &str = "redirect";
    /// A variable that changes what programs do.
    pub const ENVIRONMENT: &str = "environment";
    /// A word that may turn into an option.
    pub const LOOSE_WORD: &str = "loose_word";
    /// A function or alias that takes the name of a program.
    pub const SHADOWED: &str = "shadowed";
    /// A file that acts when it is opened.
    pub const ACTING_FILE: &str = "acting_file";
    /// The built-in rules are damaged, so nothing can be known.
    pub const RULES: &str = "rules";
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (in `{}`)", self.effect.as_str(), self.reason, self.segment)
    }
}

impl fmt::Display for Assessment {
    /// One line for each finding, or that it is read-only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return write!(f, "{}: every part of it only looks", self.effect.as_str());
        }
        for (number, finding) in self.findings.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// Says what `command`, run with `env` added to the agent's clean environment, may do.
///
/// Never panics; takes microseconds for an ordinary line, and a bounded time for any.
#[must_use]
pub fn assess(command: &Command, env: &BTreeMap<String, String>) -> Assessment {
    match rule::built_in() {
        Ok(rules) => assess::assess(rules, command, env),
        Err(error) => Assessment {
            effect: Effect::Destroy,
            findings: vec![Finding {
                effect: Effect::Destroy,
                segment: String::new(),
                rule: reasons::RULES.to_owned(),
                reason: format!("the rules about commands are damaged: {error}"),
            }],
            network: Network::None,
        },
    }
}

/// Reads and checks the built-in rules; a program calls it at its start to find a damaged build
/// before the first command does.
///
/// # Errors
/// What is wrong with which rule.
pub fn check_rules() -> Result<usize, RuleError> {
    rule::built_in().map(|rules| rules.len()).map_err(Clone::clone)
}
