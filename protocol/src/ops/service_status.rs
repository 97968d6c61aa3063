//! `service_status`: how a unit of systemd is. Changes nothing. The answer is one JSON document on
//! stdout: [`UnitStatus`].

use serde::{Deserialize, Serialize};

use super::service_list::UNIT_KINDS;
use super::{Effect, InvalidWork, Operation, Work};

/// The longest name of a unit (systemd.unit(5)).
pub const MAX_UNIT_BYTES: usize = 255;

/// Look at a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    /// Its name; without a kind, `.service` is meant.
    pub unit: String,
}

impl Operation for ServiceStatus {
    const NAME: &'static str = "service_status";
}

impl Work for ServiceStatus {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        check_unit(&self.unit)
    }

    fn describe(&self) -> String {
        format!("look at {}", unit_name(&self.unit))
    }
}

/// A unit's name with its kind: as it is, or with `.service` behind it.
#[must_use]
pub fn unit_name(name: &str) -> String {
    let kind = name.rsplit_once('.').map(|(_, kind)| kind);
    if kind.is_some_and(|kind| UNIT_KINDS.contains(&kind)) {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}

/// Whether this can be the name of a unit.
///
/// # Errors
/// When it cannot.
pub fn check_unit(name: &str) -> Result<(), InvalidWork> {
    let full = unit_name(name);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let fault = if name.is_empty() || name.starts_with(['.', '@', '-']) {
        "has nothing to be called by"
    } else if full.len() > MAX_UNIT_BYTES {
        "is longer than 255 bytes"
    } else if !full.chars().all(is_allowed) {
        "has characters that no unit has"
    } else {
        return Ok(());
    };
    Err(InvalidWork::Value(format!("the unit '{}' {fault}", name.escape_debug())))
}

/// How a unit is, in the words of systemd (org.freedesktop.systemd1(5)). Times are the machine's
/// clock, microseconds since 1970; nothing, 0 or empty is what there is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitStatus {
    /// Its name with its kind.
    pub unit: String,
    /// What it says of itself.
    pub description: String,
    /// `loaded`, `not-found`, `masked`, `error`, …
    pub load: String,
    /// Why it could not be loaded.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub load_error: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// The same in its own kind's words.
    pub sub: String,
    /// Since when it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_us: Option<i64>,
    /// Whether it starts at boot: `enabled`, `disabled`, `static`, `masked`, …
    pub enabled: String,
    /// Where it is defined.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What changes that definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop_ins: Vec<String>,
    /// The definition on the disk is newer than the one in force.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub needs_daemon_reload: bool,
    /// What starts it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub triggered_by: Vec<String>,
    /// The process it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_pid: Option<u32>,
    /// When that process started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_started_us: Option<i64>,
    /// Of the last main process that ended: its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<i32>,
    /// Or the signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_signal: Option<i32>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ended_us: Option<i64>,
    /// `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// How often systemd started it again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// What it says of how it is (sd_notify(3)).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status_text: String,
    /// Bytes of memory of all its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The most that ever was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Processor time of all its processes, nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    /// How many processes and threads it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Its control group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup: String,
    /// Whether it can be reloaded.
    pub can_reload: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_kind_are_services() {
        assert_eq!(unit_name("nginx"), "nginx.service");
        assert_eq!(unit_name("nginx.service"), "nginx.service");
        assert_eq!(unit_name("apt-daily.timer"), "apt-daily.timer");
        assert_eq!(unit_name("getty@tty1"), "getty@tty1.service");
        assert_eq!(unit_name("org.example.App"), "org.example.App.service");
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        for name in ["", ".service", "a b", "a/b", "../x", "a\n", "-q", "@x", "é", &"a".repeat(250)]
        {
            assert!(check_unit(name).is_err(), "{name:?}");
        }
        for name in ["nginx", "a@b", "dev-disk-by\\x2did.device", "x:y_z"] {
            assert!(check_unit(name).is_ok(), "{name:?}");
        }
    }
}
