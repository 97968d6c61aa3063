//! Reads a result against what was expected, and says where in the output it saw it.

use regex::bytes::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::expect::{Expect, Rule, Stream};
use crate::formula::{self, Values};

/// At most this much of each stream is looked at, bytes; what is behind is not, and said so.
const MAX_CHECKED: usize = 1024 * 1024;
/// At most this many findings of one rule: more tell a person nothing.
const MAX_PER_RULE: usize = 10;
/// At most this much memory for one compiled pattern, bytes.
const MAX_PATTERN: usize = 1024 * 1024;

/// What on stderr says, whatever the exit code, that something did not work.
const TROUBLE: &str = r"(?im)^.*(\berror:|\bfatal:|permission denied|operation not permitted|no such file or directory|command not found|: not found$|cannot (open|access|connect|stat)|failed to |connection refused|access denied|read-only file system|no space left on device).*$";

/// Whether what was asked for came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did.
    Met,
    /// It did not.
    NotMet,
    /// The output does not say.
    Inconclusive,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    #[default]
    Notice,
    /// Somebody should act.
    Problem,
}

/// Something found in the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The rule's id; `nothing` for no output; `RULE.none` for what is well because nothing was found.
    pub id: String,
    /// How bad.
    pub level: Level,
    /// A plain sentence.
    pub message: String,
    /// Where it was seen.
    pub stream: Stream,
    /// First byte of it in the stream.
    pub from: u64,
    /// The byte behind it.
    pub to: u64,
}

/// What a result says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Whether it is what was expected.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
    /// What was found, the worst first.
    pub findings: Vec<Found>,
    /// Set when exit code and output say different things.
    pub disagreement: Option<String>,
}

/// Checks a result: `exit_code` is `None` when a signal or a timeout ended the command.
#[must_use]
pub fn check(expect: &Expect, exit_code: Option<i32>, stdout: &[u8], stderr: &[u8]) -> Checked {
    let cut = stdout.len() > MAX_CHECKED || stderr.len() > MAX_CHECKED;
    let stdout = &stdout[..stdout.len().min(MAX_CHECKED)];
    let stderr = &stderr[..stderr.len().min(MAX_CHECKED)];
    let fine = exit_code.and_then(|code| expect.fine.iter().find(|fine| fine.code == code));
    let went_well = exit_code == Some(0) || fine.is_some();
    let trouble = find_trouble(stderr);

    let silent = stdout.iter().all(u8::is_ascii_whitespace);

    let mut findings = Vec::new();
    let mut broken = None;
    for rule in &expect.rules {
        let stream = if rule.stream == Stream::Stdout { stdout } else { stderr };
        match apply(rule, stream) {
            Ok(found) if found.is_empty() => {
                // Absence is evidence only of a command that did its work and was read in full; where
                // the runbook says what silence means, that is said once.
                let said = silent && expect.empty.is_some() && rule.stream == Stream::Stdout;
                if let (Some(none), true, false) = (&rule.none, went_well && !said, cut) {
                    findings.push(Found {
                        id: format!("{}.none", rule.id),
                        level: rule.none_level.unwrap_or(Level::Ok),
                        message: none.clone(),
                        stream: rule.stream,
                        from: 0,
                        to: stream.len() as u64,
                    });
                }
            }
            Ok(found) => findings.extend(found),
            Err(why) => broken = Some(format!("the rule '{}' cannot be used: {why}", rule.id)),
        }
    }
    if let (Some(message), true, true) = (&expect.empty, silent, went_well) {
        findings.push(Found {
            id: "nothing".to_owned(),
            level: Level::Ok,
            message: message.clone(),
            stream: Stream::Stdout,
            from: 0,
            to: 0,
        });
    }
    findings.sort_by_key(|found| std::cmp::Reverse(found.level));

    let has = |id: &String| findings.iter().any(|found| found.id == *id);
    let refused = expect.refuses.iter().find(|id| has(id));
    let missing = expect.needs.iter().find(|id| !has(id));
    let said = |id: &String| {
        findings.iter().find(|found| found.id == *id).map(|found| found.message.clone())
    };

    let mut disagreement = None;
    let (outcome, reason) = if let Some(why) = broken {
        (Outcome::Inconclusive, why)
    } else if let Some(id) = refused {
        if went_well {
            disagreement = Some(format!(
                "It exited with {}, but its output says otherwise.",
                shown(exit_code)
            ));
        }
        (Outcome::NotMet, said(id).unwrap_or_default())
    } else if !went_well {
        let needed = !expect.needs.is_empty() && missing.is_none();
        if needed {
            disagreement = Some(format!(
                "It ended with {}, but its output shows what was expected.",
                shown(exit_code)
            ));
        }
        let reason = match (&trouble, exit_code) {
            (_, None) => "It was ended before it was done.".to_owned(),
            (Some(line), _) => format!("It failed with {}: {line}", shown(exit_code)),
            (None, _) => format!("It failed with {}.", shown(exit_code)),
        };
        (if needed { Outcome::Inconclusive } else { Outcome::NotMet }, reason)
    } else if let Some(id) = missing {
        if cut {
            (Outcome::Inconclusive, "The output is too long to be checked in full.".to_owned())
        } else {
            let worst = findings.first().filter(|found| found.level == Level::Problem);
            let reason = said(&format!("{id}.none")).or_else(|| worst.map(|f| f.message.clone()));
            let plain = || format!("The output does not show what was expected ({id}).");
            (Outcome::NotMet, reason.unwrap_or_else(plain))
        }
    } else if let (Some(line), false, true) = (&trouble, expect.noisy, silent) {
        disagreement = Some(format!("It exited with {}, but wrote: {line}", shown(exit_code)));
        (
            Outcome::Inconclusive,
            "It says it went well, and wrote an error and nothing else.".to_owned(),
        )
    } else {
        if let (Some(line), false) = (&trouble, expect.noisy) {
            disagreement = Some(format!("It exited with {}, but wrote: {line}", shown(exit_code)));
        }
        (Outcome::Met, met(fine.map(|fine| fine.means.as_str()), &findings))
    };
    Checked { outcome, reason, findings, disagreement }
}

fn met(means: Option<&str>, findings: &[Found]) -> String {
    match (findings.first(), means) {
        (Some(worst), _) => worst.message.clone(),
        (None, Some(means)) => format!("It went well: {means}."),
        (None, None) => "It went well.".to_owned(),
    }
}

fn shown(exit_code: Option<i32>) -> String {
    exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"))
}

/// The first line that says that something went wrong.
fn find_trouble(stderr: &[u8]) -> Option<String> {
    let found = compile(TROUBLE).ok()?.find(stderr)?;
    let text: String = String::from_utf8_lossy(found.as_bytes()).trim().chars().take(200).collect();
    Some(text)
}

/// A pattern as rules use it: lines, bytes (`\w`, `\d` and `i` are ASCII), bounded memory.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).multi_line(true).unicode(false).size_limit(MAX_PATTERN).build()
}

fn apply(rule: &Rule, stream: &[u8]) -> Result<Vec<Found>, String> {
    let pattern = compile(&rule.pattern).map_err(|e| e.to_string())?;
    let mut found: Vec<Found> = Vec::new();
    let mut count = 0_u64;
    for captures in pattern.captures_iter(stream) {
        let Some(whole) = captures.get(0) else { continue };
        let Some(mut values) = values_of(rule, &pattern, &captures)? else { continue };
        count += 1;
        if found.len() >= MAX_PER_RULE || (rule.once && !found.is_empty()) {
            if !rule.once {
                break;
            }
            continue;
        }
        values.insert("count".to_owned(), "{count}".to_owned());
        found.push(Found {
            id: rule.id.clone(),
            level: rule.level,
            message: fill(&rule.message, &values),
            stream: rule.stream,
            from: whole.start() as u64,
            to: whole.end() as u64,
        });
    }
    for found in &mut found {
        let (one, many) = found.message.split_once(" || ").unwrap_or(("", &found.message));
        let message = if count == 1 && !one.is_empty() { one } else { many };
        found.message = message.replace("{count}", &count.to_string());
    }
    Ok(found)
}

/// Groups and computed values of a match; `None` when its conditions do not hold.
fn values_of(
    rule: &Rule,
    pattern: &Regex,
    captures: &Captures<'_>,
) -> Result<Option<Values>, String> {
    let mut values = Values::new();
    for name in pattern.capture_names().flatten() {
        let text = captures.name(name).map(|m| m.as_bytes()).unwrap_or_default();
        values.insert(name.to_owned(), String::from_utf8_lossy(text).trim().to_owned());
    }
    // Formulas go on with exact numbers, people see rounded ones.
    let mut exact = values.clone();
    for value in &rule.values {
        let (name, formula) = value.split_once('=').ok_or("a value is NAME = FORMULA")?;
        let name = name.trim();
        // What does not compute here (a column that says `-`) is no finding, not an error.
        let Ok(computed) = formula::compute(formula, &exact) else { return Ok(None) };
        let shown = if name.ends_with("_bytes") {
            formula::show_bytes(computed)
        } else {
            formula::show(computed)
        };
        values.insert(name.to_owned(), shown);
        exact.insert(name.to_owned(), computed.to_string());
    }
    for condition in &rule.when {
        match formula::holds(condition, &exact) {
            Ok(true) => {}
            Ok(false) | Err(formula::FormulaError::NotANumber(_)) => return Ok(None),
            Err(why) => return Err(why.to_string()),
        }
    }
    Ok(Some(values))
}

/// A message with its `{names}` filled in, each at most 200 characters.
fn fill(message: &str, values: &Values) -> String {
    let mut filled = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        match behind.split_once('}') {
            Some((name, after)) if values.contains_key(name) => {
                filled.extend(values[name].chars().filter(|c| !c.is_control()).take(200));
                rest = after;
            }
            _ => {
                filled.push('{');
                rest = behind;
            }
        }
    }
    filled.push_str(rest);
    filled
}
