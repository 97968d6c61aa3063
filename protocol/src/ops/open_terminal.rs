//! `open_terminal`: a user's shell, or one program, on a pseudo-terminal (pty(7)). What is typed
//! travels as stdin, what the terminal shows as stdout, its size as `resize`. It is done by a keeper,
//! as a command is, and lives on while nobody looks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Command, Effect, ExecuteCommand, InvalidWork, Operation, SpoolFull, Stdin, Work};

/// Columns and rows are from 1 to this. The kernel takes 65,535; a program that draws as much as it
/// is told to would take gigabytes for one screen.
pub const MAX_TERMINAL_SIDE: u16 = 1000;

/// The longest name of a kind of terminal, bytes: file names of terminfo(5) are much shorter.
pub const MAX_TERM_BYTES: usize = 64;

/// Nothing typed and nothing shown for this long closes a terminal, unless the request says
/// otherwise, milliseconds: one forgotten in the evening is gone the day after.
pub const DEFAULT_IDLE_LIMIT_MS: u64 = 12 * 3600 * 1000;

/// The longest idle limit, milliseconds: 30 days.
pub const MAX_IDLE_LIMIT_MS: u64 = 30 * 24 * 3600 * 1000;

/// Open a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenTerminal {
    /// A program and its arguments; left out: the user's login shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// As whom; left out: the agent's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Absolute directory; left out: the user's home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Environment variables to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Characters in a line, 1 to 1000; 80 when left out.
    #[serde(default = "default_columns")]
    pub columns: u16,
    /// Lines, 1 to 1000; 24 when left out.
    #[serde(default = "default_rows")]
    pub rows: u16,
    /// What kind of terminal looks at it, as in `TERM`.
    #[serde(default = "default_term")]
    pub term: String,
    /// Closed when nothing was typed and nothing shown for this long, milliseconds; 0: never. Twelve
    /// hours when left out.
    #[serde(default = "default_idle_limit_ms")]
    pub idle_limit_ms: u64,
    /// Keep what was shown, and when, after it has ended.
    #[serde(default = "default_record")]
    pub record: bool,
}

fn default_columns() -> u16 {
    80
}

fn default_rows() -> u16 {
    24
}

fn default_term() -> String {
    "xterm-256color".to_owned()
}

fn default_idle_limit_ms() -> u64 {
    DEFAULT_IDLE_LIMIT_MS
}

fn default_record() -> bool {
    true
}

impl Default for OpenTerminal {
    fn default() -> Self {
        Self {
            command: None,
            user: None,
            cwd: None,
            env: BTreeMap::new(),
            columns: default_columns(),
            rows: default_rows(),
            term: default_term(),
            idle_limit_ms: default_idle_limit_ms(),
            record: default_record(),
        }
    }
}

/// Whether a terminal can have this size.
///
/// # Errors
/// What is wrong with it.
pub fn check_terminal_size(columns: u16, rows: u16) -> Result<(), InvalidWork> {
    let sides = 1..=MAX_TERMINAL_SIDE;
    if sides.contains(&columns) && sides.contains(&rows) {
        return Ok(());
    }
    Err(InvalidWork::Value(format!(
        "a terminal of {columns} columns and {rows} rows makes no sense; both have to be from 1 to \
         {MAX_TERMINAL_SIDE}"
    )))
}

impl OpenTerminal {
    /// The command that runs on it; `shell` is the user's login shell.
    #[must_use]
    pub fn to_command(&self, shell: &str) -> ExecuteCommand {
        let argv = self.command.clone().unwrap_or_else(|| vec![shell.to_owned()]);
        let mut env = self.env.clone();
        env.entry("TERM".to_owned()).or_insert_with(|| self.term.clone());
        ExecuteCommand {
            user: self.user.clone(),
            cwd: self.cwd.clone(),
            env,
            stdin: Stdin::Stream,
            // Nobody types into a terminal that stands still because nobody reads it.
            spool_full: SpoolFull::DropMiddle,
            ..ExecuteCommand::new(Command::Argv(argv))
        }
    }
}

impl Operation for OpenTerminal {
    const NAME: &'static str = "open_terminal";
}

impl Work for OpenTerminal {
    /// Whoever types can do anything.
    fn effect(&self) -> Effect {
        Effect::Destroy
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        check_terminal_size(self.columns, self.rows)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if self.term.is_empty()
            || self.term.len() > MAX_TERM_BYTES
            || self.term.starts_with('.')
            || !self.term.bytes().all(is_plain)
        {
            return Err(InvalidWork::Value(
                "the kind of terminal is no name of terminfo(5), such as xterm-256color".to_owned(),
            ));
        }
        if self.idle_limit_ms != 0 && !(1000..=MAX_IDLE_LIMIT_MS).contains(&self.idle_limit_ms) {
            return Err(InvalidWork::Value(format!(
                "the idle limit is {} ms; it has to be 0 (none) or from 1 second to 30 days",
                self.idle_limit_ms
            )));
        }
        self.to_command("/bin/sh").validate().map_err(|error| InvalidWork::Value(error.to_string()))
    }

    fn has_stdin(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let whose = self.user.as_deref().unwrap_or("the agent's own user");
        match &self.command {
            None => format!("open a terminal as {whose}, where anything can be typed"),
            Some(argv) => format!("run {} on a terminal as {whose}", argv.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        let good = OpenTerminal::default();
        assert_eq!(good.validate(), Ok(()));
        for (columns, rows) in [(0, 24), (80, 0), (0, 0), (1001, 24), (80, u16::MAX)] {
            let error = OpenTerminal { columns, rows, ..good.clone() }.validate();
            assert!(error.expect_err("refused").to_string().contains("from 1 to 1000"));
        }
        for term in ["", "../../etc/passwd", "a b", ".", "xterm\n", &"x".repeat(65)] {
            let asked = OpenTerminal { term: term.to_owned(), ..good.clone() };
            assert!(asked.validate().is_err(), "{term:?}");
        }
        for idle_limit_ms in [1, 999, MAX_IDLE_LIMIT_MS + 1] {
            assert!(OpenTerminal { idle_limit_ms, ..good.clone() }.validate().is_err());
        }
        assert!(OpenTerminal { command: Some(Vec::new()), ..good.clone() }.validate().is_err());
        assert!(OpenTerminal { cwd: Some("srv".to_owned()), ..good }.validate().is_err());
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let asked: OpenTerminal = serde_json::from_str("{}").expect("nothing is needed");
        assert_eq!(asked, OpenTerminal::default());
        assert!(serde_json::from_str::<OpenTerminal>(r#"{"colums": 3}"#).is_err());
    }
}
