//! `log_read`: what the machine's logs say, from the journal or from files, once or for as long as it
//! is followed. Changes nothing. The answer is JSON lines on stdout, one [`LogRecord`] each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, RemotePath, Work};

/// Patterns, units and matches of one request, each.
const MAX_SOURCES: usize = 64;
/// Bytes of a regular expression.
const MAX_PATTERN: usize = 4096;
/// Bytes of a unit's name or a match. systemd itself takes 255 for a name.
const MAX_NAME: usize = 1024;
/// Places to go on from. A request has to fit into one frame with them.
const MAX_AFTER: usize = 256;
/// Bytes of all of them together.
const MAX_AFTER_BYTES: usize = 40 * 1024;

/// Read logs: the journal's, unless `files` are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LogRead {
    /// Paths of log files; `*`, `?`, `[…]` and `**` stand for what they do in a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub files: Vec<RemotePath>,
    /// Units whose entries are wanted (`journalctl --unit`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<String>,
    /// The kernel's messages only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kernel: bool,
    /// Fields of the journal that have to match, `FIELD=value` (journalctl(1)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
    /// One boot: `0` is this one, `-1` the one before, or a boot id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Read the journal files in this folder instead of the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub journal_directory: Option<RemotePath>,
    /// From this time on, microseconds since 1970 by the machine's clock. Files that were rotated
    /// since then are read too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_us: Option<i64>,
    /// Up to and including this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<i64>,
    /// Only the last so many that fit, of the journal or of each file. With `follow`, before what
    /// comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Only lines in which this regular expression (syntax of the `regex` crate) finds something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Upper and lower case are the same to `grep`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// Only what is at least this urgent: 0 is an emergency, 3 an error, 7 debugging (syslog(3)). Of
    /// files, lines that name such a level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Take an entry of the journal for as urgent as its text says, when that is more than its
    /// priority: what programs print ends up there as `info`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub levels_in_text: bool,
    /// Go on with what comes, until cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// A cursor with every record, to go on from it later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cursors: bool,
    /// The last cursors seen, by the `place` they came with. What was there before is left out, and
    /// `since_us` and `lines` say nothing. Places of one source may be several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<String, String>,
}

impl Operation for LogRead {
    const NAME: &'static str = "log_read";
}

impl Work for LogRead {
    fn effect(&self) -> Effect {
        Effect::Read
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        let invalid = |text: &str| Err(InvalidWork::Value(text.to_owned()));
        for path in self.files.iter().chain(&self.journal_directory) {
            path.check()?;
        }
        let of_journal = !self.units.is_empty()
            || !self.matches.is_empty()
            || self.kernel
            || self.boot.is_some()
            || self.journal_directory.is_some();
        if !self.files.is_empty() && of_journal {
            return invalid(
                "files and the journal are asked for apart: name either files, or units, kernel, \
                 matches, boot",
            );
        }
        if self.kernel && !self.units.is_empty() {
            return invalid("the kernel is no unit's: ask for it apart");
        }
        if self.files.len().max(self.units.len()).max(self.matches.len()) > MAX_SOURCES {
            return invalid("more than 64 files, units or matches are asked for at once");
        }
        let odd =
            |text: &String| text.is_empty() || text.len() > MAX_NAME || text.contains(['\0', '\n']);
        if self.units.iter().chain(&self.matches).chain(&self.boot).any(odd) {
            return invalid("a unit, match or boot is empty, too long, or holds a line's end");
        }
        let is_field = |text: &String| {
            text.split_once('=').is_some_and(|(field, _)| {
                let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                !field.is_empty() && field.chars().all(plain)
            })
        };
        if !self.matches.iter().all(is_field) {
            return invalid("a match is written as FIELD=value, such as SYSLOG_IDENTIFIER=sshd");
        }
        if let Some(boot) = &self.boot {
            let id = boot.len() == 32 && boot.chars().all(|c| c.is_ascii_hexdigit());
            if !id && boot.parse::<i32>().is_err() {
                return invalid("a boot is a number such as 0 or -1, or an id of 32 digits");
            }
        }
        if self.grep.as_ref().is_some_and(|text| text.len() > MAX_PATTERN) {
            return invalid("the regular expression is longer than 4096 bytes");
        }
        if self.priority.is_some_and(|priority| priority > 7) {
            return invalid("a priority is 0 (emerg) to 7 (debug)");
        }
        if let (Some(since), Some(until)) = (self.since_us, self.until_us)
            && since > until
        {
            return invalid("the time to begin with is after the time to end with");
        }
        if self.follow && self.until_us.is_some() {
            return invalid("what is followed has no end: leave out either follow or until");
        }
        let bytes: usize =
            self.after.iter().map(|(place, cursor)| place.len() + cursor.len()).sum();
        if self.after.len() > MAX_AFTER || bytes > MAX_AFTER_BYTES {
            return invalid("there are more places to go on from than fit into a request");
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let what = if !self.files.is_empty() {
            let names: Vec<String> = self.files.iter().map(RemotePath::display).collect();
            names.join(", ")
        } else if self.kernel {
            "the kernel".to_owned()
        } else if self.units.is_empty() {
            "the journal".to_owned()
        } else {
            self.units.join(", ")
        };
        let verb = if self.follow { "follow" } else { "read" };
        match &self.grep {
            Some(pattern) => format!("{verb} logs of {what} for {pattern:?}"),
            None => format!("{verb} logs of {what}"),
        }
    }
}

/// One line of the answer. With `text` or `hex` it is an entry of a log; without, it only says how far
/// its source has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogRecord {
    /// When, microseconds since 1970 by the machine's clock.
    pub time_us: i64,
    /// Where the time is from, when the entry itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_from: Option<TimeFrom>,
    /// What it is from: a file's path, a unit, or who else wrote it to the journal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Its text when that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes in hexadecimal when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// How long it is, bytes, when only its beginning is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// How urgent it is, 0 to 7 (syslog(3)); of a file's line what its text says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The process that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What that called itself (`SYSLOG_IDENTIFIER`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The host that the journal names, when files of others are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// To go on behind this record: opaque, together with `place`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What the cursor is a place in. A later cursor of the same place replaces an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// That everything that was there when a follow began has been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub caught_up: bool,
    /// That a place is done with: its cursor is of no use any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

/// Where a record's time is from, if not from the record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TimeFrom {
    /// The last line before it that has one: lines of one entry.
    Before,
    /// There is none: it is when the line was read.
    Read,
}

impl LogRecord {
    /// Whether it is an entry of a log, and not only a word on how far one was read.
    #[must_use]
    pub fn is_entry(&self) -> bool {
        self.text.is_some() || self.hex.is_some()
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        if let Some(text) = &self.text {
            return text.clone().into_bytes();
        }
        let digits = self.hex.as_deref().unwrap_or_default().as_bytes();
        let value = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks_exact(2).filter_map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut LogRead)) -> bool {
        let mut request = LogRead::default();
        change(&mut request);
        request.validate().is_err()
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        assert!(LogRead::default().validate().is_ok());
        assert!(!refused(|r| r.units = vec!["-x.service".to_owned()]));
        assert!(refused(|r| r.files = vec!["var/log".into()]));
        assert!(refused(|r| {
            r.files = vec!["/var/log/a".into()];
            r.kernel = true;
        }));
        assert!(refused(|r| r.units = vec![String::new()]));
        assert!(refused(|r| r.matches = vec!["--flush".to_owned()]));
        assert!(!refused(|r| r.matches = vec!["_PID=1".to_owned()]));
        assert!(refused(|r| r.boot = Some("yesterday".to_owned())));
        assert!(!refused(|r| r.boot = Some("-1".to_owned())));
        assert!(refused(|r| r.priority = Some(8)));
        assert!(refused(|r| (r.since_us, r.until_us) = (Some(2), Some(1))));
        assert!(refused(|r| (r.follow, r.until_us) = (true, Some(1))));
        assert!(refused(|r| r.grep = Some("x".repeat(5000))));
        assert!(refused(|r| {
            r.after = (0..300).map(|n| (n.to_string(), String::new())).collect();
        }));
    }

    #[test]
    fn bytes_of_a_record_come_back_whatever_they_are() {
        let record = LogRecord { hex: Some("ff00".to_owned()), ..LogRecord::default() };
        assert_eq!(record.bytes(), [0xFF, 0]);
        assert!(record.is_entry() && !LogRecord::default().is_entry());
    }
}
