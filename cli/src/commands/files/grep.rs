//! `reeve files grep`.

use std::io::Write;

use clap::{Args, ValueEnum};
use reeve_protocol::ops::{FileGrep, GrepBinary, GrepFound, GrepLine, GrepReport};

use super::asking::{Asker, read_line};
use super::shown::{On, is_document, print_documents, shown};
use crate::args::{Format, Global};
use crate::exit;
use crate::failure::Failure;
use crate::output::{json_line, print};
use crate::target::Remote;
use crate::terminal::{Screen, escape_bytes};

const EXAMPLES: &str = "\
Examples:
  reeve files grep -i 'out of memory' web-1:/var/log -g '*.log'
  reeve files grep -F -C3 'a.b[0]' 'role=web:/srv/app' -x .git
Exit: 0 a line fits, 1 none does, 2 a machine could not search, 255 Reeve failed.";

/// A machine could not search all of it, as grep(1) says it.
const TROUBLE: u8 = 2;

/// Search files for a pattern
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Grep {
    /// A regular expression (as Rust's regex crate has them)
    pattern: String,
    /// MACHINE:/PATH or SELECTOR:/PATH; folders with all in them
    #[arg(required = true, value_name = "TARGET", value_parser = Remote::parser())]
    targets: Vec<Remote>,
    /// The pattern is plain text
    #[arg(short = 'F', long)]
    fixed_strings: bool,
    /// Capitals do not matter
    #[arg(short, long)]
    ignore_case: bool,
    /// Whole words
    #[arg(short, long, hide_short_help = true)]
    word_regexp: bool,
    /// Lines that do not fit
    #[arg(long)]
    invert_match: bool,
    /// Lines before and after
    #[arg(short = 'C', long = "around", value_name = "LINES", default_value_t = 0)]
    #[arg(hide_default_value = true)]
    around: u32,
    /// Lines after
    #[arg(short = 'A', long, value_name = "LINES", hide_short_help = true)]
    after_context: Option<u32>,
    /// Lines before
    #[arg(short = 'B', long, value_name = "LINES", hide_short_help = true)]
    before_context: Option<u32>,
    /// Only files this glob fits
    #[arg(short, long, value_name = "GLOB")]
    glob: Vec<String>,
    /// No files or folders this glob fits
    #[arg(short = 'x', long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Names of files alone
    #[arg(short = 'l', long)]
    files_with_matches: bool,
    /// How many lines fit, by file
    #[arg(short, long, conflicts_with = "files_with_matches")]
    count: bool,
    /// So many lines per file
    #[arg(short, long, value_name = "COUNT", hide_short_help = true)]
    max_count: Option<u64>,
    /// So many lines per machine
    #[arg(long, value_name = "COUNT", hide_short_help = true)]
    limit: Option<u64>,
    /// So many folders deep
    #[arg(short = 'd', long, value_name = "DEPTH", hide_short_help = true)]
    max_depth: Option<u32>,
    /// No names that begin with a dot
    #[arg(long, hide_short_help = true)]
    no_hidden: bool,
    /// Stay on one file system
    #[arg(long, hide_short_help = true)]
    one_file_system: bool,
    /// Files with NUL bytes: name (that one fits), skip or text
    #[arg(long, value_name = "HOW", default_value = "name", hide_short_help = true)]
    binary: Binary,
    /// No line numbers
    #[arg(long, hide_short_help = true)]
    no_line_number: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Binary {
    Name,
    Skip,
    Text,
}

impl Grep {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        // Everywhere in reeve -v says more; whoever is used to grep(1) means something else here.
        let in_full = || std::env::args_os().any(|word| word == "--verbose");
        if global.verbose > 0 && !in_full() {
            return Err(Failure::usage(
                "for lines that do not fit give --invert-match; for more words about what fails \
                 write --verbose in full",
            ));
        }
        let asker = Asker::new(global, &self.targets.iter().collect::<Vec<_>>())?;
        let screen = Screen::stdout(global.color);
        let mut found_any = false;
        let mut in_trouble = false;
        let mut all: Vec<serde_json::Value> = Vec::new();
        for target in &self.targets {
            let mut print_line = |machine: &str, line: &[u8]| {
                let found: GrepFound = read_line(machine, line)?;
                found_any = true;
                match global.output {
                    Format::Jsonl => print(&json_line(&On { machine, item: &found })?),
                    Format::Json | Format::Yaml => {
                        let value = serde_json::to_value(On { machine, item: &found })
                            .map_err(|error| Failure::new(error.to_string()))?;
                        all.push(value);
                        Ok(())
                    }
                    Format::Table | Format::Wide | Format::Name => {
                        print(&self.line(screen, &asker.prefix_of(machine), &found))
                    }
                }
            };
            let ask = self.ask(target, global.output);
            let answers = asker.stream(&target.selector, ask, &mut print_line).await?;
            asker.conclude(&answers);
            in_trouble |= answers.iter().any(|answer| answer.failure.is_some());
        }
        std::io::stdout().flush()?;
        if is_document(global.output) && global.output != Format::Jsonl {
            print_documents(global.output, &all)?;
        }
        Ok(match (in_trouble, found_any) {
            (true, _) => TROUBLE,
            (false, true) => exit::OK,
            (false, false) => exit::SOME_FAILED,
        })
    }

    fn ask(&self, target: &Remote, format: Format) -> FileGrep {
        FileGrep {
            fixed: self.fixed_strings,
            ignore_case: self.ignore_case,
            word: self.word_regexp,
            invert: self.invert_match,
            before: self.before_context.unwrap_or(self.around),
            after: self.after_context.unwrap_or(self.around),
            globs: self.glob.clone(),
            exclude: self.exclude.clone(),
            max_depth: self.max_depth,
            skip_hidden: self.no_hidden,
            one_file_system: self.one_file_system,
            report: if self.files_with_matches || format == Format::Name {
                GrepReport::Files
            } else if self.count {
                GrepReport::Counts
            } else {
                GrepReport::Lines
            },
            binary: match self.binary {
                Binary::Name => GrepBinary::Name,
                Binary::Skip => GrepBinary::Skip,
                Binary::Text => GrepBinary::Text,
            },
            max_per_file: self.max_count,
            limit: self.limit,
            ..FileGrep::new(target.path.clone(), self.pattern.clone())
        }
    }

    fn line(&self, screen: Screen, prefix: &str, found: &GrepFound) -> String {
        let name = |path| format!("{prefix}{}", screen.paint("35", &shown(path)));
        match found {
            GrepFound::Match(line) => self.text(screen, &name(&line.path), line, ':'),
            GrepFound::Context(line) => self.text(screen, &name(&line.path), line, '-'),
            GrepFound::Break { .. } => "--\n".to_owned(),
            GrepFound::File { path } => name(path) + "\n",
            GrepFound::Count { path, lines } => format!("{}:{lines}\n", name(path)),
            GrepFound::Binary { path } => {
                format!("{}: binary file matches\n", name(path))
            }
        }
    }

    fn text(&self, screen: Screen, name: &str, line: &GrepLine, mark: char) -> String {
        let mut text = format!("{name}{mark}");
        if !self.no_line_number {
            text.push_str(&screen.paint("32", &line.line.to_string()));
            text.push(mark);
        }
        let bytes = line.text.as_bytes();
        let mut at = 0;
        for (start, end) in &line.spans {
            let (Ok(start), Ok(end)) = (usize::try_from(*start), usize::try_from(*end)) else {
                continue;
            };
            if start < at || end < start {
                continue;
            }
            text.push_str(&escape_bytes(bytes.get(at..start).unwrap_or_default()));
            let hit = escape_bytes(bytes.get(start..end).unwrap_or_default());
            text.push_str(&screen.paint("1;31", &hit));
            at = end;
        }
        text.push_str(&escape_bytes(bytes.get(at..).unwrap_or_default()));
        if line.cut {
            text.push_str(" […]");
        }
        text.push('\n');
        text
    }
}
