//! Putting what several machines say into one order, while it comes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What is followed is held back for so long, so that what others wrote before it can come first.
pub const WINDOW: Duration = Duration::from_millis(400);
/// While a follow catches up, nobody is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes held back at most. Beyond it the oldest go on, whoever is not there yet.
const MAX_HELD: usize = 64 * 1024 * 1024;

/// How far a lane, one machine's answer, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It tells what was there, in order of time.
    Catching,
    /// It tells what comes, about when it comes.
    Live,
    Ended,
}

#[derive(Debug)]
struct Lane {
    stage: Stage,
    /// The time of the last that came.
    reached: i64,
}

struct Held<T> {
    time: i64,
    arrived: Instant,
    bytes: usize,
    item: T,
}

/// Merges lanes. What one source of a lane said stays in its order, whatever its times are.
pub struct Merge<T> {
    lanes: BTreeMap<usize, Lane>,
    /// By lane and source.
    queues: HashMap<usize, VecDeque<Held<T>>>,
    names: HashMap<(usize, String), usize>,
    /// When a source's first is due, by queue.
    first: BinaryHeap<Reverse<(i64, u64, usize)>>,
    lane_of: HashMap<usize, usize>,
    last_of: HashMap<usize, i64>,
    count: u64,
    held: usize,
    follow: bool,
    /// Whether something had to go on before its turn for want of room.
    overflowed: bool,
}

impl<T> Merge<T> {
    /// Of what is followed, or read once.
    #[must_use]
    pub fn new(follow: bool) -> Self {
        Self {
            lanes: BTreeMap::new(),
            queues: HashMap::new(),
            names: HashMap::new(),
            first: BinaryHeap::new(),
            lane_of: HashMap::new(),
            last_of: HashMap::new(),
            count: 0,
            held: 0,
            follow,
            overflowed: false,
        }
    }

    /// Tells of a lane, before anything of it comes.
    pub fn open(&mut self, lane: usize) {
        self.lanes.entry(lane).or_insert(Lane { stage: Stage::Catching, reached: i64::MIN });
    }

    /// That it has told what was there.
    pub fn caught_up(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(&lane)
            && lane.stage == Stage::Catching
        {
            lane.stage = Stage::Live;
        }
    }

    /// That nothing more comes of it.
    pub fn end(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.stage = Stage::Ended;
        }
    }

    /// Takes what a lane's source said.
    pub fn push(
        &mut self,
        lane: usize,
        source: &str,
        time: i64,
        bytes: usize,
        item: T,
        now: Instant,
    ) {
        let next = self.names.len();
        let queue = match self.names.get(&(lane, source.to_owned())) {
            Some(queue) => *queue,
            None => {
                self.names.insert((lane, source.to_owned()), next);
                self.lane_of.insert(next, lane);
                next
            }
        };
        let last = self.last_of.entry(queue).or_insert(i64::MIN);
        let time = time.max(*last);
        *last = time;
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.reached = lane.reached.max(time);
        }
        let waiting = self.queues.entry(queue).or_default();
        if waiting.is_empty() {
            self.first.push(Reverse((time, self.count, queue)));
        }
        self.count += 1;
        self.held += bytes;
        waiting.push_back(Held { time, arrived: now, bytes, item });
    }

    /// The next in order, if its turn has come.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let Reverse((time, _, queue)) = *self.first.peek()?;
        if self.held > MAX_HELD {
            self.overflowed = true;
        } else if self.due(time, queue)? > now {
            return None;
        }
        self.first.pop();
        let waiting = self.queues.get_mut(&queue)?;
        let taken = waiting.pop_front()?;
        if let Some(next) = waiting.front() {
            self.first.push(Reverse((next.time, self.count, queue)));
            self.count += 1;
        }
        self.held -= taken.bytes.min(self.held);
        Some(taken.item)
    }

    /// When to ask again although nothing has come; `None`: not before.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let Reverse((time, _, queue)) = *self.first.peek()?;
        self.due(time, queue)
    }

    /// Whether more was held back than there is room for, since this was asked last.
    pub fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// When the first of a queue may go on, as things stand.
    fn due(&self, time: i64, queue: usize) -> Option<Instant> {
        let arrived = self.queues.get(&queue)?.front()?.arrived;
        let mut due = arrived;
        for lane in self.lanes.values() {
            let at = match lane.stage {
                Stage::Ended => arrived,
                Stage::Catching if lane.reached >= time => arrived,
                Stage::Catching if self.follow => arrived + PATIENCE,
                // An hour: until something comes of it, or its end.
                Stage::Catching => arrived + Duration::from_secs(3_600),
                Stage::Live => arrived + WINDOW,
            };
            due = due.max(at);
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(merge: &mut Merge<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| merge.pop(now)).collect()
    }

    #[test]
    fn what_is_read_once_comes_in_order_of_time_over_all_lanes() {
        let now = Instant::now();
        let mut merge = Merge::new(false);
        (0..3).for_each(|lane| merge.open(lane));
        merge.push(0, "a", 1, 1, "a1", now);
        merge.push(0, "a", 5, 1, "a5", now);
        merge.push(1, "a", 2, 1, "b2", now);
        assert!(drain(&mut merge, now).is_empty(), "the third may have something older");
        merge.push(2, "a", 3, 1, "c3", now);
        assert_eq!(drain(&mut merge, now), ["a1", "b2"], "the second may have a 3 or 4");
        merge.end(1);
        assert_eq!(drain(&mut merge, now), ["c3"]);
        merge.end(2);
        assert_eq!(drain(&mut merge, now), ["a5"]);
    }

    #[test]
    fn what_comes_is_held_for_the_window_and_then_told_in_order() {
        let now = Instant::now();
        let mut merge = Merge::new(true);
        (0..2).for_each(|lane| {
            merge.open(lane);
            merge.caught_up(lane);
        });
        merge.push(0, "a", 10, 1, "late", now);
        merge.push(1, "a", 5, 1, "early", now + WINDOW / 2);
        assert!(drain(&mut merge, now + WINDOW).is_empty(), "what is earlier is held as long");
        assert_eq!(merge.next_due(), Some(now + WINDOW / 2 + WINDOW));
        assert_eq!(drain(&mut merge, now + WINDOW * 2), ["early", "late"]);
        assert_eq!(merge.next_due(), None);
    }

    #[test]
    fn one_that_says_nothing_holds_up_a_follow_for_a_while_only() {
        let now = Instant::now();
        let mut merge = Merge::new(true);
        (0..2).for_each(|lane| merge.open(lane));
        merge.push(0, "a", 10, 1, "x", now);
        assert!(merge.pop(now + WINDOW).is_none());
        assert_eq!(merge.pop(now + PATIENCE), Some("x"));
    }

    #[test]
    fn order_within_a_source_is_kept_whatever_its_times() {
        let now = Instant::now();
        let mut merge = Merge::new(false);
        merge.open(0);
        for (time, item) in [(5, "one"), (3, "two"), (5, "three")] {
            merge.push(0, "a", time, 1, item, now);
        }
        merge.push(0, "b", 4, 1, "other", now);
        merge.end(0);
        assert_eq!(drain(&mut merge, now), ["other", "one", "two", "three"]);
    }

    #[test]
    fn too_much_goes_on_before_its_turn() {
        let now = Instant::now();
        let mut merge = Merge::new(false);
        (0..2).for_each(|lane| merge.open(lane));
        merge.push(0, "a", 1, MAX_HELD, "big", now);
        assert!(merge.pop(now).is_none());
        merge.push(0, "a", 2, 1, "small", now);
        assert_eq!(drain(&mut merge, now), ["big"]);
        assert!(merge.take_overflowed() && !merge.take_overflowed());
    }
}
