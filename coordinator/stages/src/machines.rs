//! Machines as the planner sees them: like ones together, so that thousands fit into a prompt, and
//! the only names a plan may use.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use reeve_protocol::Facts;
use serde::{Deserialize, Serialize};

use crate::clean::line;
use crate::nearest::nearest;

/// Profiles shown at most.
const MAX_PROFILES: usize = 40;

/// Bytes of names that are shown in full; beyond, only the first of each profile.
const MAX_NAME_BYTES: usize = 6000;

/// Names shown of a profile when not all are.
const FEW_NAMES: usize = 10;

/// Labels shown when they are not part of the profiles: keys, and values of each.
const MAX_LABEL_KEYS: usize = 20;
const MAX_LABEL_VALUES: usize = 12;

/// A machine that the task may touch, with what helps to plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `ID` of os-release(5).
    pub os_id: String,
    /// `PRETTY_NAME` of os-release(5).
    pub os_name: String,
    /// `VERSION_ID` of os-release(5).
    pub os_version: String,
    /// `ID_LIKE` of os-release(5).
    pub os_like: String,
    /// As uname(2) says.
    pub kernel: String,
    /// As uname(2) says.
    pub architecture: String,
    /// `systemd`, `openrc`, … or empty.
    pub init: String,
    /// `apt`, `dnf`, … or empty.
    pub package_manager: String,
    /// As whom its agent runs, and so commands without a user.
    pub agent_user: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Mount points with their sizes, bytes.
    pub disks: Vec<(String, u64)>,
    /// Whether inspect mode can be enforced.
    pub inspect: bool,
    /// Whether it can be reached now.
    pub online: bool,
}

impl Machine {
    /// From what the registry knows.
    #[must_use]
    pub fn new(name: &str, labels: &BTreeMap<String, String>, online: bool, facts: &Facts) -> Self {
        Self {
            name: name.to_owned(),
            labels: labels.clone(),
            os_id: facts.os_id.clone(),
            os_name: facts.os_name.clone(),
            os_version: facts.os_version.clone(),
            os_like: facts.os_like.clone(),
            kernel: facts.kernel.clone(),
            architecture: facts.architecture.clone(),
            init: facts.init.clone(),
            package_manager: facts.package_manager.clone(),
            agent_user: facts.agent_user.clone(),
            cpus: facts.cpus,
            memory: facts.memory_total,
            disks: facts.disks.iter().take(16).map(|d| (d.mount.clone(), d.total)).collect(),
            inspect: facts.inspect.as_ref().is_some_and(|inspect| inspect.available),
            online,
        }
    }

    /// What is said of it; machines of which the same is said are one profile.
    fn describe(&self, detail: Detail) -> String {
        let or = |text: &str, other: &str| {
            if text.is_empty() { other.to_owned() } else { line(text, 80) }
        };
        let mut text = if detail == Detail::Least {
            or(&self.os_id, "unknown system")
        } else {
            let os = or(&self.os_name, &self.os_id);
            let like = or(&self.os_like, "nothing else");
            format!("{os} (id {}, like {like})", or(&self.os_id, "unknown"))
        };
        let _ = write!(
            text,
            "; init {}; packages {}; inspect mode {}; {}",
            or(&self.init, "unknown"),
            or(&self.package_manager, "unknown"),
            if self.inspect { "available" } else { "not available" },
            if self.online { "online" } else { "OFFLINE" }
        );
        if detail <= Detail::Some {
            let gib = self.memory.div_ceil(1 << 30);
            let _ = write!(
                text,
                "; {}; {} CPUs; {gib} GiB memory; agent runs as {}",
                or(&self.architecture, "unknown architecture"),
                self.cpus,
                or(&self.agent_user, "unknown")
            );
        }
        if detail == Detail::Full {
            let _ = write!(text, "; kernel {}", or(&self.kernel, "unknown"));
            for (mount, total) in self.disks.iter().take(16) {
                let _ = write!(text, "; {} {} GiB", line(mount, 60), total >> 30);
            }
        }
        if detail <= Detail::Some {
            for (key, value) in self.labels.iter().take(MAX_LABEL_KEYS) {
                let _ = write!(text, "; {}={}", line(key, 60), line(value, 60));
            }
        }
        text
    }
}

/// How much is told of each machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    Full,
    Some,
    Little,
    Least,
}

/// All of them.
#[derive(Debug)]
struct Profiles {
    list: Vec<Profile>,
    labels_shown: bool,
}

/// Machines alike.
#[derive(Clone, Debug)]
struct Profile {
    text: String,
    members: Vec<usize>,
}

/// The machines a plan may use, and how it may name them: a name, `@all`, a profile (`@p1`), or a
/// label (`role=web`). None of these reaches beyond the list it was made of.
#[derive(Debug)]
pub struct Fleet<'a> {
    machines: &'a [Machine],
    names: HashMap<&'a str, usize>,
    /// Made when first asked for: a plan may use names alone.
    profiles: OnceCell<Profiles>,
}

impl<'a> Fleet<'a> {
    /// Of the machines a task may touch.
    #[must_use]
    pub fn new(machines: &'a [Machine]) -> Self {
        let names = machines.iter().enumerate().map(|(at, m)| (m.name.as_str(), at)).collect();
        Self { machines, names, profiles: OnceCell::new() }
    }

    fn profiles(&self) -> &Profiles {
        self.profiles.get_or_init(|| {
            for detail in [Detail::Full, Detail::Some, Detail::Little] {
                if let Some(list) = profiles(self.machines, detail, MAX_PROFILES) {
                    return Profiles { list, labels_shown: detail <= Detail::Some };
                }
            }
            let mut list = profiles(self.machines, Detail::Least, usize::MAX).unwrap_or_default();
            if list.len() > MAX_PROFILES {
                let rest = list.split_off(MAX_PROFILES - 1);
                let members = rest.into_iter().flat_map(|profile| profile.members).collect();
                list.push(Profile { text: "various other systems".to_owned(), members });
            }
            Profiles { list, labels_shown: false }
        })
    }

    /// As text for the prompt; bounded however many machines there are. Untrusted.
    #[must_use]
    pub fn render(&self) -> String {
        let all: usize = self.machines.iter().map(|machine| machine.name.len() + 2).sum();
        let mut text = format!("{} machines\n", self.machines.len());
        for (at, profile) in self.profiles().list.iter().enumerate() {
            let shown = if all <= MAX_NAME_BYTES { usize::MAX } else { FEW_NAMES };
            let names: Vec<String> = profile
                .members
                .iter()
                .take(shown)
                .map(|member| line(&self.machines[*member].name, 80))
                .collect();
            let more = profile.members.len() - names.len();
            let _ = write!(text, "@p{} ({}): {}", at + 1, profile.members.len(), names.join(", "));
            if more > 0 {
                let _ = write!(text, " and {more} more");
            }
            let _ = writeln!(text, "\n    {}", profile.text);
        }
        if !self.profiles().labels_shown {
            self.render_labels(&mut text);
        }
        text
    }

    fn render_labels(&self, text: &mut String) {
        let mut labels: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for machine in self.machines {
            for (key, value) in &machine.labels {
                *labels.entry(key).or_default().entry(value).or_default() += 1;
            }
        }
        // A key whose values are all different is a name by another name.
        let telling = labels.iter().filter(|(_, values)| values.len() <= MAX_LABEL_KEYS * 5);
        for (key, values) in telling.take(MAX_LABEL_KEYS) {
            let mut counted: Vec<(usize, &str)> = values.iter().map(|(v, n)| (*n, *v)).collect();
            counted.sort_unstable_by(|a, b| b.cmp(a));
            let shown: Vec<String> = counted
                .iter()
                .take(MAX_LABEL_VALUES)
                .map(|(count, value)| format!("{}={} ({count})", line(key, 60), line(value, 60)))
                .collect();
            let _ = writeln!(text, "label {}", shown.join(", "));
        }
    }

    /// The machines that an entry of a plan means, as indices in order.
    ///
    /// # Errors
    ///
    /// With names that may have been meant, when it means none of those allowed.
    pub fn resolve(&self, entry: &str) -> Result<Vec<usize>, Vec<String>> {
        if let Some(at) = self.names.get(entry) {
            return Ok(vec![*at]);
        }
        if entry == "@all" && !self.machines.is_empty() {
            return Ok((0..self.machines.len()).collect());
        }
        if let Some(profile) = entry
            .strip_prefix("@p")
            .and_then(|number| number.parse::<usize>().ok()?.checked_sub(1))
            .and_then(|at| self.profiles().list.get(at))
        {
            return Ok(profile.members.clone());
        }
        if let Some((key, value)) = entry.split_once('=') {
            let found: Vec<usize> = (0..self.machines.len())
                .filter(|at| self.machines[*at].labels.get(key).is_some_and(|has| has == value))
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(nearest(entry, self.machines.iter().map(|machine| machine.name.as_str())))
    }

    /// The machines that entries mean together, as indices in order, each once.
    ///
    /// # Errors
    ///
    /// With the first entry that means none, and names that may have been meant.
    pub fn resolve_all<'e>(
        &self,
        entries: &'e [String],
    ) -> Result<Vec<usize>, (&'e str, Vec<String>)> {
        let mut meant = vec![false; self.machines.len()];
        for entry in entries {
            for at in self.resolve(entry).map_err(|nearest| (entry.as_str(), nearest))? {
                meant[at] = true;
            }
        }
        Ok((0..meant.len()).filter(|at| meant[*at]).collect())
    }

    /// Where a machine is in the list.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The machines, as they were given.
    #[must_use]
    pub fn machines(&self) -> &'a [Machine] {
        self.machines
    }
}

/// `None` when there are more than so many.
fn profiles(machines: &[Machine], detail: Detail, most: usize) -> Option<Vec<Profile>> {
    let mut found: Vec<Profile> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for (at, machine) in machines.iter().enumerate() {
        let text = machine.describe(detail);
        if let Some(profile) = index.get(&text) {
            found[*profile].members.push(at);
        } else {
            if found.len() == most {
                return None;
            }
            index.insert(text.clone(), found.len());
            found.push(Profile { text, members: vec![at] });
        }
    }
    found.sort_by_key(|profile| std::cmp::Reverse(profile.members.len()));
    Some(found)
}
