//! Dates as seconds, and the machine's zone.

use std::collections::HashMap;

use jiff::tz::TimeZone;

/// Hours whose offset is remembered. A log that spans more starts over.
const REMEMBERED: usize = 4096;

/// A date and a time of day, of no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Civil {
    /// Seconds since 1970 if it were UTC; `None` when there is no such day or time. A leap second is
    /// the one after it.
    #[must_use]
    pub fn as_utc_seconds(&self) -> Option<i64> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let length = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let valid = (1..=length).contains(&self.day)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..=60).contains(&self.second);
        if !valid {
            return None;
        }
        // Days from civil, with years that begin in March so that the leap day is the last.
        let year = if self.month > 2 { self.year } else { self.year - 1 };
        let month = (self.month + 9) % 12;
        let in_year = (153 * month + 2) / 5 + self.day - 1;
        let days =
            365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + in_year
                - 719_468;
        Some(days * 86_400 + self.hour * 3_600 + self.minute * 60 + self.second)
    }

    /// The date in UTC of a time in microseconds since 1970.
    #[must_use]
    pub fn of(time_us: i64) -> Self {
        let seconds = time_us.div_euclid(1_000_000);
        let (days, rest) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        Self { year, month, day, hour: rest / 3_600, minute: rest / 60 % 60, second: rest % 60 }
    }
}

/// The machine's zone (`TZ`, `/etc/localtime`).
#[derive(Debug)]
pub struct Zone {
    zone: TimeZone,
    /// Offsets by the hour: looking one up takes longer than reading the time.
    known: HashMap<i64, i64>,
}

impl Zone {
    /// The machine's own; UTC when it has none.
    #[must_use]
    pub fn of_the_machine() -> Self {
        Self { zone: TimeZone::try_system().unwrap_or(TimeZone::UTC), known: HashMap::new() }
    }

    /// UTC.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub fn utc() -> Self {
        Self { zone: TimeZone::UTC, known: HashMap::new() }
    }

    /// A zone that never changes, seconds east of Greenwich.
    #[cfg(test)]
    #[must_use]
    pub fn fixed(seconds: i32) -> Self {
        let offset = jiff::tz::Offset::from_seconds(seconds).expect("an offset");
        Self { zone: TimeZone::fixed(offset), known: HashMap::new() }
    }

    /// Seconds east of Greenwich at a local time, given as if it were UTC.
    pub fn offset_at(&mut self, as_utc: i64) -> i64 {
        // Every zone changes at a quarter of an hour.
        let key = as_utc.div_euclid(900);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let guess = |seconds: i64| {
            jiff::Timestamp::from_second(seconds)
                .map_or(0, |time| i64::from(self.zone.to_offset(time).seconds()))
        };
        // The offset at the instant that the first guess leads to.
        let offset = guess(as_utc - guess(as_utc));
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, offset);
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_and_back() {
        // By date -u +%s.
        let civil = Civil { year: 2026, month: 11, day: 21, hour: 8, minute: 34, second: 9 };
        assert_eq!(civil.as_utc_seconds(), Some(1_795_250_049));
        for seconds in [0, 951_782_400, 951_868_800, 1_795_250_049, 4_107_542_400] {
            assert_eq!(Civil::of(seconds * 1_000_000).as_utc_seconds(), Some(seconds));
        }
        let feb = |year| Civil { year, month: 2, day: 29, hour: 0, minute: 0, second: 0 };
        assert!(feb(2024).as_utc_seconds().is_some() && feb(2026).as_utc_seconds().is_none());
    }
}
