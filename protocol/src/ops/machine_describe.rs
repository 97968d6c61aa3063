//! `machine_describe`: what a machine is like now, beyond the facts of its handshake. Changes nothing, and
//! asks nobody but the machine itself: what it knows of updates is as old as its own lists. The
//! answer is one JSON document on stdout: [`MachineDescription`].

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, Work};

/// Describe a machine as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MachineDescribe {
    /// Leave out updates of packages, which take a package manager seconds to work out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_updates: bool,
}

impl Operation for MachineDescribe {
    const NAME: &'static str = "machine_describe";
}

impl Work for MachineDescribe {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        Ok(())
    }

    fn describe(&self) -> String {
        "describe the machine".to_owned()
    }
}

/// What a machine is like. Nothing and empty are what is not known or not there. Times are the machine's
/// clock, microseconds since 1970; sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineDescription {
    /// When.
    pub time_us: i64,
    /// This boot.
    pub boot_id: String,
    /// Since boot, seconds.
    pub uptime_s: u64,
    /// `kvm`, `vmware`, `docker`, `lxc`, `none`, …; empty when that is not known.
    pub virtualisation: String,
    /// The time zone: `Europe/Berlin`.
    pub timezone: String,
    /// Whether something keeps the clock right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_synchronised: Option<bool>,
    /// How far off the kernel reckons the clock at the most, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_error_us: Option<u64>,
    /// What is mounted and holds data.
    pub filesystems: Vec<FileSystem>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Ways to networks.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns_servers: Vec<String>,
    /// Domains that are tried behind a bare name.
    pub dns_search: Vec<String>,
    /// Who is logged in; nothing when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<LoggedIn>>,
    /// Packages to update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<Updates>,
    /// Whether it ought to be booted again.
    pub reboot: RebootNeed,
}

/// Something mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileSystem {
    /// Where.
    pub mount: String,
    /// What.
    pub source: String,
    /// Its kind: `ext4`.
    pub kind: String,
    /// Bytes; nothing for one of another machine, which might not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Bytes an ordinary user may still write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// Files there can be; nothing where that has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// Files there still can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_free: Option<u64>,
    /// It cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A network interface, with what went through it since it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `up`, `down`, `unknown`, …
    pub state: String,
    /// Its hardware address.
    pub mac: String,
    /// Bytes of a packet at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Megabits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_mbit: Option<u32>,
    /// Its addresses with the length of their network: `192.0.2.7/24`.
    pub addresses: Vec<String>,
    /// Bytes.
    pub received: u64,
    /// Bytes.
    pub sent: u64,
    /// Errors and drops, both ways.
    pub faults: u64,
}

/// A way to a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// `default`, or `192.0.2.0/24`.
    pub destination: String,
    /// Through whom; empty when it is reached directly.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// By which interface.
    pub interface: String,
    /// The lowest wins.
    pub metric: u32,
}

/// Somebody logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggedIn {
    /// Who.
    pub user: String,
    /// On which terminal.
    pub terminal: String,
    /// From which host; empty when at the machine itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Since when.
    pub since_us: i64,
}

/// Packages that could be updated, as far as the machine's own lists say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Updates {
    /// Which package manager.
    pub manager: String,
    /// How many; nothing when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How many of these are for security; nothing when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<u32>,
    /// Some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Update>,
    /// When the lists were last fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of_us: Option<i64>,
    /// Why something is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A package to update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    /// Its name.
    pub name: String,
    /// What is installed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub installed: String,
    /// What there is.
    pub available: String,
    /// It mends something of security.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub security: bool,
}

/// Whether a machine ought to be booted again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RebootNeed {
    /// Nothing when nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<bool>,
    /// Why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}
