//! `reeve logs`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_protocol::ops::{Failure as Refusal, LogRead, RemotePath};
use reeve_sdk::{LogEntry, LogEvent, LogFollow};

use super::completion::machine_names;
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::logs::errors::Errors;
use crate::logs::print::Printer;
use crate::logs::times;
use crate::output::print_list;
use crate::terminal::{Screen, note};
use crate::watch::Interrupts;

const EXAMPLES: &str = "\
Examples:
  reeve logs web-1 -u nginx --since 2h             a unit's entries of the last two hours
  reeve logs 'role=web' -f '/var/log/app/*.log' --grep upstream --follow
  reeve logs @all --errors --since 1d              errors in groups, new ones first";

/// Shown of each machine and file when nothing says from when on.
const USUAL_LINES: u64 = 100;
/// The same before a follow.
const LINES_BEFORE_FOLLOW: u64 = 10;
/// How long a coordinator may take to hear that nobody wants more.
const GOODBYE: Duration = Duration::from_secs(5);
/// Bytes that wait to be written.
const BUFFER: usize = 256 * 1024;

/// Show the logs of machines, merged in order of time
///
/// The journal of each machine, or with -f its files: names are expanded on the machine, files that were
/// rotated or compressed since --since are read too, and --follow goes on over rotation, restarts of
/// machines and the coordinator without leaving out or repeating a line. Searching is done on the
/// machines. Times are shown as the machine has them, and put in order by the coordinator's clock.
///
/// --errors shows no lines but groups of errors that are alike, with the number of them, the machines,
/// the first and the last and an example; those that were first seen since --new-since (or in the
/// second half of the time) come first.
///
/// A TIME is 2h (ago), 14:30, yesterday, 2026-11-21, '2026-11-21 14:30' or RFC 3339. A priority is emerg,
/// alert, crit, err, warning, notice, info, debug or 0 to 7.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Logs {
    /// web-1 | web-1,db-1 | web-* | role=web,env!=prod | @all
    #[arg(add = ArgValueCandidates::new(machine_names))]
    selector: String,
    /// Entries of this unit; again for more
    #[arg(short, long, value_name = "UNIT")]
    unit: Vec<String>,
    /// Lines of this file, or of files like /var/log/*.log
    #[arg(short, long, value_name = "PATH")]
    file: Vec<String>,
    /// Messages of the kernel
    #[arg(short, long)]
    kernel: bool,
    /// Entries with this field of the journal, FIELD=VALUE
    #[arg(long = "match", value_name = "MATCH", hide_short_help = true)]
    matches: Vec<String>,
    #[command(flatten)]
    sift: Sift,
}

/// Which entries, and how they are shown.
#[derive(Args)]
pub struct Sift {
    /// From then on
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    since: Option<i64>,
    /// Up to then
    #[arg(long, value_name = "TIME", value_parser = times::parse, hide_short_help = true)]
    until: Option<i64>,
    /// Only lines in which this regular expression finds something
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// Upper and lower case are the same to --grep
    #[arg(short, long, requires = "grep", hide_short_help = true)]
    ignore_case: bool,
    /// At least so urgent, such as err
    #[arg(short, long, value_name = "PRIORITY")]
    #[arg(hide_possible_values = true)]
    priority: Option<Priority>,
    /// Of this boot: 0 this one, -1 the one before
    #[arg(short, long, value_name = "BOOT", allow_hyphen_values = true, hide_short_help = true)]
    boot: Option<String>,
    /// The journal in this folder instead of the machine's own
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    journal_directory: Option<String>,
    /// The last so many of each machine and file, or all (100)
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_lines)]
    lines: Option<Lines>,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["until", "errors"])]
    follow: bool,
    /// Errors in groups of what is alike
    #[arg(long)]
    errors: bool,
    /// With --errors: what was first seen since then is new
    #[arg(long, value_name = "TIME", value_parser = times::parse, requires = "errors")]
    #[arg(hide_short_help = true)]
    new_since: Option<i64>,
    /// No machine names before lines
    #[arg(long, hide_short_help = true)]
    no_prefix: bool,
}

/// syslog(3)'s words, and what people write for them.
#[derive(Clone, Copy, ValueEnum)]
enum Priority {
    #[value(aliases = ["0", "panic"])]
    Emerg,
    #[value(alias = "1")]
    Alert,
    #[value(aliases = ["2", "critical"])]
    Crit,
    #[value(aliases = ["3", "error"])]
    Err,
    #[value(aliases = ["4", "warn"])]
    Warning,
    #[value(alias = "5")]
    Notice,
    #[value(alias = "6")]
    Info,
    #[value(alias = "7")]
    Debug,
}

#[derive(Clone, Copy)]
enum Lines {
    All,
    Last(u64),
}

fn parse_lines(text: &str) -> Result<Lines, String> {
    match text {
        "all" => Ok(Lines::All),
        number => number.parse().map(Lines::Last).map_err(|_| "a number, or all".to_owned()),
    }
}

impl Logs {
    /// What a unit logged.
    pub fn of_unit(selector: String, unit: String, sift: Sift) -> Self {
        Self {
            selector,
            unit: vec![unit],
            file: Vec::new(),
            kernel: false,
            matches: Vec::new(),
            sift,
        }
    }

    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        if global.output == Format::Name && !self.sift.errors {
            return Err(Failure::usage("-o name fits 'logs' only with --errors"));
        }
        if self.sift.follow && global.output == Format::Json {
            return Err(Failure::usage(
                "what is followed has no end to be one document; use -o jsonl",
            ));
        }
        let client = connect(global)?;
        let reads = self.reads()?;
        let mut interrupts = Interrupts::catch()?;
        let mut follow = client.logs(&self.selector, reads);
        let mut shown = Shown::new(&self, global);
        let mut outcome = Outcome::default();
        let ended = loop {
            let event = tokio::select! {
                biased;
                () = interrupts.next() => {
                    for entry in follow.drain() {
                        shown.entry(&entry)?;
                    }
                    // Closing the connections ends it, too.
                    let _ = tokio::time::timeout(GOODBYE, follow.cancel("interrupted")).await;
                    break exit::INTERRUPTED;
                }
                event = next(&mut follow, &mut shown) => event?,
            };
            match event {
                None => break outcome.code(),
                Some(LogEvent::Entry(entry)) => shown.entry(&entry)?,
                Some(other) => outcome.take(other, &mut shown, &self),
            }
        };
        shown.finish(global, self.sift.new_since)?;
        outcome.tell(ended);
        // A follow is ended by whoever wants no more of it.
        Ok(if ended == exit::INTERRUPTED && self.sift.follow { exit::OK } else { ended })
    }

    fn reads(&self) -> Result<Vec<LogRead>, Failure> {
        let lines = match self.sift.lines {
            Some(Lines::All) => None,
            Some(Lines::Last(count)) => Some(count),
            None if self.sift.since.is_some() || self.sift.errors => None,
            None if self.sift.follow => Some(LINES_BEFORE_FOLLOW),
            None if self.sift.grep.is_some() => None,
            None => Some(USUAL_LINES),
        };
        let priority = match self.sift.priority {
            Some(priority) => Some(priority as u8),
            None if self.sift.errors => Some(Priority::Err as u8),
            None => None,
        };
        let common = LogRead {
            since_us: self.sift.since,
            until_us: self.sift.until,
            lines,
            grep: self.sift.grep.clone(),
            ignore_case: self.sift.ignore_case,
            priority,
            levels_in_text: self.sift.errors,
            follow: self.sift.follow,
            ..LogRead::default()
        };
        let journal = LogRead {
            boot: self.sift.boot.clone(),
            matches: self.matches.clone(),
            journal_directory: self.sift.journal_directory.as_deref().map(RemotePath::from),
            ..common.clone()
        };
        let mut reads = Vec::new();
        if !self.file.is_empty() {
            let files = self.file.iter().map(|path| RemotePath::from(path.as_str())).collect();
            reads.push(LogRead { files, ..common });
        }
        if self.kernel {
            reads.push(LogRead { kernel: true, ..journal.clone() });
        }
        if !self.unit.is_empty() || !self.matches.is_empty() || reads.is_empty() {
            reads.push(LogRead { units: self.unit.clone(), ..journal });
        }
        for read in &reads {
            let checked = reeve_protocol::ops::Work::validate(read);
            checked.map_err(|error| Failure::usage(error.to_string()))?;
        }
        Ok(reads)
    }
}

/// The next event; what was written before goes out when there is none at once.
async fn next(follow: &mut LogFollow, shown: &mut Shown) -> Result<Option<LogEvent>, Failure> {
    let mut waiting = std::pin::pin!(follow.next());
    tokio::select! {
        biased;
        event = &mut waiting => return Ok(event?),
        () = tokio::task::yield_now() => {}
    }
    shown.flush()?;
    Ok(waiting.await?)
}

/// Where entries go.
struct Shown {
    printer: Printer,
    errors: Option<Errors>,
    out: io::BufWriter<io::Stdout>,
}

impl Shown {
    fn new(command: &Logs, global: &Global) -> Self {
        let screen = Screen::stdout(global.color);
        Self {
            printer: Printer::new(global.output, screen, false),
            errors: command.sift.errors.then(Errors::new),
            out: io::BufWriter::with_capacity(BUFFER, io::stdout()),
        }
    }

    fn entry(&mut self, entry: &LogEntry) -> Result<(), Failure> {
        if let Some(errors) = &mut self.errors {
            errors.add(entry);
            return Ok(());
        }
        let line = self.printer.entry(entry)?;
        Ok(self.out.write_all(line.as_bytes())?)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    fn finish(&mut self, global: &Global, new_since: Option<i64>) -> Result<(), Failure> {
        if let Some(errors) = self.errors.take() {
            let (total, beyond) = (errors.total, errors.beyond);
            let groups = errors.finish(new_since);
            print_list(global.output, &groups)?;
            note(&format!("{total} lines in {} groups", groups.len()));
            if beyond > 0 {
                note(&format!("{beyond} more lines were of other kinds than there is room for"));
            }
            return Ok(());
        }
        self.out.write_all(self.printer.end().as_bytes())?;
        self.flush()
    }
}

/// What became of the machines.
#[derive(Default)]
struct Outcome {
    ended: usize,
    failed: BTreeMap<String, Refusal>,
}

impl Outcome {
    fn take(&mut self, event: LogEvent, shown: &mut Shown, command: &Logs) {
        match event {
            LogEvent::Entry(_) => {}
            LogEvent::Machines(count) => {
                shown.printer.prefix = count > 1 && !command.sift.no_prefix
            }
            LogEvent::Warning { machine, warning } => note(&format!("{machine}: {warning}")),
            LogEvent::Ended { machine, failure } => {
                self.ended += 1;
                if let Some(failure) = failure {
                    self.failed.insert(machine, failure);
                }
            }
            LogEvent::OutOfOrder => {
                note("so much came at once that not all of it is in order of time");
            }
            LogEvent::Interrupted { why } => note(&format!("interrupted: {why}; going on")),
            LogEvent::Resumed => note("going on where it was"),
        }
    }

    /// 1 when a machine could not tell everything; of one machine that Reeve could not ask, 255.
    fn code(&self) -> u8 {
        if self.failed.is_empty() { exit::OK } else { exit::SOME_FAILED }
    }

    fn tell(&self, code: u8) {
        if code == exit::INTERRUPTED {
            return;
        }
        for (machine, failure) in &self.failed {
            note(&format!("{machine}: {failure}"));
        }
    }
}
