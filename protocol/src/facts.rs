//! What a machine says of itself.

use serde::{Deserialize, Serialize};

use crate::frames::Containment;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFact {
    /// Where it is mounted.
    pub mount: String,
    /// Its type, such as `ext4`.
    pub kind: String,
    /// Bytes.
    pub total: u64,
    /// Bytes an ordinary user can still write.
    pub available: u64,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFact {
    /// Such as `eth0`.
    pub name: String,
    /// Such as `52:54:00:12:34:56`, empty when it has none.
    pub mac: String,
    /// IPv4 and IPv6 addresses.
    pub addresses: Vec<String>,
}

/// What kind of machine it is. Every field is what the machine says of itself: untrusted text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Facts {
    pub hostname: String,
    /// `/etc/machine-id` (machine-id(5)); tells re-installed machines and copies apart.
    pub machine_id: String,
    /// `ID` of os-release(5), such as `debian`.
    pub os_id: String,
    /// `PRETTY_NAME` of os-release(5).
    pub os_name: String,
    /// `VERSION_ID` of os-release(5).
    pub os_version: String,
    pub kernel: String,
    /// As uname(2) says it, such as `x86_64`.
    pub architecture: String,
    pub cpus: u32,
    pub cpu_model: String,
    /// Bytes.
    pub memory_total: u64,
    pub disks: Vec<DiskFact>,
    pub networks: Vec<NetworkFact>,
    pub agent_version: String,
    /// The user the agent runs as.
    pub agent_user: String,
    /// How commands are contained here.
    pub containment: Option<Containment>,
    /// `systemd`, `openrc`, … or empty.
    pub init: String,
    /// `apt`, `dnf`, `yum`, `apk`, `pacman`, `zypper`, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub package_manager: String,
    /// Other systems this one is like, as `ID_LIKE` of os-release(5) says: `debian`, `rhel fedora`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_like: String,
    /// Whether inspect mode can be enforced here; `None` from an agent that does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspect: Option<InspectFact>,
}

/// Whether commands can be kept from changing anything here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectFact {
    /// It can be enforced.
    pub available: bool,
    /// Why not, for people; empty when it can.
    pub reason: String,
    /// The walls in force: `namespaces`, `capabilities`, `landlock`, `seccomp`.
    pub walls: Vec<String>,
}
