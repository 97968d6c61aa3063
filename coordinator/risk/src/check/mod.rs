//! What rules as data cannot say: programs whose arguments are a language of their own.

mod awk;
mod find;
mod sed;
mod shell;
mod sql;

use reeve_protocol::ops::Effect;
use serde::Deserialize;

use crate::options::Parsed;
use crate::reasons;
use crate::rule::Rule;
use crate::text::shown;
use crate::walk::Walk;
use crate::word::Arg;

/// Which of them a rule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    /// The program text of awk.
    Awk,
    /// An interpreter of another language: its versions have the same rule.
    Code,
    /// `of=` of dd.
    Dd,
    /// The operands are a line for this shell.
    Eval,
    /// `NAME=value` operands, for programs to come.
    Export,
    /// The predicates of find.
    Find,
    /// Its arguments hold a command somewhere, of which only the words are looked at.
    Hidden,
    /// Signals and process ids.
    Kill,
    /// `NAME=value` operands, for this shell.
    Local,
    /// The script of sed.
    Sed,
    /// `-c` and a line, a script, or stdin.
    Shell,
    /// Statements in `-e` or `-c`, or on stdin.
    Sql,
    /// The values of `-c` are lines for a shell.
    Text,
    /// `test`, which evaluates what is between the brackets of a variable's name.
    Test,
    /// The first operand is a line for this shell, for later.
    Trap,
}

impl Check {
    /// Whether a word that may become an option can make it act.
    pub fn reads_options(self) -> bool {
        !matches!(
            self,
            Self::Test
                | Self::Find
                | Self::Hidden
                | Self::Local
                | Self::Eval
                | Self::Dd
                | Self::Kill
                | Self::Trap
        )
    }
}

pub(crate) fn run<'r>(
    walk: &mut Walk<'r>,
    check: Check,
    rule: &Rule,
    parsed: &Parsed<'r>,
    args: &[Arg],
    segment: &str,
) {
    match check {
        Check::Awk => awk::check(walk, parsed, segment),
        Check::Code => code(walk, rule, parsed, segment),
        Check::Dd => dd(walk, parsed, segment),
        Check::Eval => shell::eval(walk, args, segment),
        Check::Export | Check::Local => assignments(walk, parsed, check == Check::Export, segment),
        Check::Find => find::check(walk, args, segment),
        Check::Hidden => walk.hidden_destruction(segment),
        Check::Kill => kill(walk, rule, args, segment),
        Check::Sed => sed::check(walk, parsed, segment),
        Check::Shell => shell::check(walk, rule, parsed, args, segment),
        Check::Sql => sql::check(walk, rule, parsed, segment),
        Check::Text => shell::text(walk, parsed, segment),
        Check::Test => test(walk, args, segment),
        Check::Trap => shell::trap(walk, parsed, segment),
    }
}

/// An interpreter: what its code does is not looked at, except for words that destroy.
fn code(walk: &mut Walk<'_>, rule: &Rule, parsed: &Parsed<'_>, segment: &str) {
    let versions = ["-V", "-VV", "--version", "-v", "--help", "-h"];
    if parsed.operands.is_empty()
        && walk.stdin.is_none()
        && !parsed.given.is_empty()
        && parsed.given.iter().all(|given| versions.contains(&given.name.as_str()))
    {
        return;
    }
    walk.opaque(segment, format!("`{}` runs code, which can do anything", rule.id));
}

fn dd(walk: &mut Walk<'_>, parsed: &Parsed<'_>, segment: &str) {
    for operand in &parsed.operands {
        match operand.text.strip_prefix("of=") {
            Some("/dev/null" | "/dev/stdout") if !operand.open => {}
            Some(path) => {
                let reason = format!("`dd` writes over `{}`", shown(path));
                walk.find(Effect::Destroy, segment, "dd", reason);
            }
            None if operand.open && !operand.text.contains('=') => {
                walk.opaque(segment, "where `dd` writes cannot be told".to_owned());
            }
            None => {}
        }
    }
}

fn assignments(walk: &mut Walk<'_>, parsed: &Parsed<'_>, exports: bool, segment: &str) {
    let exports = exports || parsed.has(&["-x"]);
    for operand in &parsed.operands {
        match operand.text.split_once('=') {
            Some((name, value)) => {
                let value = operand.known().map(|_| value);
                walk.assigned(name, value, exports, segment);
            }
            None if operand.open => {
                walk.opaque(segment, "which variable is set cannot be told".to_owned());
            }
            None => walk.assigned(&operand.text, None, exports, segment),
        }
    }
}

/// `kill`, `pkill`, `killall`: which signal, and to whom.
fn kill(walk: &mut Walk<'_>, rule: &Rule, args: &[Arg], segment: &str) {
    let mut signal = None;
    let mut targets = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let text = arg.text.as_str();
        match text {
            "-l" | "-L" | "--list" | "--table" if targets.is_empty() && rule.id == "kill" => return,
            "-l" | "--list" if rule.id == "killall" => return,
            "-s" | "-n" | "--signal" if !(text == "-n" && rule.id == "pkill") => {
                signal = rest.next().map(|arg| arg.text.clone());
            }
            _ if text.starts_with("--signal=") => signal = Some(text[9..].to_owned()),
            _ if signal.is_none() && targets.is_empty() && is_signal(text) => {
                signal = Some(text[1..].to_owned());
            }
            "--" => targets.extend(rest.by_ref()),
            _ => targets.push(arg),
        }
    }
    let name = signal.as_deref().unwrap_or("TERM").to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let all = |arg: &&Arg| matches!(arg.text.as_str(), "-1" | "1" | "0");
    if name == "0" {
        return;
    }
    if rule.id == "kill" && targets.iter().any(all) {
        let reason = "`kill` ends init, or every process that it may".to_owned();
        walk.find(Effect::Destroy, segment, &rule.id, reason);
    } else if matches!(name, "9" | "KILL" | "6" | "ABRT" | "3" | "QUIT" | "11" | "SEGV") {
        let reason = format!("`{}` ends a process at once: what it had not saved is gone", rule.id);
        walk.find(Effect::Destroy, segment, &rule.id, reason);
    } else {
        let reason = format!("`{}` signals a process, which may end", rule.id);
        walk.find(Effect::Change, segment, &rule.id, reason);
    }
}

/// `-9`, `-KILL`, `-SIGKILL`
fn is_signal(text: &str) -> bool {
    let Some(name) = text.strip_prefix('-') else { return false };
    name.len() > 1
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+')
        || name.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty()
}

fn test(walk: &mut Walk<'_>, args: &[Arg], segment: &str) {
    for pair in args.windows(2) {
        let evaluates = matches!(pair[0].known(), Some("-v" | "-R"));
        if evaluates && (pair[1].open || pair[1].text.contains('[')) {
            walk.find(
                Effect::Change,
                segment,
                reasons::OPAQUE,
                "`-v` evaluates what stands between the brackets of a name".to_owned(),
            );
        }
    }
}
