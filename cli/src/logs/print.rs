//! One entry of a log for people, or for programs.

use reeve_sdk::LogEntry;
use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;
use crate::output::json_line;
use crate::terminal::{Screen, escape, escape_bytes};

/// Colours of machines' names, in turn (SGR).
const NAME_COLORS: [&str; 6] = ["36", "32", "35", "34", "33", "96"];

/// How entries are shown.
pub struct Printer {
    pub format: Format,
    pub screen: Screen,
    /// The machine's name before each line.
    pub prefix: bool,
    width: usize,
    first: bool,
}

/// An entry as programs get it.
#[derive(Serialize)]
struct Shown<'a> {
    machine: &'a str,
    /// RFC 3339, by the machine's clock.
    time: String,
    /// By the coordinator's clock.
    corrected_us: i64,
    #[serde(flatten)]
    record: &'a reeve_protocol::ops::LogRecord,
}

impl Printer {
    pub fn new(format: Format, screen: Screen, prefix: bool) -> Self {
        Self { format, screen, prefix, width: 0, first: true }
    }

    /// An entry with its line's end.
    pub fn entry(&mut self, entry: &LogEntry) -> Result<String, Failure> {
        match self.format {
            Format::Table | Format::Wide => Ok(self.line(entry)),
            Format::Yaml => {
                let text = serde_yaml_ng::to_string(&shown(entry))
                    .map_err(|error| Failure::new(format!("cannot write this format: {error}")))?;
                Ok(format!("---\n{text}"))
            }
            Format::Json => {
                let before = if std::mem::take(&mut self.first) { "[\n" } else { ",\n" };
                Ok(format!("{before}{}", json_line(&shown(entry))?.trim_end()))
            }
            Format::Jsonl | Format::Name => json_line(&shown(entry)),
        }
    }

    /// What comes behind the last entry.
    pub fn end(&mut self) -> &'static str {
        match self.format {
            Format::Json if self.first => "[]\n",
            Format::Json => "\n]\n",
            _ => "",
        }
    }

    fn line(&mut self, entry: &LogEntry) -> String {
        let record = &entry.record;
        let mut line = String::new();
        if self.prefix {
            self.width = self.width.max(entry.machine.chars().count().min(32));
            let name = format!("{:width$}", escape(&entry.machine), width = self.width);
            let index = entry.machine.bytes().map(usize::from).sum::<usize>() % NAME_COLORS.len();
            let color = NAME_COLORS.get(index).copied().unwrap_or("36");
            line.push_str(&self.screen.paint(color, &name));
            line.push_str("  ");
        }
        // A line of a file begins with its own time, if it has one.
        let is_file = record.source.starts_with('/');
        if !is_file || self.format == Format::Wide {
            line.push_str(&local(record.time_us));
            line.push(' ');
        }
        let mut who = String::new();
        if is_file {
            if self.format == Format::Wide {
                who.clone_from(&record.source);
            }
        } else {
            who = record.source.strip_suffix(".service").unwrap_or(&record.source).to_owned();
            if let Some(pid) = record.pid {
                who.push_str(&format!("[{pid}]"));
            }
        }
        if !who.is_empty() {
            line.push_str(&self.screen.paint("2", &escape(&who)));
            line.push_str(": ");
        }
        let mut text = escape_bytes(&record.bytes());
        if let Some(length) = record.length {
            text.push_str(&format!(" … ({length} bytes in all)"));
        }
        // Further lines of one entry stand below its first.
        let text = text.trim_end_matches('\n').replace('\n', "\n    ");
        line.push_str(&match record.priority {
            Some(0..=3) => self.screen.paint("31", &text),
            Some(4) => self.screen.paint("33", &text),
            Some(7) => self.screen.paint("2", &text),
            _ => text,
        });
        line.push('\n');
        line
    }
}

fn shown(entry: &LogEntry) -> Shown<'_> {
    let time = jiff::Timestamp::from_microsecond(entry.record.time_us)
        .map_or_else(|_| String::new(), |time| time.to_string());
    Shown { machine: &entry.machine, time, corrected_us: entry.corrected_us, record: &entry.record }
}

/// A time in the zone of whoever looks.
fn local(time_us: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_microsecond(time_us) else { return "?".to_owned() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_protocol::ops::LogRecord;

    fn entry(source: &str, text: &str) -> LogEntry {
        LogEntry {
            machine: "web-1".to_owned(),
            record: LogRecord {
                time_us: 1_795_250_049_000_000,
                source: source.to_owned(),
                text: Some(text.to_owned()),
                pid: Some(7),
                priority: Some(3),
                ..LogRecord::default()
            },
            corrected_us: 0,
        }
    }

    #[test]
    fn entries_are_lines_and_nothing_a_terminal_obeys() {
        let plain = Screen { terminal: false, color: false };
        let mut printer = Printer::new(Format::Table, plain, true);
        let line = printer.entry(&entry("/var/log/x", "a\x1b[2Jb\nc")).expect("a line");
        assert_eq!(line, "web-1  a^[[2Jb\n    c\n");
        let line = printer.entry(&entry("nginx.service", "text")).expect("a line");
        assert!(line.ends_with(" nginx[7]: text\n") && line.starts_with("web-1  202"), "{line}");
    }

    #[test]
    fn json_is_one_document() {
        let plain = Screen { terminal: false, color: false };
        let mut printer = Printer::new(Format::Json, plain, true);
        let mut text = String::new();
        for _ in 0..2 {
            text.push_str(&printer.entry(&entry("a", "b")).expect("JSON"));
        }
        text.push_str(printer.end());
        let document: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a document");
        assert_eq!((document.len(), &document[0]["time"]), (2, &"2026-11-21T08:34:09Z".into()));
        assert_eq!(Printer::new(Format::Json, plain, true).end(), "[]\n");
    }
}
