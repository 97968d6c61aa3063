//! Environment variables: which of them leave programs as they are.

/// Whether a variable that programs see leaves what they do as it is: a list of the known, since any
/// other may be read by somebody.
pub(crate) fn is_tame(name: &str, value: &str) -> bool {
    let plain = |value: &str| {
        value.len() <= 256
            && value.chars().all(|c| c.is_ascii_alphanumeric() || "_-.,:/+@= <>".contains(c))
    };
    match name {
        "LANG" | "LANGUAGE" | "TERM" | "COLUMNS" | "LINES" | "NO_COLOR" | "CLICOLOR" | "TZ"
        | "SYSTEMD_COLORS" | "SYSTEMD_URLIFY" | "GIT_OPTIONAL_LOCKS" | "DEBIAN_FRONTEND"
        | "BLOCKSIZE" | "BLOCK_SIZE" | "TIME_STYLE" | "QUOTING_STYLE" | "HISTTIMEFORMAT"
        | "NEEDRESTART_MODE" | "FORCE_COLOR" | "LS_COLORS" | "GREP_COLORS" | "POSIXLY_CORRECT" => {
            plain(value)
        }
        "PAGER" | "SYSTEMD_PAGER" | "GIT_PAGER" | "MANPAGER" => {
            matches!(value, "" | "cat" | "/bin/cat")
        }
        _ => (name.starts_with("LC_") || name.starts_with("REEVE_")) && plain(value),
    }
}

/// Whether a variable that only the shell sees (an assignment alone) is a matter between the line and
/// itself. Exported ones, and those that the shell acts on, are not.
pub(crate) fn is_private(name: &str) -> bool {
    const EXPORTED: &[&str] = &["HOME", "LOGNAME", "PATH", "SHELL", "USER", "PWD", "OLDPWD"];
    const SHELLS: &[&str] = &[
        "BASHOPTS",
        "CDPATH",
        "ENV",
        "EXECIGNORE",
        "FUNCNEST",
        "GLOBIGNORE",
        "GLOBSORT",
        "HISTFILE",
        "IFS",
        "NLSPATH",
        "OPTIND",
        "POSIXLY_CORRECT",
        "PROMPT_COMMAND",
        "PS0",
        "PS1",
        "PS2",
        "PS4",
        "SHELLOPTS",
        "SHLVL",
        "TMPDIR",
        "TIMEFORMAT",
    ];
    let listed = EXPORTED.contains(&name) || SHELLS.contains(&name);
    !listed
        && !["BASH_", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "XDG_"]
            .iter()
            .any(|p| name.starts_with(p))
}

/// What such a variable does, for a person.
pub(crate) fn reason(name: &str) -> String {
    let what = match name {
        "PATH" => "decides which programs the names in the line mean",
        "IFS" => "changes how the shell splits words",
        "BASH_ENV" | "ENV" => "names a script that the shell runs first",
        "PAGER" | "SYSTEMD_PAGER" | "GIT_PAGER" | "MANPAGER" | "EDITOR" | "VISUAL" | "BROWSER" => {
            "names a program that others start"
        }
        "HOME" => "decides whose settings programs read",
        _ if name.starts_with("LD_") => "loads code into every program",
        _ if name.starts_with("GIT_") => "changes what git runs",
        _ => "may change what programs do",
    };
    format!("the variable {name} {what}")
}
