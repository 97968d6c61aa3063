//! The catalogue: its files, read once, checked as they are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use reeve_protocol::ops::Effect;
use serde::Deserialize;

use crate::check::compile;
use crate::expect::Rule;
use crate::matcher::Phrase;
use crate::runbook::Runbook;
use crate::slots::Filled;
use crate::template;
use crate::vocabulary::Vocabulary;

/// The files, by topic. Named one by one, so that what is shipped can be read here.
const FILES: &[(&str, &str)] = &[
    ("disk.toml", include_str!("../catalogue/disk.toml")),
    ("storage.toml", include_str!("../catalogue/storage.toml")),
    ("system.toml", include_str!("../catalogue/system.toml")),
    ("boot.toml", include_str!("../catalogue/boot.toml")),
    ("services.toml", include_str!("../catalogue/services.toml")),
    ("processes.toml", include_str!("../catalogue/processes.toml")),
    ("logs.toml", include_str!("../catalogue/logs.toml")),
    ("changes.toml", include_str!("../catalogue/changes.toml")),
    ("network.toml", include_str!("../catalogue/network.toml")),
    ("users.toml", include_str!("../catalogue/users.toml")),
    ("packages.toml", include_str!("../catalogue/packages.toml")),
    ("files.toml", include_str!("../catalogue/files.toml")),
    ("schedules.toml", include_str!("../catalogue/schedules.toml")),
    ("containers.toml", include_str!("../catalogue/containers.toml")),
    ("web.toml", include_str!("../catalogue/web.toml")),
    ("security.toml", include_str!("../catalogue/security.toml")),
];
const WORDS: &str = include_str!("../catalogue/words.toml");
const RULES: &str = include_str!("../catalogue/rules.toml");

/// What is wrong with a catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file is not TOML, or not of this form.
    #[error("{file}: {source}")]
    File {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A runbook contradicts itself.
    #[error("{id}: {what}")]
    Runbook {
        /// Which.
        id: String,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    runbook: Vec<Runbook>,
}

/// Runbooks and words, ready for questions.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The runbooks, in the order of the files.
    pub runbooks: Vec<Runbook>,
    pub(crate) phrases: Vec<Vec<Phrase>>,
    pub(crate) beside: Vec<BTreeSet<String>>,
    pub(crate) without: Vec<BTreeSet<String>>,
    pub(crate) vocabulary: Vocabulary,
    /// In how many runbooks a word is part of a phrase.
    pub(crate) spread: BTreeMap<String, usize>,
}

/// The catalogue that was built in. A test reads it with [`Catalogue::built_in`], so it cannot be
/// shipped with an error; if it had one, it would be empty and nothing would be planned.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> =
        LazyLock::new(|| Catalogue::built_in().unwrap_or_default());
    &CATALOGUE
}

impl Catalogue {
    /// Reads the files that were built in.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn built_in() -> Result<Self, CatalogueError> {
        Self::parse(FILES, WORDS, RULES)
    }

    fn parse(files: &[(&str, &str)], words: &str, rules: &str) -> Result<Self, CatalogueError> {
        let error = |file: &str, source| CatalogueError::File {
            file: file.to_owned(),
            source: Box::new(source),
        };
        let vocabulary = Vocabulary::parse(words).map_err(|e| error("words.toml", e))?;
        let shared: BTreeMap<String, Rule> =
            toml::from_str(rules).map_err(|e| error("rules.toml", e))?;
        let mut catalogue = Self { vocabulary, ..Self::default() };
        for (name, text) in files {
            let file: File = toml::from_str(text).map_err(|e| error(name, e))?;
            for runbook in file.runbook {
                let id = runbook.id.clone();
                catalogue
                    .add(runbook, &shared)
                    .map_err(|what| CatalogueError::Runbook { id, what })?;
            }
        }
        Ok(catalogue)
    }

    fn add(&mut self, mut runbook: Runbook, shared: &BTreeMap<String, Rule>) -> Result<(), String> {
        for step in &mut runbook.step {
            for name in std::mem::take(&mut step.shared) {
                let rule = shared.get(&name).ok_or_else(|| format!("no rule '{name}'"))?;
                step.rules.push(rule.clone());
            }
        }
        if self.runbooks.iter().any(|other| other.id == runbook.id) {
            return Err("there are two of it".to_owned());
        }
        validate(&runbook)?;
        let mut phrases = Vec::new();
        for phrase in &runbook.phrases {
            phrases.push(Phrase::parse(phrase, &self.vocabulary, &runbook.slots)?);
        }
        let canonical = |words: &[String]| -> BTreeSet<String> {
            words.iter().map(|word| self.vocabulary.canonical(word)).collect()
        };
        self.beside.push(canonical(&runbook.words));
        self.without.push(canonical(&runbook.without));
        let words: BTreeSet<String> = phrases.iter().flat_map(Phrase::words).cloned().collect();
        for word in words {
            *self.spread.entry(word).or_default() += 1;
        }
        self.phrases.push(phrases);
        self.runbooks.push(runbook);
        Ok(())
    }

    /// The runbook with an id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Runbook> {
        self.runbooks.iter().find(|runbook| runbook.id == id)
    }

    /// Whether a word means something to the catalogue, so that it is no name of a thing.
    pub(crate) fn is_word(&self, canonical: &str, raw: &str) -> bool {
        self.spread.contains_key(canonical)
            || self.vocabulary.is_known(raw)
            || self.vocabulary.is_changing(raw)
    }
}

fn validate(runbook: &Runbook) -> Result<(), String> {
    let need = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    need(!runbook.phrases.is_empty(), "it has no phrases")?;
    need(!runbook.step.is_empty(), "it has no steps")?;
    need(runbook.examples.matching.len() >= 4, "it has fewer than four examples to match")?;
    need(runbook.examples.mustnot.len() >= 2, "it has fewer than two examples not to match")?;
    need(
        runbook.changes() != runbook.verbs.is_empty(),
        "what changes something needs verbs, and nothing else does",
    )?;
    let mut samples = Filled::new();
    for (name, slot) in &runbook.slots {
        let sample = slot.sample.as_ref().or(slot.default.as_ref());
        let sample = sample.ok_or_else(|| format!("slot '{name}' has no sample"))?;
        samples.extend(slot.kind.fill(name, sample).map_err(|e| e.to_string())?);
        need(
            slot.ask.is_some() || slot.default.is_some(),
            &format!("slot '{name}' has nothing to ask and no default"),
        )?;
        if let Some(default) = &slot.default {
            slot.kind.fill(name, default).map_err(|e| e.to_string())?;
        }
    }
    for (at, step) in runbook.step.iter().enumerate() {
        need(step.run.is_some() || !step.on.is_empty(), "a step has no command")?;
        need(step.alternatives.len() <= 3, "a step has more than three alternatives")?;
        for command in step.commands().chain(&step.undo).chain(step.undo_on.values()) {
            template::validate_shell(command).map_err(|e| e.to_string())?;
            let starts = ["| @{", "; @{", "& @{", "( @{", "$(@{"];
            need(
                !command.starts_with("@{") && !starts.iter().any(|s| command.contains(s)),
                "a slot would be the program",
            )?;
        }
        let texts = step
            .commands()
            .chain(&step.undo)
            .chain(step.undo_on.values())
            .chain([&step.purpose, &step.expected]);
        for name in texts.flat_map(|text| template::names(text)) {
            need(samples.contains_key(&name), &format!("it has no slot for '@{{{name}}}'"))?;
        }
        if let Some(only_if) = &step.only_if {
            let (on, finding) =
                step.condition().ok_or_else(|| format!("'{only_if}' is not STEP:FINDING"))?;
            need((1..=at).contains(&on), "only_if looks ahead")?;
            let rules = &runbook.step[on - 1].rules;
            need(
                rules
                    .iter()
                    .any(|rule| rule.id == finding || format!("{}.none", rule.id) == finding),
                &format!("step {on} never finds '{finding}'"),
            )?;
        }
        need(
            step.after.iter().flatten().all(|before| (1..=at).contains(before)),
            "after looks ahead",
        )?;
        need(
            step.effect == Effect::Read || step.network == reeve_protocol::ops::Network::None,
            "only inspect mode has a network to choose",
        )?;
        let ids: BTreeSet<&String> = step.rules.iter().map(|rule| &rule.id).collect();
        need(
            step.needs.iter().chain(&step.refuses).all(|id| ids.contains(id)),
            "it needs or refuses what no rule finds",
        )?;
        for rule in &step.rules {
            let broken = |e: &dyn std::fmt::Display| format!("rule '{}': {e}", rule.id);
            let pattern = template::fill(&rule.pattern, &samples, regex::escape);
            let pattern = pattern.map_err(|e| broken(&e))?;
            compile(&pattern).map_err(|e| broken(&e))?;
            for text in rule.when.iter().chain([&rule.message]).chain(&rule.none) {
                template::fill(text, &samples, str::to_owned).map_err(|e| broken(&e))?;
            }
        }
    }
    Ok(())
}
