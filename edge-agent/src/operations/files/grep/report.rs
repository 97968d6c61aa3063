//! What a search says of one file.

use std::io;

use grep_matcher::Matcher;
use grep_regex::RegexMatcher;
use grep_searcher::{Searcher, Sink, SinkContext, SinkMatch};
use reeve_protocol::ops::file_grep::MAX_LINE_SENT;
use reeve_protocol::ops::{
    Failure, FileGrep, GrepBinary, GrepFound, GrepLine, GrepReport, GrepText, RemotePath,
};

use super::pieces::Inserted;
use crate::operations::files::lines::Lines;

/// Places in one line where a pattern fits that are told.
const MAX_SPANS: usize = 256;
/// Bytes before the first of them that are sent of a line that is too long.
const LEAD: usize = 1024;

/// Takes what a searcher finds in one file, and writes it.
pub struct Report<'a, 'o> {
    pub ask: &'a FileGrep,
    pub matcher: &'a RegexMatcher,
    pub path: &'a RemotePath,
    pub inserted: &'a Inserted,
    pub lines: &'a mut Lines<'o>,
    /// Lines or files of earlier files, for the limit.
    pub found_so_far: u64,
    /// Lines of this one.
    pub in_file: u64,
    /// A NUL byte was seen in it.
    pub is_binary: bool,
    /// The answer could not be written.
    pub failed: Option<Failure>,
}

impl Report<'_, '_> {
    /// Says what is said of the file as a whole; how much was found altogether.
    pub fn finish(mut self) -> Result<u64, Failure> {
        let path = || self.path.clone();
        let said = match self.ask.report {
            _ if self.in_file == 0 => None,
            GrepReport::Files => Some(GrepFound::File { path: path() }),
            GrepReport::Counts => Some(GrepFound::Count { path: path(), lines: self.in_file }),
            GrepReport::Lines if self.is_binary && self.ask.binary == GrepBinary::Name => {
                Some(GrepFound::Binary { path: path() })
            }
            GrepReport::Lines => None,
        };
        if let Some(said) = said {
            self.write(&said);
        }
        match self.failed {
            Some(failure) => Err(failure),
            None if self.ask.report == GrepReport::Lines => Ok(self.found_so_far + self.in_file),
            None => Ok(self.found_so_far + u64::from(self.in_file > 0)),
        }
    }

    fn write(&mut self, found: &GrepFound) {
        if self.failed.is_none() {
            self.failed = self.lines.write(found).err();
        }
    }

    fn is_full(&self) -> bool {
        self.failed.is_some()
            || self.ask.report == GrepReport::Lines
                && self.ask.limit.is_some_and(|limit| self.found_so_far + self.in_file >= limit)
    }

    fn line(&self, bytes: &[u8], offset: u64, number: Option<u64>, is_match: bool) -> GrepLine {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut all = Vec::new();
        if is_match && !self.ask.invert {
            let found = self.matcher.find_iter(bytes, |span| {
                all.push((span.start(), span.end()));
                all.len() < MAX_SPANS
            });
            if found.is_err() {
                all.clear();
            }
        }
        let (from, to) = window(bytes, all.first().map_or(0, |(start, _)| *start));
        let inside = |at: usize| at.clamp(from, to) - from;
        let spans = all
            .iter()
            .map(|(start, end)| (inside(*start) as u64, inside(*end) as u64))
            .filter(|(start, end)| start < end)
            .collect();
        let end = offset + bytes.len() as u64;
        let is_piece = self.inserted.is_at(end)
            || offset.checked_sub(1).is_some_and(|at| self.inserted.is_at(at));
        let before = self.inserted.before(offset);
        GrepLine {
            path: self.path.clone(),
            line: number.unwrap_or_default().saturating_sub(before),
            offset: (offset - before) + from as u64,
            text: GrepText::new(bytes.get(from..to).unwrap_or_default()),
            spans,
            cut: is_piece || to - from < bytes.len(),
        }
    }
}

/// What is sent of a line: all, or as much as may be, beginning a little before `first`; characters
/// stay whole.
fn window(bytes: &[u8], first: usize) -> (usize, usize) {
    if bytes.len() <= MAX_LINE_SENT {
        return (0, bytes.len());
    }
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    // A character has four bytes at the most; what goes on for longer is none.
    let whole = |at: usize| (0..4).map(|back| at.saturating_sub(back)).find(|at| !is_inside(*at));
    let from = first.saturating_sub(LEAD).min(bytes.len() - MAX_LINE_SENT);
    let from = whole(from).unwrap_or(from);
    let to = (from + MAX_LINE_SENT).min(bytes.len());
    (from, whole(to).unwrap_or(to))
}

impl Sink for Report<'_, '_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        if self.is_full() {
            return Ok(false);
        }
        self.in_file += 1;
        match self.ask.report {
            GrepReport::Files => return Ok(false),
            GrepReport::Counts => return Ok(true),
            GrepReport::Lines => {}
        }
        if self.is_binary && self.ask.binary == GrepBinary::Name {
            return Ok(false);
        }
        let offset = found.absolute_byte_offset();
        let line = self.line(found.bytes(), offset, found.line_number(), true);
        self.write(&GrepFound::Match(line));
        // Lines of context behind the last one still come.
        Ok(self.failed.is_none() && (self.ask.after > 0 || !self.is_full()))
    }

    fn context(&mut self, _: &Searcher, found: &SinkContext<'_>) -> Result<bool, io::Error> {
        if self.is_binary && self.ask.binary == GrepBinary::Name {
            return Ok(true);
        }
        let offset = found.absolute_byte_offset();
        let line = self.line(found.bytes(), offset, found.line_number(), false);
        self.write(&GrepFound::Context(line));
        Ok(self.failed.is_none())
    }

    fn context_break(&mut self, _: &Searcher) -> Result<bool, io::Error> {
        let path = self.path.clone();
        self.write(&GrepFound::Break { path });
        Ok(self.failed.is_none())
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> Result<bool, io::Error> {
        self.is_binary = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_around_the_first_match_and_characters_stay_whole() {
        assert_eq!(window(b"short", 2), (0, 5));
        let line = "é".repeat(MAX_LINE_SENT);
        for first in [0, 5001, line.len() - 1] {
            let (from, to) = window(line.as_bytes(), first);
            assert!(from <= first && to - from <= MAX_LINE_SENT + 1, "{from} {to}");
            assert!(line.is_char_boundary(from) && line.is_char_boundary(to), "{from} {to}");
        }
        let bytes = vec![0x80; MAX_LINE_SENT * 2];
        assert_eq!(window(&bytes, 2000), (2000 - LEAD, 2000 - LEAD + MAX_LINE_SENT));
    }
}
