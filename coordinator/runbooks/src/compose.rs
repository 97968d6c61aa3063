//! From a sentence to a plan: requests in order, their machines, their steps.

use std::collections::{BTreeMap, BTreeSet};

use reeve_protocol::ops::Command;

use crate::catalogue::Catalogue;
use crate::expect::Expect;
use crate::machines::{Marked, mark, nearest};
use crate::matcher::{self, Match, Said};
use crate::plan::{Closest, Machine, Plan, Reply, Request, Step};
use crate::shell_line;
use crate::words::{self, Kind, Word};

mod steps;

#[cfg(test)]
pub(crate) use steps::expect as expectation;

/// Longer prompts are no request for a runbook, bytes.
const MAX_PROMPT: usize = 8 * 1024;
/// More parts than this are not one request.
const MAX_PARTS: usize = 12;
/// What each further runbook costs, so that one that explains two parts wins against two.
const PER_RUNBOOK: f64 = 0.35;
/// What a part costs that is not understood.
const PER_UNKNOWN: f64 = 0.8;

/// A runbook with the part of the sentence that asked for it.
struct Asked {
    found: Match,
    machines: Vec<usize>,
}

pub(crate) fn answer(catalogue: &Catalogue, request: &Request<'_>) -> Reply {
    let prompt = request.prompt.trim();
    if prompt.is_empty() || prompt.len() > MAX_PROMPT {
        return Reply::Unknown { closest: Vec::new() };
    }
    if let Some(line) = shell_line::recognise(prompt, &catalogue.vocabulary) {
        return offer(&line, request);
    }
    let sentence = words::split(prompt, &catalogue.vocabulary);
    let Marked { words, unknown } = mark(catalogue, sentence, request.machines);
    let later = words
        .iter()
        .any(|word| word.kind == Kind::Word && catalogue.vocabulary.is_later(&word.lower()));
    let read = Reading::of(catalogue, &words, later);
    let forgotten: Vec<&String> = read.unknown.iter().collect();
    let changes = read.found.iter().any(|(found, _)| catalogue.runbooks[found.runbook].changes());
    // A part that was not understood may be the condition under which the rest was meant.
    if read.found.is_empty() || (changes && !forgotten.is_empty()) {
        return Reply::Unknown { closest: closest(catalogue, &words) };
    }
    if !unknown.is_empty() {
        let mut near: Vec<String> = Vec::new();
        for name in unknown.iter().flat_map(|name| nearest(name, request.machines, 3)) {
            if near.len() < 5 && !near.contains(&name) {
                near.push(name);
            }
        }
        return Reply::UnknownMachine { names: unknown, nearest: near };
    }
    let mut notes = read.notes;
    notes.extend(forgotten.iter().map(|part| format!("Not understood, and left out: “{part}”.")));
    let asked = match choose_machines(request, read.found) {
        Ok(asked) => asked,
        Err(question) => return question,
    };
    compose(catalogue, request.machines, &asked, notes)
}

/// A shell line as a plan of one step, on the machines that are clear.
fn offer(line: &str, request: &Request<'_>) -> Reply {
    if !request.named && request.machines.len() != 1 {
        return which_machine(request.machines);
    }
    let machines: Vec<String> = request.machines.iter().map(|m| m.name.clone()).collect();
    let command = Command::Shell(line.to_owned());
    let assessed = reeve_risk::assess(&command, &BTreeMap::new());
    let step = Step {
        machines,
        command,
        purpose: "Runs the command as it was written.".to_owned(),
        expected: "It exits with 0.".to_owned(),
        effect: assessed.effect,
        network: assessed.network,
        timeout_ms: Some(60_000),
        undo: None,
        depends_on: Vec::new(),
        only_if: None,
        expect: Expect::default(),
        alternatives: Vec::new(),
    };
    let plan = Plan {
        runbook: "shell.line".to_owned(),
        summary: format!("Run this command: {line}"),
        steps: vec![step],
        notes: offline(request.machines, 0..request.machines.len()),
    };
    Reply::ShellLine { line: line.to_owned(), plan }
}

fn which_machine(machines: &[Machine]) -> Reply {
    let names: Vec<&str> = machines.iter().take(8).map(|m| m.name.as_str()).collect();
    let question = if names.is_empty() {
        "There is no machine that may be used for this.".to_owned()
    } else {
        let more = machines.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(
            "On which machine? I see {}{more}. Say “on NAME” or “on all machines”.",
            names.join(", ")
        )
    };
    Reply::NeedsSlot { runbook: "machines".to_owned(), question }
}

/// What was understood of a sentence.
struct Reading {
    /// What it asks for, in order, with the words of each part.
    found: Vec<(Match, Vec<Word>)>,
    /// Parts that were not understood.
    unknown: Vec<String>,
    notes: Vec<String>,
}

impl Reading {
    fn of(catalogue: &Catalogue, words: &[Word], later: bool) -> Self {
        let mut notes = Vec::new();
        let mut parts: Vec<Vec<Word>> = Vec::new();
        for part in words.split(|word| word.kind == Kind::Separator) {
            let matters = part
                .iter()
                .any(|w| w.kind != Kind::Word || !catalogue.vocabulary.is_filler(&w.lower()));
            if part.is_empty() || !matters {
                // `what`, `please`: says nothing by itself, but belongs to what comes behind.
                continue;
            }
            if let Some(forbidden) = forbidden(catalogue, part) {
                notes.push(format!("Not done, because you said so: “{forbidden}”."));
                continue;
            }
            parts.push(part.to_vec());
        }
        if parts.len() > MAX_PARTS {
            return Self { found: Vec::new(), unknown: Vec::new(), notes };
        }
        let (found, unknown) = partition(catalogue, &parts, later);
        Self { found, unknown, notes }
    }
}

/// A part that only says what not to do.
fn forbidden(catalogue: &Catalogue, part: &[Word]) -> Option<String> {
    let leads = |w: &Word| {
        [
            "don't", "dont", "do", "not", "never", "no", "without", "please", "avoid", "rather",
            "instead", "of",
        ]
        .iter()
        .any(|lead| w.lower().replace('’', "'") == *lead)
    };
    let start = part.iter().position(|w| !leads(w))?;
    (start > 0 && part[start].negated)
        .then(|| part.iter().map(|w| w.raw.as_str()).collect::<Vec<_>>().join(" "))
        .filter(|_| words::base(&part[start].lower(), &catalogue.vocabulary).is_some())
}

/// The best way to see neighbouring parts as requests.
fn partition(
    catalogue: &Catalogue,
    parts: &[Vec<Word>],
    later: bool,
) -> (Vec<(Match, Vec<Word>)>, Vec<String>) {
    #[derive(Clone, Default)]
    struct Way {
        value: f64,
        found: Vec<(Match, Vec<Word>)>,
        unknown: Vec<String>,
        said: Said,
    }
    let mut ways: Vec<Way> = vec![Way::default()];
    for end in 1..=parts.len() {
        let mut best: Option<Way> = None;
        for start in end.saturating_sub(4)..end {
            let clause: Vec<Word> = parts[start..end].concat();
            let before = &ways[start];
            let mut way = before.clone();
            let only_machines = clause.iter().all(|w| {
                matches!(w.kind, Kind::Machines(..)) || catalogue.vocabulary.is_filler(&w.lower())
            });
            match matcher::best(catalogue, &clause, &before.said, later) {
                Some(found) => {
                    way.value += found.score - PER_RUNBOOK;
                    for (name, text) in &found.slots {
                        way.said.insert(name.clone(), text.clone());
                    }
                    way.found.push((found, clause));
                }
                None if end - start > 1 || only_machines => continue,
                None => {
                    way.value -= PER_UNKNOWN;
                    way.unknown
                        .push(clause.iter().map(|w| w.raw.as_str()).collect::<Vec<_>>().join(" "));
                }
            }
            if best.as_ref().is_none_or(|best| way.value > best.value + 1e-9) {
                best = Some(way);
            }
        }
        // A part that is machines alone (`disk usage, on web-1`) and fits nothing before it.
        let best = best.unwrap_or_else(|| {
            let mut way = ways[end - 1].clone();
            if let Some((_, words)) = way.found.last_mut() {
                words.extend(parts[end - 1].iter().cloned());
            } else {
                way.unknown.push(String::new());
            }
            way
        });
        ways.push(best);
    }
    let mut way = ways.pop().unwrap_or_default();
    way.unknown.retain(|part| !part.is_empty());
    (way.found, way.unknown)
}

/// Gives each part its machines: its own, those of its neighbours, or all that are allowed.
fn choose_machines(
    request: &Request<'_>,
    found: Vec<(Match, Vec<Word>)>,
) -> Result<Vec<Asked>, Reply> {
    let own: Vec<Option<BTreeSet<usize>>> = found
        .iter()
        .map(|(found, words)| {
            let named: BTreeSet<usize> = words
                .iter()
                .enumerate()
                .filter(|(n, _)| !found.hosts.contains(n))
                .filter_map(|(_, word)| match &word.kind {
                    Kind::Machines(at, _) => Some(at),
                    _ => None,
                })
                .flatten()
                .copied()
                .collect();
            (!named.is_empty()).then_some(named)
        })
        .collect();
    let mut asked = Vec::new();
    for (n, (found, _)) in found.into_iter().enumerate() {
        let before = own[..=n].iter().rev().flatten().next();
        let behind = own[n..].iter().flatten().next();
        let machines: Vec<usize> = match before.or(behind) {
            Some(named) => named.iter().copied().collect(),
            None if request.named || request.machines.len() == 1 => {
                (0..request.machines.len()).collect()
            }
            None => Vec::new(),
        };
        if machines.is_empty() {
            return Err(which_machine(request.machines));
        }
        asked.push(Asked { found, machines });
    }
    Ok(asked)
}

fn compose(
    catalogue: &Catalogue,
    machines: &[Machine],
    asked: &[Asked],
    mut notes: Vec<String>,
) -> Reply {
    let mut builder = steps::Builder::default();
    let mut used = BTreeSet::new();
    let mut titles: Vec<&str> = Vec::new();
    let mut ids: Vec<&str> = Vec::new();
    for one in asked {
        let runbook = &catalogue.runbooks[one.found.runbook];
        let mut values = BTreeMap::new();
        for (name, slot) in &runbook.slots {
            let Some(text) = one.found.slots.get(name).or(slot.default.as_ref()) else {
                let question = slot.ask.clone().unwrap_or_else(|| format!("Which {name}?"));
                return Reply::NeedsSlot { runbook: runbook.id.clone(), question };
            };
            match slot.kind.fill(name, text) {
                Ok(filled) => values.extend(filled),
                Err(why) => {
                    return Reply::NeedsSlot {
                        runbook: runbook.id.clone(),
                        question: format!("{why}."),
                    };
                }
            }
        }
        let chosen: Vec<&Machine> = one.machines.iter().map(|at| &machines[*at]).collect();
        let left_out = builder.add(runbook, &values, &chosen);
        notes.extend(left_out);
        used.extend(one.machines.iter().copied());
        if !ids.contains(&runbook.id.as_str()) {
            ids.push(&runbook.id);
            titles.push(&runbook.title);
        }
    }
    if builder.steps.is_empty() {
        let question = format!("{} I know no command for this there.", notes.join(" "));
        return Reply::NeedsSlot { runbook: ids.join("+"), question };
    }
    notes.extend(offline(machines, used.iter().copied()));
    let plan = Plan {
        runbook: ids.join("+"),
        summary: format!("{}.", titles.join("; then: ")),
        steps: builder.steps,
        notes,
    };
    Reply::Plan(plan)
}

fn offline(machines: &[Machine], used: impl Iterator<Item = usize>) -> Vec<String> {
    let away: Vec<&str> =
        used.map(|at| &machines[at]).filter(|m| !m.online).map(|m| m.name.as_str()).collect();
    match away.as_slice() {
        [] => Vec::new(),
        [one] => vec![format!("{one} is offline now.")],
        many => {
            let names = many.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            let more = many.len().saturating_sub(8);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            vec![format!("{names}{more} are offline now.")]
        }
    }
}

fn closest(catalogue: &Catalogue, words: &[Word]) -> Vec<Closest> {
    matcher::closest(catalogue, words, 3)
        .into_iter()
        .map(|at| {
            let runbook = &catalogue.runbooks[at];
            Closest {
                id: runbook.id.clone(),
                title: runbook.title.clone(),
                example: runbook.examples.matching.first().cloned().unwrap_or_default(),
            }
        })
        .collect()
}
