//! Which lines are wanted.

use grep_matcher::Matcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{Searcher, SearcherBuilder, Sink, SinkMatch};
use reeve_protocol::ops::{Failure, LogRead};

/// What is asked of each line.
#[derive(Debug)]
pub struct Filter {
    grep: Option<RegexMatcher>,
    /// Microseconds since 1970.
    pub since: Option<i64>,
    /// The last microsecond wanted.
    pub until: Option<i64>,
    /// At least so urgent.
    pub priority: Option<u8>,
}

impl Filter {
    /// As the request says.
    ///
    /// # Errors
    /// When the regular expression is none.
    pub fn new(request: &LogRead) -> Result<Self, Failure> {
        let grep = match &request.grep {
            None => None,
            Some(pattern) => Some(
                RegexMatcherBuilder::new()
                    .multi_line(true)
                    .case_insensitive(request.ignore_case)
                    .line_terminator(Some(b'\n'))
                    .build(pattern)
                    .map_err(|error| {
                        Failure::new("invalid", format!("the regular expression: {error}"))
                    })?,
            ),
        };
        Ok(Self {
            grep,
            since: request.since_us,
            until: request.until_us,
            priority: request.priority,
        })
    }

    /// Whether the regular expression finds something in the text.
    #[must_use]
    pub fn finds(&self, text: &[u8]) -> bool {
        // Searching bytes in memory cannot fail.
        self.grep.as_ref().is_none_or(|grep| grep.is_match(text).unwrap_or(false))
    }

    /// Whether there is a regular expression.
    #[must_use]
    pub fn greps(&self) -> bool {
        self.grep.is_some()
    }

    /// Whether a time is within what is wanted.
    #[must_use]
    pub fn is_in_time(&self, time_us: i64) -> bool {
        self.since.is_none_or(|since| time_us >= since)
            && self.until.is_none_or(|until| time_us <= until)
    }

    /// Whether a level is urgent enough. What names none is not, when one is asked for.
    #[must_use]
    pub fn is_urgent(&self, level: Option<u8>) -> bool {
        self.priority.is_none_or(|priority| level.is_some_and(|level| level <= priority))
    }
}

/// Finds lines in whole blocks of them, which is many times quicker than asking line by line.
#[derive(Debug)]
pub struct BlockSearch(Searcher);

impl Default for BlockSearch {
    fn default() -> Self {
        // A block is no file: what looks like the mark of UTF-16 at its beginning is none.
        Self(SearcherBuilder::new().line_number(false).bom_sniffing(false).build())
    }
}

/// Collects where matching lines begin and how long they are, with their line's end.
struct Places<'a>(&'a mut Vec<(usize, usize)>);

impl Sink for Places<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        let at = usize::try_from(found.absolute_byte_offset()).unwrap_or(usize::MAX);
        self.0.push((at, found.bytes().len()));
        Ok(true)
    }
}

impl BlockSearch {
    /// Where in a block of whole lines the wanted ones are: where each begins, and its length with
    /// its end.
    pub fn find(&mut self, filter: &Filter, block: &[u8], places: &mut Vec<(usize, usize)>) {
        places.clear();
        match &filter.grep {
            Some(grep) => {
                // Searching bytes in memory cannot fail.
                let _ = self.0.search_slice(grep, block, Places(places));
            }
            None => {
                let mut from = 0;
                for end in memchr::memchr_iter(b'\n', block) {
                    places.push((from, end + 1 - from));
                    from = end + 1;
                }
                if from < block.len() {
                    places.push((from, block.len() - from));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: Option<&str>, ignore_case: bool, block: &[u8]) -> Vec<String> {
        let request =
            LogRead { grep: pattern.map(str::to_owned), ignore_case, ..LogRead::default() };
        let filter = Filter::new(&request).expect("a filter");
        let mut places = Vec::new();
        BlockSearch::default().find(&filter, block, &mut places);
        places
            .iter()
            .map(|(at, length)| String::from_utf8_lossy(&block[*at..at + length]).into_owned())
            .collect()
    }

    #[test]
    fn blocks_are_searched_line_by_line() {
        let block = b"one Error\ntwo\n\nthree error\xff\nlast";
        assert_eq!(found(None, false, block).len(), 5);
        assert_eq!(found(Some("error"), false, block), ["three error\u{fffd}\n"]);
        assert_eq!(found(Some("error"), true, block).len(), 2);
        assert_eq!(found(Some("^$"), false, block), ["\n"]);
        assert_eq!(found(Some("t$"), false, block), ["last"]);
        // Nothing is taken for UTF-16.
        assert_eq!(found(Some("error"), false, b"\xff\xfe error 1\nerror 2\n").len(), 2);
        // Nothing is found across lines.
        assert!(found(Some(r"two\s+three"), false, block).is_empty());
    }

    #[test]
    fn what_is_no_expression_is_said() {
        let request = LogRead { grep: Some("(".to_owned()), ..LogRead::default() };
        assert_eq!(Filter::new(&request).expect_err("no expression").code, "invalid");
    }
}
