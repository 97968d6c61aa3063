//! Whether a machine ought to be booted again.

use std::cmp::Ordering;
use std::fs;
use std::time::Duration;

use reeve_protocol::ops::RebootNeed;

use super::Root;
use crate::host::query;

/// `needs-restarting` reads every process's maps.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn find(root: &Root, virtualisation: &str) -> RebootNeed {
    let running = root.read_line("proc/sys/kernel/osrelease");
    // A container's kernel is its host's.
    let shares_kernel = root.exists(".dockerenv")
        || root.exists("run/.containerenv")
        || matches!(
            virtualisation,
            "lxc" | "docker" | "podman" | "systemd-nspawn" | "wsl" | "openvz"
        );
    let mut need = look(root, &running, shares_kernel);
    let tool = "usr/bin/needs-restarting";
    if root.exists(tool) && !shares_kernel {
        match query::run("/usr/bin/needs-restarting", &["-r"], PATIENCE).map(|answer| answer.code) {
            Ok(Some(0)) => need.needed = need.needed.or(Some(false)),
            Ok(Some(1)) => {
                need.needed = Some(true);
                need.reasons.push("needs-restarting says so".to_owned());
            }
            _ => {}
        }
    }
    need
}

fn look(root: &Root, running: &str, shares_kernel: bool) -> RebootNeed {
    let mut reasons = Vec::new();
    let mut known = false;
    for folder in ["run", "var/run"] {
        if root.exists(&format!("{folder}/reboot-required")) {
            let packages = root.read(&format!("{folder}/reboot-required.pkgs"));
            let mut packages: Vec<&str> = packages.lines().collect();
            packages.sort_unstable();
            packages.dedup();
            packages.truncate(20);
            reasons.push(if packages.is_empty() {
                "an update asked for it".to_owned()
            } else {
                format!("updated: {}", packages.join(", "))
            });
            break;
        }
    }
    let installed = if shares_kernel { Vec::new() } else { list_kernels(root) };
    if let Some(newest) = installed.iter().max_by(|a, b| compare(a, b)) {
        known = true;
        if compare(newest, running) == Ordering::Greater {
            reasons.push(format!("kernel {newest} is installed, and {running} runs"));
        } else if !installed.iter().any(|version| version == running) {
            reasons.push(format!("kernel {running} runs, and is not installed any more"));
        }
    }
    let needed = if reasons.is_empty() { known.then_some(false) } else { Some(true) };
    RebootNeed { needed, reasons }
}

/// Versions of kernels that can be booted.
fn list_kernels(root: &Root) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.path("boot")) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()))
        // Arch and the like have one under a name of its own, which says no version.
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .filter(|version| !version.contains("rescue"))
        .collect()
}

/// Versions, number by number.
fn compare(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| -> Vec<Result<u64, String>> {
        text.split(['.', '-', '+', '~', '_'])
            .map(|part| part.parse::<u64>().map_err(|_| part.to_owned()))
            .collect()
    };
    for (a, b) in parts(left).iter().zip(parts(right).iter()) {
        let order = match (a, b) {
            (Ok(a), Ok(b)) => a.cmp(b),
            (Err(a), Err(b)) => a.cmp(b),
            // A number is newer than a word: 6.1.0-10 than 6.1.0-rc1.
            (Ok(_), Err(_)) => Ordering::Greater,
            (Err(_), Ok(_)) => Ordering::Less,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    // What is only longer is another build of the same.
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(files: &[(&str, &str)], running: &str) -> RebootNeed {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        look(&Root(folder.path().to_owned()), running, false)
    }

    #[test]
    fn newer_kernel_and_the_mark_of_updates_are_reasons() {
        let found = need(&[("boot/vmlinuz-6.1.0-10-amd64", "")], "6.1.0-9-amd64");
        assert_eq!(found.needed, Some(true));
        assert!(found.reasons[0].contains("6.1.0-10"), "{found:?}");
        let found = need(&[("boot/vmlinuz-6.1.0-9-amd64", "")], "6.1.0-9-amd64");
        assert_eq!((found.needed, found.reasons.len()), (Some(false), 0));
        let files = [("run/reboot-required", ""), ("run/reboot-required.pkgs", "b\na\na\n")];
        let found = need(&files, "6.1.0");
        assert_eq!((found.needed, found.reasons[0].as_str()), (Some(true), "updated: a, b"));
        let found = need(&[("boot/vmlinuz-5.10.0-1-amd64", "")], "6.1.0-9-amd64");
        assert!(found.reasons[0].contains("not installed any more"), "{found:?}");
    }

    #[test]
    fn nobody_can_say_where_nothing_is_installed() {
        assert_eq!(need(&[], "6.1.0").needed, None);
        assert_eq!(need(&[("boot/vmlinuz-linux", "")], "6.1.0").needed, None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(compare("6.1.0-10-amd64", "6.1.0-9-amd64"), Ordering::Greater);
        assert_eq!(compare("6.12.1", "6.2.9"), Ordering::Greater);
        assert_eq!(compare("5.14.0-70.el9.x86_64", "5.14.0-70.el9.x86_64"), Ordering::Equal);
        assert_eq!(compare("6.1.0-rc1", "6.1.0-1"), Ordering::Less);
    }
}
