//! Options told from operands, as getopt_long(3) does: joined values, bundles, abbreviations.

use crate::rule::{OptionRule, Rule, TakesValue};
use crate::word::{Arg, UNKNOWN};

/// An option as it was written.
pub(crate) struct Given<'r> {
    /// With its dashes, without its value.
    pub name: String,
    /// What the rule says of it, if it says anything.
    pub rule: Option<&'r OptionRule>,
    pub value: Option<Arg>,
}

/// Arguments taken apart.
#[derive(Default)]
pub(crate) struct Parsed<'r> {
    pub given: Vec<Given<'r>>,
    pub operands: Vec<Arg>,
    /// A word that may turn into an option.
    pub doubtful: Option<Arg>,
    /// Where parsing ended: the first operand when options come first.
    pub rest: usize,
}

impl Parsed<'_> {
    pub fn has(&self, names: &[&str]) -> bool {
        self.given.iter().any(|given| names.contains(&given.name.as_str()))
    }

    pub fn value_of(&self, names: &[&str]) -> Option<&Arg> {
        let given = self.given.iter().find(|given| names.contains(&given.name.as_str()))?;
        given.value.as_ref()
    }
}

/// What `chain` (a program, its sub-command, …) says of an option: the innermost has the word; an
/// abbreviation is the worst of what it can mean.
fn look_up<'r>(chain: &[&'r Rule], name: &str) -> Option<&'r OptionRule> {
    if let Some(found) = chain.iter().rev().find_map(|rule| rule.table.get(name)) {
        return Some(found);
    }
    if !name.starts_with("--") || name.len() < 3 {
        return None;
    }
    chain
        .iter()
        .flat_map(|rule| rule.table.iter())
        .filter(|(long, _)| long.starts_with(name))
        .map(|(_, option)| option)
        .max_by_key(|option| option.effect)
}

/// The word behind an option. One that may be several is an operand too.
fn next_value(parsed: &mut Parsed<'_>, args: &[Arg], at: &mut usize) -> Option<Arg> {
    let value = args.get(*at)?;
    *at += 1;
    if value.loose {
        parsed.operands.push(value.clone());
        if value.may_be_option() && parsed.doubtful.is_none() {
            parsed.doubtful = Some(value.clone());
        }
    }
    Some(value.clone())
}

pub(crate) fn parse<'r>(chain: &[&'r Rule], args: &[Arg], options_first: bool) -> Parsed<'r> {
    let single_dash = chain.last().is_some_and(|rule| rule.single_dash);
    let mut parsed = Parsed::default();
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let text = arg.text.as_str();
        if text == "--" && !arg.open {
            at += 1;
            break;
        }
        if !text.starts_with('-') || text == "-" {
            if arg.lead && parsed.doubtful.is_none() {
                parsed.doubtful = Some(arg.clone());
            }
            if options_first {
                break;
            }
            parsed.operands.push(arg.clone());
            at += 1;
            continue;
        }
        if arg.loose && parsed.doubtful.is_none() {
            parsed.doubtful = Some(arg.clone());
        }
        at += 1;
        let part = |text: &str| Arg { text: text.to_owned(), lead: false, ..arg.clone() };
        if single_dash || text.starts_with("--") {
            let (name, joined) = match text.split_once('=') {
                Some((name, value)) => (name, Some(part(value))),
                None => (text, None),
            };
            let name = match name.strip_prefix("--") {
                Some(long) if single_dash => format!("-{long}"),
                _ => name.to_owned(),
            };
            if name.contains(UNKNOWN) {
                parsed.doubtful.get_or_insert_with(|| arg.clone());
            }
            let rule = look_up(chain, &name);
            let takes = rule.map_or(TakesValue::No, |rule| rule.value);
            let value = match joined {
                Some(value) => Some(value),
                None if takes == TakesValue::Yes => next_value(&mut parsed, args, &mut at),
                None => None,
            };
            parsed.given.push(Given { name, rule, value });
            continue;
        }
        for (index, letter) in text.char_indices().skip(1) {
            if letter == UNKNOWN {
                parsed.doubtful.get_or_insert_with(|| arg.clone());
                break;
            }
            let name = format!("-{letter}");
            let rule = look_up(chain, &name);
            let takes = rule.map_or(TakesValue::No, |rule| rule.value);
            let behind = &text[index + letter.len_utf8()..];
            let value = match takes {
                TakesValue::No => None,
                _ if !behind.is_empty() => Some(part(behind)),
                TakesValue::Yes => next_value(&mut parsed, args, &mut at),
                TakesValue::Attached => None,
            };
            parsed.given.push(Given { name, rule, value });
            if takes != TakesValue::No {
                break;
            }
        }
    }
    parsed.rest = at;
    parsed.operands.extend_from_slice(args.get(at..).unwrap_or_default());
    parsed
}
