//! Rules about programs: read from the TOML files in `rules/`, checked with their own examples.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use reeve_protocol::ops::{Command, Effect, Network};
use regex::Regex;
use serde::Deserialize;

use crate::check::Check;

const FILES: &[(&str, &str)] = &[
    ("builtins.toml", include_str!("../rules/builtins.toml")),
    ("containers.toml", include_str!("../rules/containers.toml")),
    ("data.toml", include_str!("../rules/data.toml")),
    ("development.toml", include_str!("../rules/development.toml")),
    ("disks.toml", include_str!("../rules/disks.toml")),
    ("files.toml", include_str!("../rules/files.toml")),
    ("network.toml", include_str!("../rules/network.toml")),
    ("packages.toml", include_str!("../rules/packages.toml")),
    ("people.toml", include_str!("../rules/people.toml")),
    ("processes.toml", include_str!("../rules/processes.toml")),
    ("services.toml", include_str!("../rules/services.toml")),
    ("system.toml", include_str!("../rules/system.toml")),
    ("text.toml", include_str!("../rules/text.toml")),
    ("transfer.toml", include_str!("../rules/transfer.toml")),
    ("wrappers.toml", include_str!("../rules/wrappers.toml")),
];

/// What is wrong with the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RuleError {
    #[error("rules/{file}: {message}")]
    Syntax { file: String, message: String },
    #[error("rule '{rule}': {message}")]
    Rule { rule: String, message: String },
    #[error("rule '{rule}': `{example}` is {found}, and should {should}")]
    Example { rule: String, example: String, found: &'static str, should: String },
}

/// What a program, or a sub-command of one, does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Its name in findings; of a sub-command: the program's and its own.
    #[serde(default)]
    pub id: String,
    /// Programs, or names of a sub-command; `*` is any other word.
    pub names: Vec<String>,
    /// Without the options and operands below; of a program with sub-commands: with any other one.
    pub effect: Effect,
    /// Why it is more than read-only, as a clause about it: "deletes …".
    #[serde(default)]
    why: String,
    pub network: Option<Network>,
    /// Options that take a value and do nothing else of interest.
    #[serde(default)]
    values: Vec<String>,
    /// Harmless options that would be taken for an abbreviation, or that `only_known` needs.
    #[serde(default)]
    known: Vec<String>,
    /// Options that are not listed are a change.
    #[serde(default)]
    pub only_known: bool,
    /// Options end at the first operand.
    #[serde(default)]
    pub options_first: bool,
    /// Long options begin with one dash.
    #[serde(default)]
    pub single_dash: bool,
    #[serde(default)]
    option: Vec<OptionRule>,
    /// What all operands have to be.
    pub operands: Option<Operands>,
    /// Operands that do more.
    #[serde(default)]
    pub operand: Vec<OperandRule>,
    #[serde(default)]
    pub sub: Vec<Rule>,
    /// With neither operand nor sub-command; otherwise as `effect`.
    pub bare: Option<Effect>,
    pub wraps: Option<Wraps>,
    pub check: Option<Check>,
    /// Prints or looks at names of files, and opens none.
    #[serde(default)]
    pub names_only: bool,
    /// Lines that have to get exactly `effect`.
    #[serde(default, rename = "match")]
    matches: Vec<String>,
    /// Lines that must not get `effect`.
    #[serde(default)]
    mustnot: Vec<String>,
    #[serde(skip)]
    pub table: HashMap<String, OptionRule>,
}

/// What an option does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptionRule {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default = "read")]
    pub effect: Effect,
    #[serde(default)]
    pub why: String,
    #[serde(default)]
    pub value: TakesValue,
    /// With a value that matches it does nothing.
    #[serde(default, with = "pattern")]
    pub harmless: Option<Regex>,
    /// Counts with a value that matches it only.
    #[serde(default, with = "pattern")]
    pub when: Option<Regex>,
    /// Takes the place of the rule's effect instead of raising it.
    #[serde(default)]
    pub sets: bool,
    pub network: Option<Network>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TakesValue {
    #[default]
    No,
    /// In the same word or the next.
    Yes,
    /// In the same word, or not at all.
    Attached,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operands {
    /// More of them raise.
    pub max: Option<usize>,
    /// Others raise.
    #[serde(default, with = "pattern")]
    pub allow: Option<Regex>,
    pub effect: Effect,
    pub why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperandRule {
    #[serde(with = "pattern")]
    pub pattern: Option<Regex>,
    pub effect: Effect,
    pub why: String,
}

/// The operands are a command that it runs.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wraps {
    /// Operands before the command.
    #[serde(default)]
    pub skip: usize,
    /// `NAME=value` before the command.
    #[serde(default)]
    pub assignments: bool,
    /// The operands are joined to a line for a shell.
    #[serde(default)]
    pub line: bool,
    /// Unknown arguments are added.
    #[serde(default)]
    pub appends: bool,
}

fn read() -> Effect {
    Effect::Read
}

mod pattern {
    use regex::Regex;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Regex>, D::Error> {
        let text = String::deserialize(d)?;
        Regex::new(&text).map(Some).map_err(D::Error::custom)
    }
}

impl Rule {
    /// What it does, for a person.
    pub fn reason(&self) -> String {
        format!("`{}` {}", self.id, self.why)
    }

    /// The sub-command of this name.
    pub fn find_sub(&self, name: &str) -> Option<&Rule> {
        let named =
            |wanted: &str| self.sub.iter().find(|sub| sub.names.iter().any(|n| n == wanted));
        named(name).or_else(|| named("*"))
    }

    fn prepare(&mut self, parent: Option<&str>) -> Result<(), RuleError> {
        let first = self.names.first().cloned().unwrap_or_default();
        match parent {
            Some(parent) => self.id = format!("{parent} {first}"),
            None if self.id.is_empty() => self.id = first,
            None => {}
        }
        let fail = |message: String| Err(RuleError::Rule { rule: self.id.clone(), message });
        if self.names.is_empty() {
            return fail("names nothing".to_owned());
        }
        if self.effect > Effect::Read && self.why.is_empty() {
            return fail("does not say why".to_owned());
        }
        if parent.is_none() && (self.matches.is_empty() || self.mustnot.is_empty()) {
            return fail("has no examples that must and must not match".to_owned());
        }
        let plain = |value| OptionRule {
            names: Vec::new(),
            effect: Effect::Read,
            why: String::new(),
            value,
            harmless: None,
            when: None,
            sets: false,
            network: None,
        };
        let mut table = HashMap::new();
        let single_dash = self.single_dash;
        let spelled = |name: &String| match name.strip_prefix("--") {
            Some(long) if single_dash => format!("-{long}"),
            _ => name.clone(),
        };
        let mut add = |name: &String, option: OptionRule| match table.insert(spelled(name), option)
        {
            Some(_) => Err(RuleError::Rule {
                rule: self.id.clone(),
                message: format!("lists {name} twice"),
            }),
            None => Ok(()),
        };
        for name in &self.values {
            add(name, plain(TakesValue::Yes))?;
        }
        for name in &self.known {
            add(name, plain(TakesValue::No))?;
        }
        for option in &self.option {
            for name in &option.names {
                add(name, option.clone())?;
            }
            if option.effect > Effect::Read && option.why.is_empty() && !option.sets {
                return fail(format!("does not say why {:?} raises", option.names));
            }
        }
        if let Some(name) = table.keys().find(|name| !name.starts_with('-')) {
            return fail(format!("'{name}' is no option"));
        }
        self.table = table;
        let id = self.id.clone();
        for sub in &mut self.sub {
            sub.prepare(Some(&id))?;
        }
        Ok(())
    }
}

/// All rules, by program.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    by_name: HashMap<String, usize>,
}

impl Rules {
    /// Rules about programs.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn find(&self, program: &str) -> Option<&Rule> {
        let at = self.by_name.get(program).or_else(|| {
            // python3.12 is python3
            let stem = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            let at = self.by_name.get(stem)?;
            (self.rules.get(*at)?.check == Some(Check::Code)).then_some(at)
        })?;
        self.rules.get(*at)
    }

    pub fn parse(files: &[(&str, &str)]) -> Result<Self, RuleError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            rule: Vec<Rule>,
        }
        let mut all = Self::default();
        for (name, text) in files {
            let file: File = toml::from_str(text).map_err(|error| RuleError::Syntax {
                file: (*name).to_owned(),
                message: error.to_string(),
            })?;
            for mut rule in file.rule {
                rule.prepare(None)?;
                for program in &rule.names {
                    if all.by_name.insert(program.clone(), all.rules.len()).is_some() {
                        return Err(RuleError::Rule {
                            rule: rule.id,
                            message: format!("'{program}' has another rule too"),
                        });
                    }
                }
                all.rules.push(rule);
            }
        }
        Ok(all)
    }

    /// Every example that is not as its rule says.
    pub fn wrong_examples(&self) -> Vec<RuleError> {
        fn visit(rules: &Rules, rule: &Rule, wrong: &mut Vec<RuleError>) {
            let effect_of = |line: &String| {
                crate::assess::assess(rules, &Command::Shell(line.clone()), &BTreeMap::new()).effect
            };
            let word = rule.effect.as_str();
            for (lines, wanted) in [(&rule.matches, true), (&rule.mustnot, false)] {
                for line in lines {
                    let found = effect_of(line);
                    if (found == rule.effect) != wanted {
                        let should = if wanted { "be " } else { "not be " };
                        wrong.push(RuleError::Example {
                            rule: rule.id.clone(),
                            example: line.clone(),
                            found: found.as_str(),
                            should: format!("{should}{word}"),
                        });
                    }
                }
            }
            for sub in &rule.sub {
                visit(rules, sub, wrong);
            }
        }
        let mut wrong = Vec::new();
        for rule in &self.rules {
            visit(self, rule, &mut wrong);
        }
        wrong
    }
}

/// The rules of this build; read once, and only in force if every example is right.
pub(crate) fn built_in() -> Result<&'static Rules, &'static RuleError> {
    static RULES: LazyLock<Result<Rules, RuleError>> = LazyLock::new(|| {
        let rules = Rules::parse(FILES)?;
        match rules.wrong_examples().into_iter().next() {
            Some(wrong) => Err(wrong),
            None => Ok(rules),
        }
    });
    RULES.as_ref()
}

#[cfg(test)]
#[path = "rule/tests.rs"]
mod tests;
