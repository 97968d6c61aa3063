//! A command that a model wrote, before anybody is shown it.

use std::collections::BTreeSet;

use reeve_protocol::ops::Effect;
use reeve_sdk::api::PlannedCommand;

use super::Caps;
use super::read::MAX_WORDS;
use crate::clean::{clean, cut};

/// What would take it back, as it would be typed: for people, never run by itself.
pub(crate) fn undo(text: Option<String>) -> Option<String> {
    let text = text?;
    let text = clean(text.trim());
    (!text.is_empty()).then(|| cut(&text, MAX_WORDS).into_owned())
}

/// A command of a model that may be shown to a person as it is: exactly one form, bounded, without
/// anything that does not show.
pub(crate) fn check_command(
    argv: Option<Vec<String>>,
    shell: Option<String>,
    cwd: Option<String>,
    caps: &Caps,
) -> Result<PlannedCommand, String> {
    let command = match (argv.filter(|argv| !argv.is_empty()), shell.filter(|s| !s.is_empty())) {
        (Some(argv), None) => PlannedCommand { argv: Some(argv), ..PlannedCommand::default() },
        (None, Some(shell)) => PlannedCommand { shell: Some(shell), ..PlannedCommand::default() },
        _ => return Err("a command is either argv or shell".to_owned()),
    };
    let parts: Vec<&String> = command.argv.iter().flatten().chain(&command.shell).collect();
    if parts[0].trim().is_empty() {
        return Err("the command is empty".to_owned());
    }
    let length: usize = parts.iter().map(|part| part.len() + 1).sum();
    if length > caps.command_bytes {
        return Err(format!("its command has {length} bytes; at most {}", caps.command_bytes));
    }
    if parts.iter().any(|part| clean(part) != part.as_str()) {
        return Err("its command has characters that do not show".to_owned());
    }
    let cwd = cwd.filter(|cwd| !cwd.is_empty());
    if let Some(cwd) = &cwd
        && (!cwd.starts_with('/') || cwd.len() > 4096 || cwd.contains('\n') || clean(cwd) != *cwd)
    {
        return Err("its directory has to be an absolute path".to_owned());
    }
    Ok(PlannedCommand { cwd, ..command })
}

/// Sets the time limit; says whether it needs a yes.
pub(crate) fn check_timeout(
    command: &mut PlannedCommand,
    asked: Option<u64>,
    caps: &Caps,
) -> Result<bool, String> {
    let seconds = asked.unwrap_or_else(|| usual_timeout(command, caps));
    if seconds == 0 || seconds > caps.most_timeout_s {
        return Err(format!("its time has to be 1 to {} s, not {seconds}", caps.most_timeout_s));
    }
    command.timeout_ms = Some(seconds * 1000);
    Ok(seconds > caps.long_timeout_s)
}

/// Words of a command, as far as they can be told without a shell.
fn words(command: &PlannedCommand) -> Vec<&str> {
    match (&command.argv, &command.shell) {
        (Some(argv), _) => argv
            .iter()
            .flat_map(|word| word.split(|c: char| c.is_whitespace() || "|&;()".contains(c)))
            .map(|word| word.rsplit('/').next().unwrap_or(word))
            .collect(),
        (None, Some(shell)) => shell
            .split(|c: char| c.is_whitespace() || "|&;()`{}\"'$".contains(c))
            .map(|word| word.rsplit('/').next().unwrap_or(word))
            .collect(),
        (None, None) => Vec::new(),
    }
}

fn usual_timeout(command: &PlannedCommand, caps: &Caps) -> u64 {
    const BACKUPS: &[&str] =
        &["tar", "rsync", "pg_dump", "pg_dumpall", "mysqldump", "mariadb-dump", "borg", "restic"];
    const PACKAGES: &[&str] = &[
        "apt", "apt-get", "dnf", "yum", "zypper", "apk", "pacman", "dpkg", "rpm", "snap", "flatpak",
    ];
    let words = words(command);
    let has = |names: &[&str]| words.iter().any(|word| names.contains(word));
    if has(BACKUPS) {
        caps.backup_timeout_s
    } else if has(PACKAGES) {
        caps.package_timeout_s
    } else {
        caps.timeout_s
    }
}

/// What the reader of a plan should know of a command.
pub(crate) struct Caution {
    /// At least this.
    pub effect: Effect,
    pub notes: Vec<String>,
}

/// Programs that make somebody else of the command. Whether they may is the machine's decision;
/// that they are there is for the person who says yes.
pub(crate) fn cautions(command: &PlannedCommand) -> Caution {
    const PRIVILEGE: &[&str] =
        &["sudo", "su", "doas", "pkexec", "runuser", "setpriv", "sudoedit", "run0", "machinectl"];
    let words = words(command);
    let found: BTreeSet<&str> = words.into_iter().filter(|word| PRIVILEGE.contains(word)).collect();
    Caution {
        effect: if found.is_empty() { Effect::Read } else { Effect::Change },
        notes: found
            .into_iter()
            .map(|word| format!("{word}: the command asks for another user's rights"))
            .collect(),
    }
}
