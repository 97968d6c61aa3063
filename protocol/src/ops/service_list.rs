//! `service_list`: the units that the machine's systemd manages. Changes nothing. The answer is one
//! JSON document on stdout: [`Services`].

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, Work};

/// Kinds of units there are (systemd.unit(5)).
pub const UNIT_KINDS: &[&str] = &[
    "service",
    "socket",
    "timer",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "slice",
    "scope",
    "device",
];

/// List services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceList {
    /// Kinds of units: `service`, `timer`, `socket`, …; left out: services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Also those that are installed and not loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Operation for ServiceList {
    const NAME: &'static str = "service_list";
}

impl Work for ServiceList {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        match self.kinds.iter().find(|kind| !UNIT_KINDS.contains(&kind.as_str())) {
            Some(kind) => Err(InvalidWork::Value(format!(
                "'{kind}' is no kind of unit; there are {}",
                UNIT_KINDS.join(", ")
            ))),
            None => Ok(()),
        }
    }

    fn describe(&self) -> String {
        "list services".to_owned()
    }
}

/// Units of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// By name.
    pub units: Vec<Service>,
}

/// One unit, in the words of systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its name with its kind: `nginx.service`.
    pub unit: String,
    /// What it says of itself.
    pub description: String,
    /// `loaded`, `not-found`, `masked`, `error`, …; empty when it is not loaded.
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`; empty when it is
    /// not loaded.
    pub active: String,
    /// The same in its own kind's words: `running`, `exited`, `dead`, `listening`, …
    pub sub: String,
    /// Whether it starts at boot: `enabled`, `disabled`, `static`, `masked`, …; empty when nobody
    /// says.
    pub enabled: String,
}
