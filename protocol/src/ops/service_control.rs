//! `service_control`: starting, stopping and the like of a unit of systemd. What systemd does is
//! awaited, and the answer says how the unit is afterwards: one JSON document on stdout,
//! [`ServiceChange`].

use serde::{Deserialize, Serialize};

use super::service_status::{check_unit, unit_name};
use super::{Effect, InvalidWork, Operation, UnitStatus, Work};

/// How long systemd may take, unless said otherwise, milliseconds.
pub const DEFAULT_WAIT_MS: u32 = 120_000;

/// The longest that is waited, milliseconds.
pub const MAX_WAIT_MS: u32 = 3_600_000;

/// Start or stop a service, or do something else with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceControl {
    /// Its name; without a kind, `.service` is meant.
    pub unit: String,
    /// What to do.
    pub action: ServiceAction,
    /// Wait so long for it, milliseconds; 120,000 when left out. What takes longer goes on, and is
    /// told as `timed_out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u32>,
}

/// What to do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceAction {
    /// Start it, unless it runs.
    Start,
    /// Stop it, if it runs.
    Stop,
    /// Stop it if it runs, and start it.
    Restart,
    /// Have it read its settings again.
    Reload,
    /// Have it started at boot from now on.
    Enable,
    /// The opposite.
    Disable,
    /// Make it impossible to start.
    Mask,
    /// The opposite.
    Unmask,
}

impl ServiceAction {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
            Self::Unmask => "unmask",
        }
    }
}

/// Beginnings of names of units without which a machine cannot be reached or does not work: what
/// stops them may cut off whoever does it.
const VITAL: &[&str] = &[
    "dbus",
    "systemd-",
    "reeve-",
    "ssh.",
    "sshd",
    "network",
    "NetworkManager",
    "connman",
    "wpa_supplicant",
    "dhcpcd",
    "wg-quick",
    "tailscaled",
    "openvpn",
    "init.scope",
    "-.mount",
    "local-fs",
    "multi-user.target",
    "basic.target",
    "sysinit.target",
];

/// Targets that end everything (systemd.special(7)).
const FATAL: &[&str] = &[
    "poweroff.target",
    "reboot.target",
    "halt.target",
    "kexec.target",
    "rescue.target",
    "emergency.target",
    "shutdown.target",
    "soft-reboot.target",
    "suspend.target",
    "hibernate.target",
    "hybrid-sleep.target",
    "suspend-then-hibernate.target",
    "exit.target",
    "systemd-poweroff.service",
    "systemd-reboot.service",
    "systemd-halt.service",
    "systemd-kexec.service",
    "systemd-soft-reboot.service",
    "systemd-suspend.service",
    "systemd-hibernate.service",
    "factory-reset.target",
];

impl Operation for ServiceControl {
    const NAME: &'static str = "service_control";
}

impl Work for ServiceControl {
    fn effect(&self) -> Effect {
        let unit = unit_name(&self.unit);
        let is_vital = VITAL.iter().any(|beginning| unit.starts_with(beginning));
        let is_fatal = FATAL.contains(&unit.as_str());
        match self.action {
            ServiceAction::Start | ServiceAction::Restart if is_fatal => Effect::Destroy,
            ServiceAction::Stop | ServiceAction::Disable | ServiceAction::Mask if is_vital => {
                Effect::Destroy
            }
            // Everything that talks over the bus loses it.
            ServiceAction::Restart if unit.starts_with("dbus") => Effect::Destroy,
            _ => Effect::Change,
        }
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        check_unit(&self.unit)?;
        match self.wait_ms {
            Some(wait) if wait > MAX_WAIT_MS => {
                Err(InvalidWork::Value(format!("wait_ms is {wait}; {MAX_WAIT_MS} is the most")))
            }
            _ => Ok(()),
        }
    }

    fn describe(&self) -> String {
        format!("{} {}", self.action.as_str(), unit_name(&self.unit))
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// What was asked.
    pub action: ServiceAction,
    /// It was so before: nothing was changed.
    #[serde(default)]
    pub already: bool,
    /// How systemd says its job ended: `done`, `failed`, `timeout`, `canceled`, `dependency`,
    /// `skipped`; nothing where there was none, or where it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// What was changed on the disk, as links and what they lead to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// How the unit is now.
    pub status: UnitStatus,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(unit: &str, action: ServiceAction) -> Effect {
        ServiceControl { unit: unit.to_owned(), action, wait_ms: None }.effect()
    }

    #[test]
    fn what_cuts_a_machine_off_destroys_and_the_rest_changes() {
        assert_eq!(effect("nginx", ServiceAction::Stop), Effect::Change);
        assert_eq!(effect("ssh", ServiceAction::Stop), Effect::Destroy);
        assert_eq!(effect("sshd.service", ServiceAction::Mask), Effect::Destroy);
        assert_eq!(effect("ssh", ServiceAction::Restart), Effect::Change);
        assert_eq!(effect("reeve-agent", ServiceAction::Stop), Effect::Destroy);
        assert_eq!(effect("reboot.target", ServiceAction::Start), Effect::Destroy);
        assert_eq!(effect("dbus", ServiceAction::Restart), Effect::Destroy);
        assert_eq!(effect("systemd-networkd", ServiceAction::Start), Effect::Change);
    }
}
