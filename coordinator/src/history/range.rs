//! Which part of a history is asked for, and how finely.

use reeve_sdk::api::{History as Answer, HistorySeries, Resolution, Time};

use super::ring::{History, MINUTES, QUARTERS, Ring, SAMPLES, Spans};
use super::series::{self, Series};

/// Records of one answer when nobody says how fine: what a chart has pixels for.
const MOST_POINTS: i64 = 1500;

/// Why a range makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// It ends before it begins.
    #[error("'from' is not before 'to'")]
    Empty,
    /// There is no such series.
    #[error("there is no series '{0}'; there are {names}", names = names())]
    Series(String),
}

fn names() -> String {
    series::ALL.iter().map(|series| series.name).collect::<Vec<_>>().join(", ")
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    ring: Ring,
    /// Numbers of records, the last one excluded.
    from: i64,
    to: i64,
    columns: Vec<usize>,
}

impl Range {
    /// From what was asked. Without a beginning it is the last hour.
    ///
    /// # Errors
    /// Why it makes no sense.
    pub fn choose(
        from: Option<Time>,
        to: Option<Time>,
        resolution: Resolution,
        wanted: Option<&str>,
        now: Time,
    ) -> Result<Self, InvalidRange> {
        let seconds = |time: Time| time.as_micros().div_euclid(1_000_000);
        let now = seconds(now);
        let to = to.map_or(now, seconds).min(now);
        let from = from.map_or(to - 3600, seconds);
        if from >= to {
            return Err(InvalidRange::Empty);
        }
        let fits = |ring: &Ring| {
            from >= now - ring.seconds * ring.records && to - from <= ring.seconds * MOST_POINTS
        };
        let ring = match resolution {
            Resolution::FiveSeconds => SAMPLES,
            Resolution::Minute => MINUTES,
            Resolution::QuarterHour => QUARTERS,
            Resolution::Auto => [SAMPLES, MINUTES].into_iter().find(fits).unwrap_or(QUARTERS),
        };
        // What is older than the ring is not there, and need not be told as so many gaps.
        let oldest = (now - ring.seconds * ring.records).div_euclid(ring.seconds) + 1;
        let first = from.div_euclid(ring.seconds).max(oldest);
        let last = to.div_euclid(ring.seconds) + 1;
        Ok(Self { ring, from: first.min(last), to: last, columns: choose_columns(wanted)? })
    }

    /// An answer without anything known.
    pub fn read_none(&self) -> Answer {
        self.answer(&[])
    }

    /// Reads it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, history: &History) -> std::io::Result<Answer> {
        let records = history.read(self.ring, self.from, self.to)?;
        let spans: Vec<Option<Spans>> = records.into_iter().map(|(spans, _)| spans).collect();
        Ok(self.answer(&spans))
    }

    fn answer(&self, records: &[Option<Spans>]) -> Answer {
        let count = usize::try_from(self.to - self.from).unwrap_or_default();
        let column = |&index: &usize| {
            let Series { name, unit } = series::ALL.get(index).copied()?;
            let span = |at: usize| records.get(at)?.as_ref()?.get(index).copied()?;
            let values = |of: fn(super::ring::Span) -> f64| {
                (0..count).map(|at| span(at).map(|span| rounded(of(span)))).collect::<Vec<_>>()
            };
            let rolled = self.ring != SAMPLES;
            Some(HistorySeries {
                name: name.to_owned(),
                unit: unit.to_owned(),
                avg: values(|span| span.avg),
                min: if rolled { values(|span| span.min) } else { Vec::new() },
                max: if rolled { values(|span| span.max) } else { Vec::new() },
            })
        };
        Answer {
            resolution: match self.ring.seconds {
                5 => Resolution::FiveSeconds,
                60 => Resolution::Minute,
                _ => Resolution::QuarterHour,
            },
            step_s: u32::try_from(self.ring.seconds).unwrap_or_default(),
            times: (self.from..self.to).map(|number| number * self.ring.seconds).collect(),
            series: self.columns.iter().filter_map(column).collect(),
        }
    }
}

/// What was kept has no more digits than that.
fn rounded(value: f64) -> f64 {
    if value >= 10_000.0 { value.round() } else { (value * 1000.0).round() / 1000.0 }
}

fn choose_columns(wanted: Option<&str>) -> Result<Vec<usize>, InvalidRange> {
    let Some(wanted) = wanted else { return Ok((0..series::ALL.len()).collect()) };
    let find = |name: &str| {
        let found = series::ALL.iter().position(|series| series.name == name);
        found.ok_or_else(|| InvalidRange::Series(name.to_owned()))
    };
    wanted.split(',').map(|name| find(name.trim())).collect()
}
