//! What kind of machine this is. Read from files and system calls, so nothing stays in memory.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use reeve_protocol::{Containment, DiskFact, Facts, InspectFact, NetworkFact};

use super::metrics::{find_bytes, measure_disk};

/// File systems that hold data, as opposed to those the kernel makes up.
const REAL: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "vfat", "exfat", "ntfs3", "jfs",
    "reiserfs", "bcachefs", "nfs", "nfs4", "cifs", "ceph", "fuseblk", "overlay",
];

/// Disks and networks told at the most: facts travel in one frame.
const MAX_LISTED: usize = 64;

/// Whether a kind of file system holds data.
#[must_use]
pub fn is_real(kind: &str) -> bool {
    REAL.contains(&kind)
}

/// Reads all of them.
#[must_use]
pub fn read(containment: Option<Containment>, inspect: Option<InspectFact>) -> Facts {
    let release = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let name = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Facts {
        hostname: text(name.nodename()),
        machine_id: fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned(),
        os_id: find_release(&release, "ID"),
        os_name: find_release(&release, "PRETTY_NAME"),
        os_version: find_release(&release, "VERSION_ID"),
        kernel: text(name.release()),
        architecture: text(name.machine()),
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        cpu_model: find_cpu_model(&cpu),
        memory_total: find_bytes(
            &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            "MemTotal:",
        ),
        disks: list_disks(),
        networks: list_networks(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_user: super::users::load_own_account().name,
        containment,
        init: find_init(),
        package_manager: find_package_manager(Path::new("/")),
        os_like: find_release(&release, "ID_LIKE"),
        inspect,
    }
}

/// A value of os-release(5), without its quotes.
fn find_release(text: &str, key: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches(['"', '\'']).replace("\\\"", "\""))
        .unwrap_or_default()
}

fn find_cpu_model(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| matches!(name.trim(), "model name" | "Model" | "cpu model"))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

fn find_init() -> String {
    if fs::metadata("/run/systemd/system").is_ok() {
        return "systemd".to_owned();
    }
    if fs::metadata("/run/openrc").is_ok() {
        return "openrc".to_owned();
    }
    fs::read_to_string("/proc/1/comm").unwrap_or_default().trim().to_owned()
}

/// Which program manages packages below `root`. By the data that it keeps rather than by the
/// program: some systems have programs of others as well (`apt` on Fedora, `dpkg` anywhere).
#[must_use]
pub fn find_package_manager(root: &Path) -> String {
    let is_there = |path: &str| root.join(path).exists();
    let found = [
        ("apk", &["lib/apk/db/installed", "usr/lib/apk/db/installed"][..]),
        ("apt", &["var/lib/dpkg/status"]),
        ("pacman", &["var/lib/pacman/local"]),
        ("zypper", &["usr/bin/zypper"]),
        ("dnf", &["usr/bin/dnf", "usr/bin/dnf5", "usr/bin/microdnf"]),
        ("yum", &["usr/bin/yum"]),
    ]
    .into_iter()
    .find(|(_, paths)| paths.iter().any(|path| is_there(path)));
    found.map(|(name, _)| name.to_owned()).unwrap_or_default()
}

fn list_disks() -> Vec<DiskFact> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut devices = HashSet::new();
    let mut disks = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(mount), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // The same device mounted twice is one disk; only the root may be an overlay.
        if !REAL.contains(&kind) || (kind == "overlay" && mount != "/") || !devices.insert(device) {
            continue;
        }
        // A mount of a network file system whose server is gone would hang us.
        let remote = matches!(kind, "nfs" | "nfs4" | "cifs" | "ceph");
        let measured = if remote { Some((0, 0)) } else { measure_disk(mount) };
        if let Some((total, available)) = measured
            && disks.len() < MAX_LISTED
        {
            let (mount, kind) = (mount.to_owned(), kind.to_owned());
            disks.push(DiskFact { mount, kind, total, available });
        }
    }
    disks
}

/// Addresses of each interface with the length of their network: `192.0.2.7/24`.
#[must_use]
pub fn list_addresses() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Ok(addresses) = getifaddrs() else { return found };
    for address in addresses {
        let Some(storage) = address.address else { continue };
        let mask = address.netmask;
        let text = if let Some(v4) = storage.as_sockaddr_in() {
            let mask = mask.and_then(|mask| Some(mask.as_sockaddr_in()?.ip().to_bits()));
            mask.map_or_else(
                || v4.ip().to_string(),
                |it| format!("{}/{}", v4.ip(), it.leading_ones()),
            )
        } else if let Some(v6) = storage.as_sockaddr_in6() {
            let mask = mask.and_then(|mask| Some(mask.as_sockaddr_in6()?.ip().to_bits()));
            mask.map_or_else(
                || v6.ip().to_string(),
                |it| format!("{}/{}", v6.ip(), it.leading_ones()),
            )
        } else {
            continue;
        };
        let list = found.entry(address.interface_name).or_default();
        if list.len() < MAX_LISTED {
            list.push(text);
        }
    }
    found
}

fn list_networks() -> Vec<NetworkFact> {
    let mut found: BTreeMap<String, NetworkFact> = BTreeMap::new();
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    for address in addresses {
        let name = address.interface_name;
        let Some(storage) = address.address else { continue };
        let fact = found.entry(name.clone()).or_insert_with(|| NetworkFact {
            name,
            mac: String::new(),
            addresses: Vec::new(),
        });
        if let Some(link) = storage.as_link_addr().and_then(|link| link.addr()) {
            if link != [0; 6] {
                let bytes: Vec<String> = link.iter().map(|byte| format!("{byte:02x}")).collect();
                fact.mac = bytes.join(":");
            }
        } else if fact.addresses.len() < MAX_LISTED {
            if let Some(v4) = storage.as_sockaddr_in() {
                fact.addresses.push(v4.ip().to_string());
            } else if let Some(v6) = storage.as_sockaddr_in6() {
                fact.addresses.push(v6.ip().to_string());
            }
        }
    }
    found.remove("lo");
    found.into_values().take(MAX_LISTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_values_lose_their_quotes() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\n";
        assert_eq!(find_release(text, "ID"), "debian");
        assert_eq!(find_release(text, "PRETTY_NAME"), "Debian GNU/Linux 12");
        assert_eq!(find_release(text, "VERSION_ID"), "12");
        assert_eq!(find_release(text, "ID_LIKE"), "");
    }

    #[test]
    fn package_manager_is_known_by_its_data() {
        for (path, name) in [
            ("var/lib/dpkg/status", "apt"),
            ("lib/apk/db/installed", "apk"),
            ("var/lib/pacman/local", "pacman"),
            ("usr/bin/zypper", "zypper"),
            ("usr/bin/dnf", "dnf"),
            ("usr/bin/yum", "yum"),
            ("usr/bin/other", ""),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            std::fs::write(&file, "").expect("written");
            assert_eq!(find_package_manager(root.path()), name);
        }
    }

    #[test]
    fn facts_fit_the_handshake_of_an_enrolment() {
        let facts = read(Some(Containment::CgroupV2), None);
        assert!(!facts.hostname.is_empty() && facts.cpus > 0 && facts.memory_total > 0);
        assert!(reeve_protocol::encode(&facts).expect("encodes").len() < 64 * 1024);
    }
}
