//! `file_grep`.

mod pieces;
mod report;

use std::fs::File;
use std::time::Duration;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use reeve_protocol::ops::file_grep::{MAX_LINE_SEARCHED, MAX_PATTERN_BYTES};
use reeve_protocol::ops::{Failure, FileGrep, FileKind, GrepBinary, GrepReport, RemotePath};

use self::pieces::{Inserted, Pieces};
use self::report::Report;
use super::chosen::Chosen;
use super::lines::Lines;
use super::walk::{Bounds, LeftOut, Next, walk};
use crate::host::paths;
use crate::operations::worker::{self, Needs, Perform, Worker};

/// Memory for what is read of one file: a longest line, what is read ahead of it, and its context.
const HEAP_BYTES: usize = 4 * MAX_LINE_SEARCHED;
/// Memory of a compiled pattern, and of what it remembers while it searches.
const REGEX_BYTES: usize = 10 * 1024 * 1024;

impl Perform for FileGrep {
    const NEEDS: Needs = Needs::Files;
    /// Terabytes take their time.
    const LIMIT: Option<Duration> = Some(Duration::from_secs(6 * 3600));

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let matcher = build_matcher(&self)?;
        let mut searcher = build_searcher(&self);
        let chosen = Chosen::new(&self.globs, false)?;
        let exclude = Chosen::new(&self.exclude, false)?;
        let bounds = Bounds {
            exclude: &exclude,
            max_depth: self.max_depth,
            skip_hidden: self.skip_hidden,
            one_file_system: self.one_file_system,
        };
        let mut lines = Lines::new(&mut worker.stdout);
        let mut left_out = LeftOut::default();
        let mut found_so_far = 0;
        let done = walk(&worker.rules, &self.path, &bounds, &mut left_out, |found, left_out| {
            let is_base = found.path == &self.path;
            let about = &found.place.about;
            if about.kind != FileKind::File && (!is_base || about.is_folder()) {
                return Ok(Next::Further);
            }
            if !is_base && !chosen.is_empty() && !chosen.has(found.path, &self.path) {
                return Ok(Next::Further);
            }
            let file = match found.place.open_file(found.path) {
                Ok(file) => file,
                Err(failure) if is_base => return Err(failure),
                Err(failure) => {
                    left_out.add(&failure);
                    return Ok(Next::Further);
                }
            };
            let inserted = Inserted::default();
            let mut report = Report {
                ask: &self,
                matcher: &matcher,
                path: found.path,
                inserted: &inserted,
                lines: &mut lines,
                found_so_far,
                in_file: 0,
                is_binary: false,
                failed: None,
            };
            search(&mut searcher, &matcher, file, found.path, &mut report, left_out);
            found_so_far = report.finish()?;
            if inserted.is_used() {
                worker::tell(&Failure::at(
                    "long_lines",
                    found.path,
                    format!(
                        "{} has lines of more than {} MiB, which were searched in pieces",
                        found.path.display(),
                        MAX_LINE_SEARCHED / (1024 * 1024)
                    ),
                ));
            }
            if self.limit.is_some_and(|limit| found_so_far >= limit) {
                worker::tell(&Failure::new(
                    "limit",
                    format!("ended after {found_so_far}, as asked; there may be more"),
                ));
                return Ok(Next::Stop);
            }
            Ok(Next::Further)
        });
        left_out.tell();
        done
    }
}

fn search(
    searcher: &mut Searcher,
    matcher: &RegexMatcher,
    file: File,
    path: &RemotePath,
    report: &mut Report<'_, '_>,
    left_out: &mut LeftOut,
) {
    let pieces = Pieces::new(file, MAX_LINE_SEARCHED, report.inserted);
    if let Err(error) = searcher.search_reader(matcher, pieces, report) {
        left_out.add(&paths::describe(&error, path));
    }
}

fn build_matcher(ask: &FileGrep) -> Result<RegexMatcher, Failure> {
    RegexMatcherBuilder::new()
        .case_insensitive(ask.ignore_case)
        .word(ask.word)
        .fixed_strings(ask.fixed)
        .multi_line(true)
        .unicode(true)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .line_terminator(Some(b'\n'))
        .build(&ask.pattern)
        .map_err(|error| {
            // The library shows the pattern with a mark beneath it; one line has to do here.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let pattern: String = ask.pattern.chars().take(MAX_PATTERN_BYTES.min(200)).collect();
            Failure::new(
                "invalid_pattern",
                format!(
                    "'{}' is no regular expression: {why}; for plain text give fixed (-F)",
                    pattern.escape_debug()
                ),
            )
        })
}

fn build_searcher(ask: &FileGrep) -> Searcher {
    let wants_lines = ask.report == GrepReport::Lines;
    let context = |lines: u32| if wants_lines { lines as usize } else { 0 };
    SearcherBuilder::new()
        .invert_match(ask.invert)
        .line_number(wants_lines)
        .before_context(context(ask.before))
        .after_context(context(ask.after))
        .max_matches(ask.max_per_file)
        .heap_limit(Some(HEAP_BYTES))
        // Offsets are those of the file's own bytes, so nothing may be converted on the way.
        .bom_sniffing(false)
        .binary_detection(match ask.binary {
            GrepBinary::Skip => BinaryDetection::quit(0),
            GrepBinary::Name => BinaryDetection::convert(0),
            GrepBinary::Text => BinaryDetection::none(),
        })
        .build()
}
