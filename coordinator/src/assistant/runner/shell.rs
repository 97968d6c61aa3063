//! What a command's words say about how long it takes: which program it is, as far as that shows.

use std::time::Duration;

use reeve_sdk::api::PlannedCommand;

/// How long a command may take when its plan does not say.
const USUAL: Duration = Duration::from_secs(60);

/// Likewise when it installs, removes or updates packages.
const PACKAGES: Duration = Duration::from_secs(15 * 60);

/// The longest time for a command nobody said yes to.
pub(super) const LONGEST_UNAPPROVED: Duration = Duration::from_secs(30 * 60);

/// The longest time for any command of a task.
pub(super) const LONGEST: Duration = Duration::from_secs(60 * 60);

const PACKAGE_PROGRAMS: [&str; 12] = [
    "apt", "apt-get", "aptitude", "dpkg", "dnf", "yum", "rpm", "zypper", "apk", "pacman", "snap",
    "flatpak",
];

/// Whether a package manager is among its words.
pub(super) fn runs_package_manager(command: &PlannedCommand) -> bool {
    let is_one = |word: &str| {
        let name = word.rsplit('/').next().unwrap_or(word);
        PACKAGE_PROGRAMS.contains(&name)
    };
    let in_argv = command.argv.iter().flatten().any(|word| is_one(word));
    let in_line = command.shell.iter().any(|line| {
        line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')'))
            .any(is_one)
    });
    in_argv || in_line
}

/// How long a command may take.
pub(super) fn timeout(command: &PlannedCommand, reads: bool) -> Duration {
    let usual = if runs_package_manager(command) { PACKAGES } else { USUAL };
    let asked = command.timeout_ms.map_or(usual, Duration::from_millis);
    asked.clamp(Duration::from_secs(1), if reads { LONGEST_UNAPPROVED } else { LONGEST })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_managers_get_more_time() {
        let line = |line: &str| PlannedCommand {
            shell: Some(line.to_owned()),
            ..PlannedCommand::default()
        };
        assert_eq!(timeout(&line("df -h"), true), USUAL);
        assert_eq!(timeout(&line("cd /tmp; /usr/bin/apt-get -y upgrade"), false), PACKAGES);
        assert_eq!(timeout(&line("cat /etc/apt/sources.list"), true), USUAL);
        let day = PlannedCommand { timeout_ms: Some(86_400_000), ..line("sleep 1d") };
        assert_eq!(timeout(&day, true), LONGEST_UNAPPROVED);
        assert_eq!(timeout(&day, false), LONGEST);
    }
}
