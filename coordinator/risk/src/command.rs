//! Simple commands: assignments, redirections, the program and its arguments.

use brush_parser::ast::{
    Assignment, AssignmentName, AssignmentValue, CommandPrefixOrSuffixItem as Item, SimpleCommand,
};
use reeve_protocol::ops::Effect;

use crate::text::{destroying_word, shown};
use crate::walk::Walk;
use crate::word::Arg;
use crate::{reasons, surroundings};

/// Folders whose programs are the system's.
const SYSTEM: &[&str] =
    &["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/"];

impl Walk<'_> {
    pub fn simple(&mut self, command: &SimpleCommand) {
        let segment = command.to_string();
        let mut stdin = None;
        let has_program = command.word_or_name.is_some();
        for item in command.prefix.iter().flat_map(|prefix| &prefix.0) {
            match item {
                Item::AssignmentWord(assignment, _) => {
                    self.assign(assignment, has_program, &segment)
                }
                Item::IoRedirect(redirect) => stdin = self.redirect(redirect, &segment).or(stdin),
                Item::ProcessSubstitution(_, subshell) => self.list(&subshell.list),
                Item::Word(word) => {
                    self.words(word);
                }
            }
        }
        let mut args = Vec::new();
        if let Some(word) = &command.word_or_name {
            args.extend(self.words(word));
        }
        for item in command.suffix.iter().flat_map(|suffix| &suffix.0) {
            match item {
                Item::Word(word) => args.extend(self.words(word)),
                Item::AssignmentWord(assignment, word) => {
                    self.assigned_value(&assignment.value);
                    args.extend(self.words(word));
                }
                Item::IoRedirect(redirect) => stdin = self.redirect(redirect, &segment).or(stdin),
                Item::ProcessSubstitution(_, subshell) => {
                    self.list(&subshell.list);
                    // Such as /dev/fd/63.
                    args.push(Arg { text: "/dev/fd/0".to_owned(), open: true, ..Arg::default() });
                }
            }
        }
        if has_program {
            self.run(&args, &segment, stdin.as_deref());
        }
    }

    fn assigned_value(&mut self, value: &AssignmentValue) {
        match value {
            AssignmentValue::Scalar(word) => {
                self.words(word);
            }
            AssignmentValue::Array(elements) => {
                for (key, word) in elements {
                    if let Some(key) = key {
                        self.arithmetic(&key.value);
                    }
                    self.words(word);
                }
            }
        }
    }

    /// `exported`: a program sees it.
    fn assign(&mut self, assignment: &Assignment, exported: bool, segment: &str) {
        let name = match &assignment.name {
            AssignmentName::VariableName(name) => name,
            AssignmentName::ArrayElementName(name, index) => {
                self.arithmetic(index);
                name
            }
        };
        self.assigned_value(&assignment.value);
        let value = match &assignment.value {
            AssignmentValue::Scalar(word) => self.value_of_word(&word.value),
            AssignmentValue::Array(_) => None,
        };
        self.assigned(name, value.as_deref(), exported, segment);
    }

    /// A variable gets a value (`None`: not known), for a program or for the shell.
    pub fn assigned(&mut self, name: &str, value: Option<&str>, exported: bool, segment: &str) {
        let exported = exported || self.env.contains_key(name);
        let tame = value.is_some_and(|value| surroundings::is_tame(name, value));
        if !tame && (exported || !surroundings::is_private(name)) {
            self.find(Effect::Change, segment, reasons::ENVIRONMENT, surroundings::reason(name));
        }
    }

    /// A program with its arguments, from wherever they come. `stdin`: text that it reads.
    pub fn run(&mut self, args: &[Arg], segment: &str, stdin: Option<&str>) {
        let Some((program, rest)) = args.split_first() else { return };
        if !self.enter(segment) {
            return;
        }
        match program.known() {
            Some(name) => self.named(name, rest, segment, stdin),
            None => {
                let reason = format!("which program `{}` is cannot be told", shown(&program.text));
                self.opaque(segment, reason);
            }
        }
        self.leave();
    }

    fn named(&mut self, program: &str, args: &[Arg], segment: &str, stdin: Option<&str>) {
        if self.defining.iter().any(|function| function == program) {
            let reason = format!(
                "the function `{}` calls itself, and may do so without end",
                shown(program)
            );
            self.find(Effect::Destroy, segment, reasons::OPAQUE, reason);
            return;
        }
        if self.functions.iter().any(|function| function == program) {
            // Its body was judged where it was defined; what it is given may be run by it.
            self.hidden_destruction(segment);
            return;
        }
        let (name, trusted) = match program.rsplit_once('/') {
            None => (program, true),
            Some((_, name)) => {
                let folder = &program[..program.len() - name.len()];
                (name, SYSTEM.contains(&folder))
            }
        };
        let Some(rule) = self.rules.find(name) else {
            let reason = format!("nothing is known of `{}`", shown(program));
            self.find(Effect::Change, segment, reasons::UNKNOWN_PROGRAM, reason);
            self.hidden_destruction(segment);
            return;
        };
        if !trusted {
            let reason = format!("`{}` is not from one of the system's folders", shown(program));
            self.find(Effect::Change, segment, reasons::UNKNOWN_PROGRAM, reason);
        }
        if !rule.names_only {
            for arg in args {
                self.acting_file(&arg.text, segment);
            }
        }
        let before = std::mem::replace(&mut self.stdin, stdin.map(str::to_owned));
        self.judge(rule, args, segment);
        self.stdin = before;
    }

    /// Files that act when a program opens them.
    pub fn acting_file(&mut self, text: &str, segment: &str) {
        const ACTING: &[(&str, Effect, &str)] = &[
            (
                "/dev/watchdog",
                Effect::Destroy,
                "opening the watchdog reboots the machine when nobody feeds it",
            ),
            (
                "/proc/kmsg",
                Effect::Change,
                "reading /proc/kmsg takes kernel messages away from the log",
            ),
            ("/trace_pipe", Effect::Change, "reading a trace pipe takes its events away"),
        ];
        for (path, effect, reason) in ACTING {
            if text.contains(path) {
                self.find(*effect, segment, reasons::ACTING_FILE, (*reason).to_owned());
            }
        }
    }

    /// Something is run that cannot be seen.
    pub fn opaque(&mut self, segment: &str, reason: String) {
        self.find(Effect::Change, segment, reasons::OPAQUE, reason);
        self.hidden_destruction(segment);
    }

    /// A part that cannot be followed, in a text that names a program which destroys: that is taken
    /// to be what it runs.
    pub fn hidden_destruction(&mut self, segment: &str) {
        let rules = self.rules;
        let texts =
            [segment.to_owned(), self.stdin.clone().unwrap_or_default(), self.source.clone()];
        for text in &texts {
            if let Some(word) = destroying_word(rules, text) {
                let reason = format!(
                    "something that cannot be followed runs beside the word `{}`",
                    shown(word)
                );
                self.find(Effect::Destroy, segment, reasons::OPAQUE, reason);
                return;
            }
        }
    }
}
