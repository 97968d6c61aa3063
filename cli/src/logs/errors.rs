//! Errors of many machines in groups of what is alike.

use std::collections::BTreeSet;

use reeve_sdk::LogEntry;
use reeve_sdk::api::Time;
use serde::Serialize;

use super::drain::Drain;
use crate::durations::age;
use crate::output::{Column, Row, column, wide};

/// Groups at most. More kinds of errors than a person looks at.
const MAX_GROUPS: usize = 2_000;
/// Machines that are named of one group.
const MAX_NAMED: usize = 1_000;
/// Characters of an example.
const MAX_EXAMPLE: usize = 2_000;

/// Lines that are alike.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Whether none of it was there before the time that was asked for.
    pub new: bool,
    /// How often.
    pub count: u64,
    /// On which machines.
    pub machines: BTreeSet<String>,
    /// The first.
    pub first: Time,
    /// The last.
    pub last: Time,
    /// Of what.
    pub sources: BTreeSet<String>,
    /// What they have in common; `<*>` is what differs.
    pub template: String,
    /// The last of them.
    pub example: String,
}

/// Collects errors.
pub struct Errors {
    drain: Drain,
    groups: Vec<Group>,
    /// Lines that were in no group any more.
    pub beyond: u64,
    /// All lines.
    pub total: u64,
    first_us: i64,
    last_us: i64,
}

impl Errors {
    pub fn new() -> Self {
        Self {
            drain: Drain::new(MAX_GROUPS),
            groups: Vec::new(),
            beyond: 0,
            total: 0,
            first_us: i64::MAX,
            last_us: i64::MIN,
        }
    }

    /// Takes a line.
    pub fn add(&mut self, entry: &LogEntry) {
        let bytes = entry.record.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let text = text.lines().next().unwrap_or_default();
        self.total += 1;
        let at = entry.corrected_us;
        self.first_us = self.first_us.min(at);
        self.last_us = self.last_us.max(at);
        let Some(index) = self.drain.add(text) else {
            self.beyond += 1;
            return;
        };
        let time = Time::from_micros(at);
        if index == self.groups.len() {
            self.groups.push(Group {
                new: false,
                count: 0,
                machines: BTreeSet::new(),
                first: time,
                last: time,
                sources: BTreeSet::new(),
                template: String::new(),
                example: String::new(),
            });
        }
        let Some(group) = self.groups.get_mut(index) else { return };
        group.count += 1;
        if group.machines.len() < MAX_NAMED {
            group.machines.insert(entry.machine.clone());
            group.sources.insert(entry.record.source.clone());
        }
        if at < group.first.as_micros() {
            group.first = time;
        }
        if at >= group.last.as_micros() || group.example.is_empty() {
            group.last = time;
            group.example = text.chars().take(MAX_EXAMPLE).collect();
        }
    }

    /// The groups: those first seen since `new_since` first, then the frequent ones. Without it, the
    /// second half of the time that the lines span counts as new.
    pub fn finish(mut self, new_since: Option<i64>) -> Vec<Group> {
        let middle = self.first_us.saturating_add(self.last_us.saturating_sub(self.first_us) / 2);
        // One moment has no second half.
        let since = new_since.unwrap_or(middle.saturating_add(1));
        for (index, group) in self.groups.iter_mut().enumerate() {
            group.new = group.first.as_micros() >= since;
            group.template = self.drain.template(index);
        }
        self.groups.sort_by(|a, b| {
            b.new
                .cmp(&a.new)
                .then(b.count.cmp(&a.count))
                .then(b.last.as_micros().cmp(&a.last.as_micros()))
        });
        self.groups
    }
}

impl Row for Group {
    const COLUMNS: &'static [Column] = &[
        column("NEW"),
        column("COUNT"),
        column("MACHINES"),
        column("FIRST"),
        column("LAST"),
        wide("SOURCES"),
        wide("TEMPLATE"),
        column("EXAMPLE"),
    ];

    fn name(&self) -> String {
        self.template.clone()
    }

    fn cells(&self) -> Vec<String> {
        let machines = match (self.machines.len(), self.machines.first()) {
            (1, Some(only)) => only.clone(),
            (count, _) => count.to_string(),
        };
        let short: String = self.example.chars().take(120).collect();
        vec![
            if self.new { "new" } else { "" }.to_owned(),
            self.count.to_string(),
            machines,
            age(self.first),
            age(self.last),
            self.sources.iter().cloned().collect::<Vec<_>>().join(","),
            self.template.clone(),
            if short.len() < self.example.len() { format!("{short}…") } else { short },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_protocol::ops::LogRecord;

    fn entry(machine: &str, second: i64, text: &str) -> LogEntry {
        let record = LogRecord { text: Some(text.to_owned()), ..LogRecord::default() };
        LogEntry { machine: machine.to_owned(), record, corrected_us: second * 1_000_000 }
    }

    fn collect() -> Errors {
        let mut errors = Errors::new();
        for n in 0..10 {
            errors.add(&entry("a", n, &format!("timeout after {n} s")));
        }
        errors.add(&entry("b", 3, "timeout after 99 s"));
        errors.add(&entry("b", 8, "disk is full\nsecond line"));
        errors
    }

    #[test]
    fn what_is_new_comes_first_then_what_is_frequent() {
        let groups = collect().finish(None);
        assert_eq!(groups.len(), 2);
        assert!(groups[0].new && groups[0].example == "disk is full");
        assert!(!groups[1].new);
        assert_eq!((groups[1].count, groups[1].machines.len()), (11, 2));
        assert_eq!(groups[1].template, "timeout after <*> s");
        assert_eq!((groups[1].first.as_micros(), groups[1].last.as_micros()), (0, 9_000_000));
        let groups = collect().finish(Some(100_000_000));
        assert!(groups.iter().all(|group| !group.new) && groups[0].count == 11);
    }
}
