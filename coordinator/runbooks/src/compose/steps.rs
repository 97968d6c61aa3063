//! The steps of a plan: one per command, for the machines that share it.

use reeve_protocol::ops::{Command, Effect};

use crate::expect::{Expect, Rule};
use crate::plan::{Machine, OnlyIf, Step};
use crate::runbook::{Runbook, RunbookStep};
use crate::slots::{Filled, shell_word};
use crate::template;

/// Unless a step says so: what a look may take, milliseconds.
const LOOK_MS: u64 = 60_000;

/// Why a look needs a yes.
const OUTSIDE: &str = "It only looks, but inspect mode does not allow it, so it asks first.";

/// Steps so far.
#[derive(Default)]
pub(super) struct Builder {
    pub steps: Vec<Step>,
}

/// One command for a group of machines.
struct Chosen<'a> {
    line: String,
    /// The step of the plan that decides whether it runs.
    condition: Option<usize>,
    names: Vec<String>,
    depends_on: Vec<u32>,
    undo: Option<&'a String>,
}

impl Builder {
    /// Adds a runbook's steps for some machines; tells which machines it has no command for.
    pub(super) fn add(
        &mut self,
        runbook: &Runbook,
        values: &Filled,
        machines: &[&Machine],
    ) -> Vec<String> {
        // For each step of the runbook: which steps of the plan it became.
        let mut became: Vec<Vec<usize>> = Vec::new();
        for (at, step) in runbook.step.iter().enumerate() {
            let mut groups: Vec<(String, Option<usize>, Vec<String>)> = Vec::new();
            for machine in machines {
                let line = step
                    .command_for(machine)
                    .and_then(|template| template::fill(template, values, shell_word).ok());
                let Some(line) = line else {
                    continue;
                };
                let condition = match step.condition() {
                    None => None,
                    Some((on, _)) => {
                        let there = became[on - 1]
                            .iter()
                            .find(|n| self.steps[**n].machines.contains(&machine.name));
                        // Where the step that decides does not run, this one must not either.
                        let Some(there) = there else { continue };
                        Some(*there)
                    }
                };
                match groups.iter_mut().find(|(l, c, _)| *l == line && *c == condition) {
                    Some((_, _, names)) => names.push(machine.name.clone()),
                    None => groups.push((line, condition, vec![machine.name.clone()])),
                }
            }
            let before = prerequisites(runbook, at);
            let mut places = Vec::new();
            for (line, condition, names) in groups {
                let depends_on = self.waits_for(&before, &became, condition, &names);
                // A group shares its command, so its machines are of one kind.
                let undo = machines
                    .iter()
                    .find(|machine| names.contains(&machine.name))
                    .and_then(|machine| step.undo_for(machine));
                let chosen = Chosen { line, condition, names, depends_on, undo };
                places.push(self.push(step, chosen, values));
            }
            became.push(places);
        }
        let used = |machine: &&&Machine| {
            became.iter().flatten().any(|n| self.steps[*n].machines.contains(&machine.name))
        };
        let left_out: Vec<&str> =
            machines.iter().filter(|m| !used(m)).map(|m| m.name.as_str()).collect();
        if left_out.is_empty() {
            return Vec::new();
        }
        vec![format!("“{}” has no command for {}.", runbook.title, left_out.join(", "))]
    }

    /// Numbers of the plan's steps that a group of machines waits for.
    fn waits_for(
        &self,
        before: &[usize],
        became: &[Vec<usize>],
        condition: Option<usize>,
        names: &[String],
    ) -> Vec<u32> {
        let mut waits: Vec<u32> = before
            .iter()
            .filter_map(|step| became.get(*step))
            .flatten()
            .copied()
            .chain(condition)
            .filter(|n| self.steps[*n].machines.iter().any(|name| names.contains(name)))
            .filter_map(|n| u32::try_from(n + 1).ok())
            .collect();
        waits.sort_unstable();
        waits.dedup();
        waits
    }

    fn push(&mut self, step: &RunbookStep, chosen: Chosen<'_>, values: &Filled) -> usize {
        let Chosen { line, condition, names, mut depends_on, undo } = chosen;
        let command = Command::Shell(line);
        let expect = expect(step, values);
        if step.effect == Effect::Read && !step.outside && condition.is_none() {
            let last_change = self.steps.iter().rposition(|s| s.effect != Effect::Read);
            let same = self.steps.iter().position(|other| {
                other.command == command && other.machines == names && other.only_if.is_none()
            });
            // What was seen before a change is not what is there behind it.
            if let Some(same) = same.filter(|same| last_change.is_none_or(|change| *same > change))
            {
                merge(&mut self.steps[same].expect, expect);
                return same;
            }
        }
        if step.effect != Effect::Read {
            // Changes of one sentence come in its order on each machine.
            let earlier = self.steps.iter().rposition(|s| {
                s.effect != Effect::Read && s.machines.iter().any(|name| names.contains(name))
            });
            if let Some(number) = earlier.and_then(|n| u32::try_from(n + 1).ok())
                && !depends_on.contains(&number)
                && step.only_if.is_none()
            {
                depends_on.push(number);
                depends_on.sort_unstable();
            }
        }
        let text =
            |t: &str| template::fill(t, values, str::to_owned).unwrap_or_else(|_| t.to_owned());
        let shell = |t: &String| template::fill(t, values, shell_word).ok();
        self.steps.push(Step {
            machines: names,
            command,
            purpose: if step.outside {
                format!("{} {OUTSIDE}", text(&step.purpose))
            } else {
                text(&step.purpose)
            },
            expected: text(&step.expected),
            effect: if step.outside { Effect::Change } else { step.effect },
            network: step.network,
            timeout_ms: Some(step.seconds.map_or(LOOK_MS, |seconds| seconds * 1000)),
            undo: undo.and_then(shell),
            depends_on,
            only_if: condition.zip(step.condition()).and_then(|(n, (_, finding))| {
                Some(OnlyIf { step: u32::try_from(n + 1).ok()?, finding: finding.to_owned() })
            }),
            expect,
            alternatives: step.alternatives.iter().filter_map(shell).map(Command::Shell).collect(),
        });
        self.steps.len() - 1
    }
}

/// Steps of the runbook, from 0, that have to be done before one of its steps.
fn prerequisites(runbook: &Runbook, at: usize) -> Vec<usize> {
    let step = &runbook.step[at];
    if let Some(after) = &step.after {
        return after.iter().map(|n| n - 1).collect();
    }
    (0..at)
        .filter(|n| step.effect != Effect::Read || runbook.step[*n].effect != Effect::Read)
        .collect()
}

/// What a step's result is checked against, with the slots filled in.
pub(crate) fn expect(step: &RunbookStep, values: &Filled) -> Expect {
    let plain = |text: &str| {
        template::fill(text, values, str::to_owned).unwrap_or_else(|_| text.to_owned())
    };
    let rules = step.rules.iter().map(|rule| Rule {
        pattern: template::fill(&rule.pattern, values, regex::escape)
            .unwrap_or_else(|_| rule.pattern.clone()),
        when: rule.when.iter().map(|w| plain(w)).collect(),
        message: plain(&rule.message),
        none: rule.none.as_deref().map(plain),
        ..rule.clone()
    });
    Expect {
        rules: rules.collect(),
        fine: step.fine.clone(),
        empty: step.empty.as_deref().map(plain),
        needs: step.needs.clone(),
        refuses: step.refuses.clone(),
        noisy: step.noisy,
    }
}

/// Adds what another runbook wants of the same step.
fn merge(into: &mut Expect, other: Expect) {
    for rule in other.rules {
        if !into.rules.iter().any(|have| have.id == rule.id) {
            into.rules.push(rule);
        }
    }
    into.needs.extend(other.needs);
    into.noisy |= other.noisy;
}
