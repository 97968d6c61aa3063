//! The wanted lines of one source, in order.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use reeve_protocol::ops::TimeFrom;

use super::filter::{BlockSearch, Filter};
use super::levels;
use super::lines::{Block, Lines};
use super::times::Times;
use crate::host;

/// Lines before one that has no time of its own which are asked for theirs.
const LOOK_BACK: usize = 256;

/// What all sources of one request share.
pub struct Tools<'a> {
    pub filter: &'a Filter,
    pub times: Times,
    pub search: BlockSearch,
    places: Vec<(usize, usize)>,
}

impl<'a> Tools<'a> {
    /// For one request.
    #[must_use]
    pub fn new(filter: &'a Filter, times: Times) -> Self {
        Self { filter, times, search: BlockSearch::default(), places: Vec::new() }
    }
}

/// A wanted line.
#[derive(Clone, Debug)]
pub struct Hit {
    text: Text,
    /// The offset of its first byte.
    pub from: u64,
    /// The offset behind it.
    pub next: u64,
    pub time_us: i64,
    pub time_from: Option<TimeFrom>,
    pub level: Option<u8>,
    /// Its length when only its beginning is here.
    pub length: Option<u64>,
}

#[derive(Clone, Debug)]
enum Text {
    /// From, to, in the block.
    InBlock(usize, usize),
    Own(Vec<u8>),
}

/// Goes through lines for the wanted ones.
pub struct Scan {
    /// Where they come from.
    pub lines: Lines,
    hits: VecDeque<Hit>,
    /// What the last line that said so said of time and level.
    last_time: Option<i64>,
    last_level: Option<u8>,
}

impl Scan {
    /// Through these lines.
    #[must_use]
    pub fn new(lines: Lines) -> Self {
        Self { lines, hits: VecDeque::new(), last_time: None, last_level: None }
    }

    /// The next wanted line, which stays the next one.
    ///
    /// # Errors
    /// What reading says.
    pub fn peek(&mut self, tools: &mut Tools<'_>, last: bool) -> io::Result<Option<&Hit>> {
        while self.hits.is_empty() {
            match self.lines.next(last)? {
                None => return Ok(None),
                Some(Block::Lines) => self.take_block(tools),
                Some(Block::Cut { head, length, from, next }) => {
                    self.take_cut(tools, head, length, from..next);
                }
            }
        }
        Ok(self.hits.front())
    }

    /// Takes it.
    pub fn pop(&mut self) -> Option<Hit> {
        self.hits.pop_front()
    }

    /// The bytes of a line that was peeked or popped, before the next block is read.
    #[must_use]
    pub fn text<'a>(&'a self, hit: &'a Hit) -> &'a [u8] {
        match &hit.text {
            Text::InBlock(from, to) => self.lines.block().get(*from..*to).unwrap_or_default(),
            Text::Own(bytes) => bytes,
        }
    }

    /// Takes no longer what came before for the time of what comes: another file begins.
    pub fn replace(&mut self, lines: Lines) {
        self.lines = lines;
        self.hits.clear();
    }

    fn take_block(&mut self, tools: &mut Tools<'_>) {
        let block = self.lines.block();
        let base = self.lines.base();
        let mut places = std::mem::take(&mut tools.places);
        let in_turn = tools.filter.priority.is_some() || !tools.filter.greps();
        if in_turn {
            // Every line is looked at, so each knows what the one before said.
            memchr_lines(block, &mut places);
        } else {
            tools.search.find(tools.filter, block, &mut places);
        }
        let (mut time, mut level) = (self.last_time, self.last_level);
        for (from, length) in &places {
            let line = block.get(*from..from + length).unwrap_or_default();
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let own = tools.times.find(text);
            let named = levels::find(text);
            if in_turn {
                // A line with a time begins an entry; what follows without one belongs to it.
                if own.is_some() || named.is_some() {
                    level = named;
                }
                if !tools.filter.is_urgent(named.or(level)) || !tools.filter.finds(text) {
                    time = own.or(time);
                    continue;
                }
            } else if own.is_none() {
                time = look_back(tools, block, *from).or(self.last_time);
            }
            time = own.or(time);
            let (time_us, time_from) = settle(own, time);
            if time_from == Some(TimeFrom::Read) || tools.filter.is_in_time(time_us) {
                self.hits.push_back(Hit {
                    text: Text::InBlock(*from, from + text.len()),
                    from: base + *from as u64,
                    next: base + (from + length) as u64,
                    time_us,
                    time_from,
                    level: if in_turn { named.or(level) } else { named },
                    length: None,
                });
            }
        }
        if !in_turn {
            time = look_back(tools, block, block.len()).or(self.last_time);
        }
        tools.places = places;
        (self.last_time, self.last_level) = (time, level);
    }

    fn take_cut(&mut self, tools: &mut Tools<'_>, head: Vec<u8>, length: u64, at: Range<u64>) {
        let own = tools.times.find(&head);
        let level = levels::find(&head);
        self.last_time = own.or(self.last_time);
        let (time_us, time_from) = settle(own, self.last_time);
        let wanted = tools.filter.is_urgent(level)
            && tools.filter.finds(&head)
            && (time_from == Some(TimeFrom::Read) || tools.filter.is_in_time(time_us));
        if wanted {
            let text = Text::Own(head);
            let length = Some(length);
            let (from, next) = (at.start, at.end);
            self.hits.push_back(Hit { text, from, next, time_us, time_from, level, length });
        }
    }
}

fn settle(own: Option<i64>, before: Option<i64>) -> (i64, Option<TimeFrom>) {
    match (own, before) {
        (Some(time), _) => (time, None),
        (None, Some(time)) => (time, Some(TimeFrom::Before)),
        (None, None) => (host::now_us(), Some(TimeFrom::Read)),
    }
}

fn memchr_lines(block: &[u8], places: &mut Vec<(usize, usize)>) {
    places.clear();
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', block) {
        places.push((from, end + 1 - from));
        from = end + 1;
    }
    if from < block.len() {
        places.push((from, block.len() - from));
    }
}

/// The time of the last line before `at` that has one.
fn look_back(tools: &mut Tools<'_>, block: &[u8], at: usize) -> Option<i64> {
    let mut end = at;
    for _ in 0..LOOK_BACK {
        let before = block.get(..end.checked_sub(1)?)?;
        let from = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        if let Some(time) = tools.times.find(before.get(from..)?) {
            return Some(time);
        }
        end = from;
    }
    None
}
