//! A runbook as its file has it.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Effect, Network};
use serde::{Deserialize, Serialize};

use crate::expect::{FineExit, Rule};
use crate::plan::Machine;
use crate::slots::Slot;

/// What an operator asks, and what answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// `topic.what`, the same for ever.
    pub id: String,
    /// What it does, without a full stop.
    pub title: String,
    /// Words that together mean it, in any order: `"inode full|usage"`, `"log of {service}"`.
    pub phrases: Vec<String>,
    /// Words that may stand beside a phrase and say no more.
    #[serde(default)]
    pub words: Vec<String>,
    /// Words that mean something else is asked.
    #[serde(default)]
    pub without: Vec<String>,
    /// One of these has to be in the sentence, as a request: for runbooks that change something.
    #[serde(default)]
    pub verbs: Vec<String>,
    /// What it takes from the sentence.
    #[serde(default)]
    pub slots: BTreeMap<String, Slot>,
    /// Sentences that it must answer, and that it must not.
    pub examples: Examples,
    /// Where its commands were really run, such as `debian 12`; nothing when nowhere.
    #[serde(default)]
    pub tested: Vec<String>,
    /// What it runs.
    pub step: Vec<RunbookStep>,
}

/// Sentences that show what a runbook is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    /// It answers these.
    #[serde(rename = "match")]
    pub matching: Vec<String>,
    /// It does not answer these.
    pub mustnot: Vec<String>,
}

/// One step of a runbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunbookStep {
    /// The command, with `@{slot}`, for machines that `on` has nothing for.
    #[serde(default)]
    pub run: Option<String>,
    /// Commands by package manager, init system or family.
    #[serde(default)]
    pub on: BTreeMap<Variant, String>,
    /// Why, for people.
    pub purpose: String,
    /// What a good result looks like, for people.
    #[serde(default)]
    pub expected: String,
    /// What it may do.
    #[serde(default = "read")]
    pub effect: Effect,
    /// What it needs of the network.
    #[serde(default)]
    pub network: Network,
    /// It only looks, but through a socket or a capability that inspect mode takes away (D-Bus, the
    /// Docker socket, raw devices, other people's descriptors): the plan declares it a change, so that
    /// somebody says yes to running it outside.
    #[serde(default)]
    pub outside: bool,
    /// Seconds; 60 when it does not say.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// How to take it back.
    #[serde(default)]
    pub undo: Option<String>,
    /// How to take it back, by variant, before `undo`.
    #[serde(default)]
    pub undo_on: BTreeMap<Variant, String>,
    /// Steps of this runbook, from 1, that have to be done before. Without it: a change waits for all
    /// before it, a look waits for the changes before it.
    #[serde(default)]
    pub after: Option<Vec<usize>>,
    /// `2:cache_large`: only where step 2 found that.
    #[serde(default)]
    pub only_if: Option<String>,
    /// What to try when it fails.
    #[serde(default)]
    pub alternatives: Vec<String>,
    /// Rules of `rules.toml` by name.
    #[serde(default, rename = "use")]
    pub shared: Vec<String>,
    /// Rules of its own.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// See [`Expect::fine`](crate::Expect).
    #[serde(default)]
    pub fine: Vec<FineExit>,
    /// See [`Expect::empty`](crate::Expect).
    #[serde(default)]
    pub empty: Option<String>,
    /// See [`Expect::needs`](crate::Expect).
    #[serde(default)]
    pub needs: Vec<String>,
    /// See [`Expect::refuses`](crate::Expect).
    #[serde(default)]
    pub refuses: Vec<String>,
    /// See [`Expect::noisy`](crate::Expect).
    #[serde(default)]
    pub noisy: bool,
}

fn read() -> Effect {
    Effect::Read
}

/// What a command is for, where commands differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Variant {
    // Package managers.
    Apt,
    Dnf,
    Yum,
    Apk,
    Pacman,
    Zypper,
    // Init systems.
    Systemd,
    Openrc,
    // Families.
    Debian,
    Rhel,
    Alpine,
    Arch,
    Suse,
}

impl Variant {
    /// Its word in the catalogue.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Dnf => "dnf",
            Self::Yum => "yum",
            Self::Apk => "apk",
            Self::Pacman => "pacman",
            Self::Zypper => "zypper",
            Self::Systemd => "systemd",
            Self::Openrc => "openrc",
            Self::Debian => "debian",
            Self::Rhel => "rhel",
            Self::Alpine => "alpine",
            Self::Arch => "arch",
            Self::Suse => "suse",
        }
    }

    /// The variants a machine is, the most particular first.
    #[must_use]
    pub fn of(machine: &Machine) -> Vec<Self> {
        let family = family(machine);
        let manager = match machine.package_manager.as_str() {
            "apt" => Some(Self::Apt),
            "dnf" => Some(Self::Dnf),
            "yum" => Some(Self::Yum),
            "apk" => Some(Self::Apk),
            "pacman" => Some(Self::Pacman),
            "zypper" => Some(Self::Zypper),
            _ => match family {
                Some(Self::Debian) => Some(Self::Apt),
                Some(Self::Rhel) => Some(Self::Dnf),
                Some(Self::Alpine) => Some(Self::Apk),
                Some(Self::Arch) => Some(Self::Pacman),
                Some(Self::Suse) => Some(Self::Zypper),
                _ => None,
            },
        };
        let init = match machine.init.as_str() {
            "systemd" => Some(Self::Systemd),
            "openrc" => Some(Self::Openrc),
            "" if family == Some(Self::Alpine) => Some(Self::Openrc),
            "" if family.is_some() => Some(Self::Systemd),
            _ => None,
        };
        [manager, init, family].into_iter().flatten().collect()
    }
}

fn family(machine: &Machine) -> Option<Variant> {
    let words = std::iter::once(machine.os_id.as_str()).chain(machine.os_like.split_whitespace());
    words.into_iter().find_map(|word| match word {
        "debian" | "ubuntu" | "raspbian" | "linuxmint" => Some(Variant::Debian),
        "rhel" | "fedora" | "centos" | "rocky" | "almalinux" | "amzn" | "ol" => Some(Variant::Rhel),
        "alpine" => Some(Variant::Alpine),
        "arch" | "manjaro" | "archarm" => Some(Variant::Arch),
        "suse" | "opensuse" | "sles" | "sled" | "opensuse-leap" | "opensuse-tumbleweed" => {
            Some(Variant::Suse)
        }
        _ => None,
    })
}

impl RunbookStep {
    /// The command for a machine.
    #[must_use]
    pub fn command_for(&self, machine: &Machine) -> Option<&str> {
        let variant = Variant::of(machine).into_iter().find_map(|variant| self.on.get(&variant));
        variant.or(self.run.as_ref()).map(String::as_str)
    }

    /// What takes it back on a machine.
    #[must_use]
    pub fn undo_for(&self, machine: &Machine) -> Option<&String> {
        let variant =
            Variant::of(machine).into_iter().find_map(|variant| self.undo_on.get(&variant));
        variant.or(self.undo.as_ref())
    }

    /// Step number and finding of `only_if`.
    #[must_use]
    pub fn condition(&self) -> Option<(usize, &str)> {
        let (step, finding) = self.only_if.as_ref()?.split_once(':')?;
        Some((step.parse().ok()?, finding))
    }

    /// Every command it may become, alternatives included.
    pub fn commands(&self) -> impl Iterator<Item = &String> {
        self.run.iter().chain(self.on.values()).chain(&self.alternatives)
    }
}

impl Runbook {
    /// Whether it changes something.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.step.iter().any(|step| step.effect != Effect::Read)
    }
}
