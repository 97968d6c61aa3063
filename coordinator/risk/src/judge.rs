//! A program's rule applied to its arguments.

use reeve_protocol::ops::{Effect, Network};

use crate::check;
use crate::options::{Given, Parsed, parse};
use crate::reasons;
use crate::rule::{OptionRule, Rule};
use crate::text::shown;
use crate::walk::Walk;
use crate::word::Arg;

impl<'r> Walk<'r> {
    /// `program`: as it was written; `args` behind it.
    pub fn judge(&mut self, rule: &'r Rule, args: &[Arg], segment: &str) {
        if asks_for_help(rule, args) {
            return;
        }
        let mut chain = vec![rule];
        let mut rest = args;
        // The effect that options set in place of the rule's, and whether one did.
        let mut set: Option<(Effect, String)> = None;
        loop {
            let leaf = chain[chain.len() - 1];
            let has_subs = !leaf.sub.is_empty();
            let first = has_subs || leaf.wraps.is_some() || leaf.options_first;
            let parsed = parse(&chain, rest, first);
            self.judge_options(&chain, &parsed, &mut set, segment);
            if let Some(doubtful) = &parsed.doubtful
                && (has_subs || leaf.wraps.is_some() || acts_by_option(&chain))
            {
                self.find(
                    Effect::Change,
                    segment,
                    reasons::LOOSE_WORD,
                    format!(
                        "`{}` may turn into an option of `{}`, and one of those acts",
                        shown(&doubtful.text),
                        leaf.id
                    ),
                );
            }
            if !has_subs {
                self.judge_leaf(&chain, &parsed, rest, set, segment);
                return;
            }
            let unknown = parsed.given.iter().find(|given| given.rule.is_none());
            let Some(word) = rest.get(parsed.rest) else {
                let effect = set.map_or(leaf.bare.unwrap_or(leaf.effect), |(effect, _)| effect);
                if !(unknown.is_some_and(|given| is_help(&given.name)) && parsed.given.len() == 1) {
                    self.find_rule(leaf, effect, segment);
                }
                self.need(network(&chain));
                return;
            };
            if let Some(unknown) = unknown {
                let reason =
                    format!("what `{}` takes after {} is not known", leaf.id, unknown.name);
                self.find(Effect::Change, segment, &leaf.id, reason);
            }
            let Some(sub) = word.known().and_then(|name| leaf.find_sub(name)) else {
                if set.as_ref().is_none_or(|(effect, _)| *effect > Effect::Read) {
                    let effect = leaf.effect.max(Effect::Change);
                    let reason = if leaf.effect > Effect::Read {
                        leaf.reason()
                    } else {
                        format!("what `{} {}` does is not known", leaf.id, shown(&word.text))
                    };
                    self.find(effect, segment, &leaf.id, reason);
                }
                self.need(network(&chain));
                return;
            };
            rest = &rest[parsed.rest + 1..];
            chain.push(sub);
        }
    }

    fn judge_options(
        &mut self,
        chain: &[&'r Rule],
        parsed: &Parsed<'r>,
        set: &mut Option<(Effect, String)>,
        segment: &str,
    ) {
        let leaf = chain[chain.len() - 1];
        for given in &parsed.given {
            let Some(rule) = given.rule else {
                if leaf.only_known && !is_help(&given.name) {
                    let reason =
                        format!("what {} does with `{}` is not known", given.name, leaf.id);
                    self.find(Effect::Change, segment, &leaf.id, reason);
                }
                continue;
            };
            if let Some(network) = rule.network {
                self.need(network);
            }
            if is_harmless(rule, given) {
                continue;
            }
            if rule.sets {
                if set.as_ref().is_none_or(|(effect, _)| *effect < rule.effect) {
                    *set = Some((rule.effect, rule.why.clone()));
                }
            } else if rule.effect > Effect::Read {
                let reason = format!("`{} {}` {}", leaf.id, given.name, rule.why);
                self.find(rule.effect, segment, &leaf.id, reason);
            }
        }
    }

    fn judge_leaf(
        &mut self,
        chain: &[&'r Rule],
        parsed: &Parsed<'r>,
        args: &[Arg],
        set: Option<(Effect, String)>,
        segment: &str,
    ) {
        let leaf = chain[chain.len() - 1];
        self.need(network(chain));
        let replaced = set.is_some();
        match set {
            Some((effect, why)) if effect > Effect::Read => {
                let reason =
                    if why.is_empty() { leaf.reason() } else { format!("`{}` {why}", leaf.id) };
                self.find(effect, segment, &leaf.id, reason);
            }
            Some(_) => {}
            None if parsed.operands.is_empty()
                && parsed.given.iter().all(|given| given.rule.is_some()) =>
            {
                self.find_rule(leaf, leaf.bare.unwrap_or(leaf.effect), segment);
            }
            None => self.find_rule(leaf, leaf.effect, segment),
        }
        if leaf.wraps.is_none() {
            self.judge_operands(leaf, parsed, segment);
        }
        if let Some(check) = leaf.check {
            check::run(self, check, leaf, parsed, args, segment);
        }
        if let Some(wraps) = leaf.wraps.filter(|_| !replaced) {
            self.judge_wrapped(leaf, wraps, args.get(parsed.rest..).unwrap_or_default(), segment);
        }
    }

    fn judge_operands(&mut self, leaf: &Rule, parsed: &Parsed<'_>, segment: &str) {
        let operands = &parsed.operands;
        if let Some(limits) = &leaf.operands {
            let loose = operands.iter().any(|operand| operand.loose);
            let too_many = limits.max.is_some_and(|max| operands.len() > max || loose);
            let other = limits.allow.as_ref().is_some_and(|allow| {
                operands.iter().any(|o| !o.known().is_some_and(|text| allow.is_match(text)))
            });
            if too_many || other {
                self.find(
                    limits.effect,
                    segment,
                    &leaf.id,
                    format!("`{}` {}", leaf.id, limits.why),
                );
            }
        }
        for rule in &leaf.operand {
            let Some(pattern) = &rule.pattern else { continue };
            if operands.iter().any(|operand| pattern.is_match(&operand.text)) {
                self.find(rule.effect, segment, &leaf.id, format!("`{}` {}", leaf.id, rule.why));
            } else if let Some(open) = operands.iter().find(|operand| operand.open) {
                let reason = format!(
                    "`{}` may be what makes `{}` act: it {}",
                    shown(&open.text),
                    leaf.id,
                    rule.why
                );
                self.find(Effect::Change.min(rule.effect), segment, &leaf.id, reason);
            }
        }
    }

    fn find_rule(&mut self, rule: &Rule, effect: Effect, segment: &str) {
        if effect > Effect::Read {
            self.find(effect, segment, &rule.id, rule.reason());
        }
    }
}

fn network(chain: &[&Rule]) -> Network {
    chain.iter().rev().find_map(|rule| rule.network).unwrap_or_default()
}

fn is_harmless(rule: &OptionRule, given: &Given<'_>) -> bool {
    let value = given.value.as_ref().and_then(Arg::known);
    let matches = |pattern: &regex::Regex| value.is_some_and(|value| pattern.is_match(value));
    rule.harmless.as_ref().is_some_and(matches) || rule.when.as_ref().is_some_and(|p| !matches(p))
}

fn is_help(name: &str) -> bool {
    matches!(name, "--help" | "--version")
}

/// Whether some option of the chain does more than the rule says, so that a word that may become an
/// option matters.
fn acts_by_option(chain: &[&Rule]) -> bool {
    chain.iter().any(|rule| {
        rule.only_known
            || rule.check.is_some_and(check::Check::reads_options)
            || rule.table.values().any(|option| option.effect > Effect::Read)
    })
}

/// Programs with a rule print and exit for these, given alone.
fn asks_for_help(rule: &Rule, args: &[Arg]) -> bool {
    let [only] = args else { return false };
    rule.wraps.is_none()
        && rule.check != Some(check::Check::Eval)
        && only.known().is_some_and(is_help)
}
