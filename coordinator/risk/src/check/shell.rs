//! Shells, and what hands them text.

use crate::options::Parsed;
use crate::rule::Rule;
use crate::text::shown;
use crate::walk::Walk;
use crate::word::{Arg, UNKNOWN};

/// `sh -c 'line'`, `sh script`, `… | sh`
pub(super) fn check(
    walk: &mut Walk<'_>,
    rule: &Rule,
    parsed: &Parsed<'_>,
    args: &[Arg],
    segment: &str,
) {
    let operand = args.get(parsed.rest);
    if parsed.has(&["-c"]) {
        match operand.map(Arg::known) {
            Some(Some(line)) => walk.new_shell(line),
            Some(None) => {
                walk.opaque(segment, format!("the line that `{}` runs cannot be told", rule.id))
            }
            None => {}
        }
        return;
    }
    if parsed.has(&["-n"]) {
        return;
    }
    if let Some(script) = operand.filter(|_| !parsed.has(&["-s"])) {
        walk.opaque(
            segment,
            format!("what the script `{}` does is not known", shown(&script.text)),
        );
        return;
    }
    match walk.stdin.clone() {
        Some(text) if !text.contains(UNKNOWN) => walk.new_shell(&text),
        _ => walk.opaque(segment, format!("`{}` runs whatever it reads", rule.id)),
    }
}

/// `eval words`
pub(super) fn eval(walk: &mut Walk<'_>, args: &[Arg], segment: &str) {
    let known: Option<Vec<&str>> = args.iter().map(Arg::known).collect();
    match known {
        Some(words) => walk.shell_text(&words.join(" ")),
        None => walk.opaque(segment, "the line that `eval` runs cannot be told".to_owned()),
    }
}

/// `trap 'line' EXIT`
pub(super) fn trap(walk: &mut Walk<'_>, parsed: &Parsed<'_>, segment: &str) {
    if parsed.has(&["-l", "-p"]) {
        return;
    }
    match parsed.operands.first().map(Arg::known) {
        Some(Some("-" | "")) | None => {}
        Some(Some(line)) if parsed.operands.len() > 1 => walk.shell_text(line),
        Some(Some(_)) => {}
        Some(None) => walk.opaque(segment, "the line that `trap` runs cannot be told".to_owned()),
    }
}

/// `su -c 'line'`, `script -c 'line'`
pub(super) fn text(walk: &mut Walk<'_>, parsed: &Parsed<'_>, segment: &str) {
    for given in &parsed.given {
        if !matches!(given.name.as_str(), "-c" | "--command" | "--session-command") {
            continue;
        }
        match given.value.as_ref().map(Arg::known) {
            Some(Some(line)) => walk.new_shell(line),
            _ => walk.opaque(segment, "the line that it runs cannot be told".to_owned()),
        }
    }
}
