//! `reeve files find`.

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use reeve_protocol::ops::{FileEntry, FileFind, FileKind};

use super::asking::{Asker, combine, read_line};
use super::shown::{
    On, is_document, mode_text, painted, print_documents, shown, size_text, time_text, write,
};
use crate::args::{Format, Global};
use crate::commands::run::parse_size;
use crate::durations;
use crate::failure::Failure;
use crate::output::{json_line, print};
use crate::target::Remote;
use crate::terminal::{Screen, escape};

const EXAMPLES: &str = "\
Examples:
  reeve files find web-1:/etc -n '*.conf' --newer 2h
  reeve files find 'role=web:/var' --kind f --larger 100M -l
  reeve files find web-1:/srv -n 'releases/*/log/**' -x .git -0 | xargs -0 …";

/// Find files by name, kind, size, age and owner
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Find {
    /// MACHINE:/PATH or SELECTOR:/PATH
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// Glob of the name, or with a '/' of the path below; any of them
    #[arg(short, long, value_name = "GLOB")]
    name: Vec<String>,
    /// Leave out what this glob fits, folders with all in them
    #[arg(short = 'x', long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Capitals do not matter in globs
    #[arg(short, long, hide_short_help = true)]
    ignore_case: bool,
    /// f file, d directory, l link, p fifo, s socket, c, b device
    #[arg(short, long, value_name = "KIND", hide_possible_values = true)]
    kind: Vec<Kind>,
    /// Of at least this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    larger: Option<u64>,
    /// Of at most this size
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    smaller: Option<u64>,
    /// Modified within this time, or since 2026-03-01T12:00Z
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    newer: Option<Duration>,
    /// Not modified within this time
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older: Option<Duration>,
    /// That this user owns
    #[arg(long, value_name = "USER", hide_short_help = true)]
    owner: Option<String>,
    /// So many folders deep
    #[arg(short = 'd', long, value_name = "DEPTH")]
    max_depth: Option<u32>,
    /// No names that begin with a dot
    #[arg(long, hide_short_help = true)]
    no_hidden: bool,
    /// Stay on one file system
    #[arg(long, hide_short_help = true)]
    one_file_system: bool,
    /// So many per machine
    #[arg(long, value_name = "COUNT", hide_short_help = true)]
    limit: Option<u64>,
    /// With mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Names as they are, each with a NUL behind it
    #[arg(short = '0', long, conflicts_with = "long", hide_short_help = true)]
    print0: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    #[value(aliases = ["f"])]
    File,
    #[value(aliases = ["d", "folder", "dir"])]
    Directory,
    #[value(aliases = ["l", "symlink"])]
    Link,
    #[value(aliases = ["p"])]
    Fifo,
    #[value(aliases = ["s"])]
    Socket,
    #[value(aliases = ["c"])]
    CharacterDevice,
    #[value(aliases = ["b"])]
    BlockDevice,
}

impl From<Kind> for FileKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Directory => Self::Directory,
            Kind::Link => Self::Symlink,
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
            Kind::CharacterDevice => Self::CharacterDevice,
            Kind::BlockDevice => Self::BlockDevice,
        }
    }
}

/// A duration, or the time since a moment.
fn parse_age(text: &str) -> Result<Duration, String> {
    if let Ok(duration) = durations::parse(text) {
        return Ok(duration);
    }
    let at: Timestamp = text.parse().or_else(|_| parse_here(text))?;
    let since = Timestamp::now().as_second().saturating_sub(at.as_second());
    u64::try_from(since).map(Duration::from_secs).map_err(|_| "that is in the future".to_owned())
}

/// A date, or date and time, where this program runs.
fn parse_here(text: &str) -> Result<Timestamp, String> {
    let wrong = || "write it as 2h, 3days, 2026-03-01 or 2026-03-01T12:00Z".to_owned();
    let at: jiff::civil::DateTime = text.parse().map_err(|_| wrong())?;
    at.to_zoned(jiff::tz::TimeZone::system()).map(|at| at.timestamp()).map_err(|_| wrong())
}

impl Find {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let screen = Screen::stdout(global.color);
        let mut codes = Vec::new();
        let mut all: Vec<serde_json::Value> = Vec::new();
        for target in &self.targets {
            let mut print_line = |machine: &str, line: &[u8]| {
                let entry: FileEntry = read_line(machine, line)?;
                let prefix = asker.prefix_of(machine);
                if self.print0 {
                    write(prefix.as_bytes())?;
                    write(entry.path.as_bytes())?;
                    write(b"\0")?;
                    return Ok(());
                }
                match global.output {
                    Format::Jsonl => print(&json_line(&On { machine, item: &entry })?),
                    Format::Json | Format::Yaml => {
                        let value = serde_json::to_value(On { machine, item: &entry })
                            .map_err(|error| Failure::new(error.to_string()))?;
                        all.push(value);
                        Ok(())
                    }
                    Format::Table | Format::Wide | Format::Name => {
                        let name = format!("{prefix}{}", shown(&entry.path));
                        let is_long = self.long || global.output == Format::Wide;
                        print(&self.line(screen, &entry, &name, is_long))
                    }
                }
            };
            let answers = asker.stream(&target.selector, self.ask(target), &mut print_line).await?;
            codes.push(asker.conclude(&answers));
        }
        std::io::stdout().flush()?;
        if is_document(global.output) && global.output != Format::Jsonl {
            print_documents(global.output, &all)?;
        }
        Ok(combine(&codes))
    }

    fn ask(&self, target: &Remote) -> FileFind {
        FileFind {
            globs: self.name.clone(),
            exclude: self.exclude.clone(),
            ignore_case: self.ignore_case,
            kinds: self.kind.iter().map(|kind| FileKind::from(*kind)).collect(),
            min_size: self.larger,
            max_size: self.smaller,
            newer_than_s: self.newer.map(|age| age.as_secs()),
            older_than_s: self.older.map(|age| age.as_secs()),
            owner: self.owner.clone(),
            max_depth: self.max_depth,
            skip_hidden: self.no_hidden,
            one_file_system: self.one_file_system,
            limit: self.limit,
            ..FileFind::new(target.path.clone())
        }
    }

    fn line(&self, screen: Screen, entry: &FileEntry, name: &str, is_long: bool) -> String {
        let name = painted(screen, entry, name);
        if !is_long {
            return name + "\n";
        }
        // Lines come one by one, so columns are as wide as is usual.
        let owner = entry.user.as_ref().map_or_else(|| entry.uid.to_string(), |it| escape(it));
        let target = entry.target.as_ref().map(|it| format!(" -> {}", shown(it)));
        format!(
            "{} {owner:<10} {:>10} {} {name}{}\n",
            mode_text(entry.kind, entry.mode),
            size_text(entry.size, false),
            time_text(entry.modified_ns),
            target.unwrap_or_default()
        )
    }
}
