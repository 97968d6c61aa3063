//! Packages to update, from what the machine's package manager knows already: nothing is fetched, nothing is
//! locked and nothing is changed.

use std::time::{Duration, UNIX_EPOCH};

use reeve_protocol::ops::{Update, Updates};

use super::{MAX_LISTED, Root};
use crate::host::query::{self, Answer};

/// Working it out takes a package manager seconds on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn find(root: &Root) -> Option<Updates> {
    let manager = crate::host::facts::find_package_manager(&root.path(""));
    let mut updates = match manager.as_str() {
        "apt" => apt(),
        "dnf" | "yum" => dnf(&manager),
        "pacman" => pacman(),
        "apk" => apk(),
        "zypper" => zypper(),
        _ => return None,
    };
    updates.as_of_us = as_of(root, &manager);
    updates.manager = manager;
    updates.packages.truncate(MAX_LISTED);
    Some(updates)
}

fn unknown(note: String) -> Updates {
    Updates { note, ..Updates::default() }
}

/// Asks; what comes of it, or why nothing does.
fn ask(program: &str, arguments: &[&str], good: &[i32]) -> Result<String, Updates> {
    match query::run(program, arguments, PATIENCE) {
        Ok(Answer { code: Some(code), stdout, .. }) if good.contains(&code) => Ok(stdout),
        Ok(Answer { code, stderr, .. }) => {
            let why = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
            Err(unknown(format!("{program} ended with {code}: {why}")))
        }
        Err(error) => Err(unknown(format!("{program}: {error}"))),
    }
}

fn counted(packages: Vec<Update>, knows_security: bool) -> Updates {
    let count = |packages: usize| u32::try_from(packages).unwrap_or(u32::MAX);
    let security = packages.iter().filter(|package| package.security).count();
    Updates {
        count: Some(count(packages.len())),
        security: knows_security.then(|| count(security)),
        packages,
        ..Updates::default()
    }
}

fn apt() -> Updates {
    // Without its lock this works beside an apt that is at work, and as an ordinary user.
    let arguments = [
        "-s",
        "-q",
        "-o",
        "Debug::NoLocking=true",
        "-o",
        "APT::Get::Show-User-Simulation-Note=false",
        "dist-upgrade",
    ];
    match ask("apt-get", &arguments, &[0]) {
        Ok(text) => counted(parse_apt(&text), true),
        Err(updates) => updates,
    }
}

/// `Inst base-files [12.4] (12.4+deb12u5 Debian:12.5/stable [amd64])`
fn parse_apt(text: &str) -> Vec<Update> {
    let parse = |line: &str| {
        let rest = line.strip_prefix("Inst ")?;
        let (name, rest) = rest.split_once(' ')?;
        // What is not installed yet is no update of it.
        let (installed, rest) = rest.strip_prefix('[')?.split_once("] ")?;
        let (available, origin) = rest.strip_prefix('(')?.split_once(' ')?;
        let origin = origin.split('[').next().unwrap_or_default();
        Some(Update {
            name: name.to_owned(),
            installed: installed.to_owned(),
            available: available.to_owned(),
            // Debian-Security:12/stable-security, Ubuntu:24.04/noble-security.
            security: origin.to_lowercase().contains("security"),
        })
    };
    text.lines().filter_map(parse).collect()
}

fn dnf(manager: &str) -> Updates {
    let list = match ask(manager, &["-q", "-C", "check-update"], &[0, 100]) {
        Ok(text) => text,
        Err(updates) => return updates,
    };
    let mut packages = parse_dnf(&list);
    let security = ask(manager, &["-q", "-C", "updateinfo", "list", "--security"], &[0]);
    let Ok(security) = security else { return counted(packages, false) };
    let advised: Vec<&str> =
        security.lines().filter_map(|line| line.split_ascii_whitespace().last()).collect();
    for package in &mut packages {
        // name.arch there, name-version.arch here.
        let name = package.name.rsplit_once('.').map_or(package.name.as_str(), |(name, _)| name);
        let full = format!("{name}-");
        package.security = advised.iter().any(|it| {
            it.strip_prefix(&full)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
    }
    counted(packages, true)
}

/// `bash.x86_64    5.1.8-9.el9    baseos`
fn parse_dnf(text: &str) -> Vec<Update> {
    let lines = text.lines().take_while(|line| !line.starts_with("Obsoleting"));
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, available, _repository] = words.as_slice() else { return None };
        name.contains('.').then(|| Update {
            name: (*name).to_owned(),
            available: (*available).to_owned(),
            ..Update::default()
        })
    };
    lines.filter_map(parse).collect()
}

fn pacman() -> Updates {
    // 1 without a word: there is nothing to update.
    match ask("pacman", &["-Qu"], &[0, 1]) {
        Ok(text) => counted(parse_pacman(&text), false),
        Err(updates) => updates,
    }
}

/// `bash 5.1-1 -> 5.2-1`
fn parse_pacman(text: &str) -> Vec<Update> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, installed, "->", available, ..] = words.as_slice() else { return None };
        Some(Update {
            name: (*name).to_owned(),
            installed: (*installed).to_owned(),
            available: (*available).to_owned(),
            security: false,
        })
    };
    text.lines().filter_map(parse).collect()
}

fn apk() -> Updates {
    match ask("apk", &["--no-network", "version", "-l", "<"], &[0]) {
        Ok(text) => counted(parse_apk(&text), false),
        Err(updates) => updates,
    }
}

/// `busybox-1.36.0-r0   < 1.36.1-r2`
fn parse_apk(text: &str) -> Vec<Update> {
    let parse = |line: &str| {
        let (left, right) = line.split_once('<')?;
        let left = left.trim();
        // The version begins at the last dash but one.
        let (rest, release) = left.rsplit_once('-')?;
        let (name, version) = rest.rsplit_once('-')?;
        Some(Update {
            name: name.to_owned(),
            installed: format!("{version}-{release}"),
            available: right.trim().to_owned(),
            security: false,
        })
    };
    text.lines().filter_map(parse).collect()
}

fn zypper() -> Updates {
    let arguments = ["--no-refresh", "--non-interactive", "--quiet", "list-updates"];
    match ask("zypper", &arguments, &[0]) {
        Ok(text) => counted(parse_zypper(&text), false),
        Err(updates) => updates,
    }
}

/// `v | Main | bash | 5.1-1 | 5.2-1 | x86_64`
fn parse_zypper(text: &str) -> Vec<Update> {
    let parse = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["v", _, name, installed, available, ..] = cells.as_slice() else { return None };
        Some(Update {
            name: (*name).to_owned(),
            installed: (*installed).to_owned(),
            available: (*available).to_owned(),
            security: false,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// When its lists were last changed.
fn as_of(root: &Root, manager: &str) -> Option<i64> {
    let paths: &[&str] = match manager {
        "apt" => &["var/lib/apt/periodic/update-success-stamp", "var/lib/apt/lists"],
        "dnf" | "yum" => &["var/cache/dnf/last_makecache", "var/cache/libdnf5", "var/cache/dnf"],
        "pacman" => &["var/lib/pacman/sync"],
        "apk" => &["lib/apk/db/installed", "etc/apk/cache"],
        "zypper" => &["var/cache/zypp/solv"],
        _ => &[],
    };
    let path = paths.iter().map(|path| root.path(path)).find(|path| path.exists())?;
    let changed = path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(changed.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(packages: &[Update]) -> Vec<String> {
        let text = |it: &Update| {
            format!(
                "{} {} {}{}",
                it.name,
                it.installed,
                it.available,
                if it.security { " !" } else { "" }
            )
        };
        packages.iter().map(text).collect()
    }

    #[test]
    fn each_manager_is_understood() {
        let apt = "NOTE: simulation\n\
            Inst base-files [12.4] (12.4+deb12u5 Debian:12.5/stable [amd64]) []\n\
            Inst openssl [3.0.1-1] (3.0.2-1 Debian-Security:12/stable-security [amd64])\n\
            Inst new-dependency (1.0 Debian:12.5/stable [amd64])\n\
            Conf base-files (12.4+deb12u5 Debian:12.5/stable [amd64])\n";
        let expected = ["base-files 12.4 12.4+deb12u5", "openssl 3.0.1-1 3.0.2-1 !"];
        assert_eq!(names(&parse_apt(apt)), expected);
        let counts = counted(parse_apt(apt), true);
        assert_eq!((counts.count, counts.security), (Some(2), Some(1)));
        let dnf =
            "\nbash.x86_64    5.1.8-9.el9    baseos\nObsoleting Packages\nold.x86_64 1 base\n";
        assert_eq!(names(&parse_dnf(dnf)), ["bash.x86_64  5.1.8-9.el9"]);
        assert_eq!(names(&parse_pacman("bash 5.1-1 -> 5.2-1\nodd\n")), ["bash 5.1-1 5.2-1"]);
        let apk = "Installed:                Available:\nlib-x-1.36.0-r0   < 1.36.1-r2\n";
        assert_eq!(names(&parse_apk(apk)), ["lib-x 1.36.0-r0 1.36.1-r2"]);
        let zypper = "S | Repository | Name | Current | Available | Arch\n\
            --+--\nv | Main | bash | 5.1-1 | 5.2-1 | x86_64\n";
        assert_eq!(names(&parse_zypper(zypper)), ["bash 5.1-1 5.2-1"]);
    }

    #[test]
    fn what_is_not_known_is_said_so() {
        let counts = counted(Vec::new(), false);
        assert_eq!((counts.count, counts.security), (Some(0), None));
        let missing = ask("no-such-program-here", &[], &[0]).expect_err("nothing to ask");
        assert!(missing.count.is_none() && missing.note.contains("no-such-program-here"));
    }
}
