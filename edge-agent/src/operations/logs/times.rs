//! When a line of a file was written, as it says itself: the forms that syslog, nginx, Apache, log4j
//! and most others use. Times without a zone are the machine's local time.

use super::calendar::{Civil, Zone};

/// Bytes of a line that are looked at; the time stands at the beginning or soon after.
const LOOKED_AT: usize = 160;

/// Months as syslog and Apache write them.
const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Times below this are no seconds since 1970 but some other number (2001-09-09).
const FIRST_EPOCH: i64 = 1_000_000_000;

/// Reads times. Knows the zone and the year, which syslog leaves out.
#[derive(Debug)]
pub struct Times {
    zone: Zone,
    now_us: i64,
}

impl Times {
    /// For the machine's zone and clock.
    #[must_use]
    pub fn new(zone: Zone, now_us: i64) -> Self {
        Self { zone, now_us }
    }

    /// When the line says it was written, microseconds since 1970.
    #[must_use]
    pub fn find(&mut self, line: &[u8]) -> Option<i64> {
        let head = line.get(..LOOKED_AT).unwrap_or(line);
        let first = *head.first()?;
        if first == b'{' {
            return self.json(line.get(..1024).unwrap_or(line));
        }
        // Where something of the form can begin: with a digit or a capital, at the start or behind
        // what sets words apart.
        let mut at = 0;
        let mut starts = 0;
        while at < head.len() && starts < 12 {
            let rest = head.get(at..)?;
            let byte = *rest.first()?;
            let fresh =
                at == 0 || head.get(at - 1).is_some_and(|before| b" \t[(\"'=|<>,".contains(before));
            if fresh && (byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
                starts += 1;
                if let Some(time) = self.at(rest, at == 0) {
                    return Some(time);
                }
            }
            at += 1;
        }
        None
    }

    fn at(&mut self, text: &[u8], at_start: bool) -> Option<i64> {
        let first = *text.first()?;
        if first.is_ascii_digit() {
            return self
                .year_first(text)
                .or_else(|| self.day_first(text))
                .or_else(|| at_start.then(|| epoch(text)).flatten());
        }
        self.syslog(text).or_else(|| self.klog(text)).or_else(|| self.apache_error(text))
    }

    /// `2026-11-21T08:34:09.123+01:00`, `2026/11/21 08:34:09`, `2026-11-21 08:34:09,123`.
    fn year_first(&mut self, text: &[u8]) -> Option<i64> {
        let mut reader = Reader(text);
        let year = reader.digits(4)?;
        let dash = reader.one_of(b"-/.")?;
        let month = reader.digits(2)?;
        reader.exactly(dash)?;
        let day = reader.digits(2)?;
        reader.one_of(b"T t_")?;
        let (hour, minute, second, micros) = reader.clock()?;
        let civil = Civil { year, month, day, hour, minute, second };
        let offset = reader.offset();
        self.resolve(&civil, micros, offset)
    }

    /// `21/Nov/2026:08:34:09 +0000` (common log format), `21-Nov-2026 08:34:09`.
    fn day_first(&mut self, text: &[u8]) -> Option<i64> {
        let mut reader = Reader(text);
        let day = reader.digits(2)?;
        let dash = reader.one_of(b"/-")?;
        let month = reader.month()?;
        reader.exactly(dash)?;
        let year = reader.digits(4)?;
        reader.one_of(b": T")?;
        let (hour, minute, second, micros) = reader.clock()?;
        let offset = reader.offset();
        self.resolve(&Civil { year, month, day, hour, minute, second }, micros, offset)
    }

    /// `Nov 21 08:34:09` (RFC 3164): the year is the one that makes it the last before tomorrow.
    fn syslog(&mut self, text: &[u8]) -> Option<i64> {
        let mut reader = Reader(text);
        let month = reader.month()?;
        reader.exactly(b' ')?;
        let day = reader.day()?;
        reader.exactly(b' ')?;
        let (hour, minute, second, micros) = reader.clock()?;
        // As date(1) and asctime(3) write it, with the year behind.
        if let Some(year) = reader.year_behind() {
            return self.resolve(&Civil { year, month, day, hour, minute, second }, micros, None);
        }
        let this_year = Civil::of(self.now_us).year;
        let tomorrow = self.now_us.saturating_add(86_400_000_000);
        [this_year + 1, this_year, this_year - 1].into_iter().find_map(|year| {
            let civil = Civil { year, month, day, hour, minute, second };
            self.resolve(&civil, micros, None).filter(|time| *time <= tomorrow)
        })
    }

    /// `Sat Nov 21 08:34:09.123456 2026`.
    fn apache_error(&mut self, text: &[u8]) -> Option<i64> {
        const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
        let (name, rest) = text.split_at_checked(3)?;
        if !DAYS.contains(&name) {
            return None;
        }
        let rest = rest.strip_prefix(b",").unwrap_or(rest);
        self.syslog(rest.strip_prefix(b" ")?)
    }

    /// `E1121 08:34:09.123456`.
    fn klog(&mut self, text: &[u8]) -> Option<i64> {
        let mut reader = Reader(text);
        reader.one_of(b"IWEF")?;
        let month = reader.digits(2)?;
        let day = reader.digits(2)?;
        reader.exactly(b' ')?;
        let (hour, minute, second, micros) = reader.clock()?;
        let this_year = Civil::of(self.now_us).year;
        let tomorrow = self.now_us.saturating_add(86_400_000_000);
        [this_year + 1, this_year, this_year - 1].into_iter().find_map(|year| {
            let civil = Civil { year, month, day, hour, minute, second };
            self.resolve(&civil, micros, None).filter(|time| *time <= tomorrow)
        })
    }

    /// The member that holds the time, by the names that are usual.
    fn json(&mut self, text: &[u8]) -> Option<i64> {
        const KEYS: [&[u8]; 5] =
            [b"\"time\":", b"\"timestamp\":", b"\"@timestamp\":", b"\"ts\":", b"\"t\":"];
        for key in KEYS {
            let Some(found) = memchr::memmem::find(text, key) else { continue };
            let value = text.get(found + key.len()..)?.trim_ascii_start();
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let time = self.year_first(value).or_else(|| epoch(value));
            if time.is_some() {
                return time;
            }
        }
        None
    }

    fn resolve(&mut self, civil: &Civil, micros: i64, offset: Option<i64>) -> Option<i64> {
        let as_utc = civil.as_utc_seconds()?;
        let offset = match offset {
            Some(offset) => offset,
            None => self.zone.offset_at(as_utc),
        };
        Some((as_utc - offset).saturating_mul(1_000_000).saturating_add(micros))
    }
}

/// `1763714049.123`, in seconds, milliseconds, microseconds or nanoseconds.
fn epoch(text: &[u8]) -> Option<i64> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = std::str::from_utf8(text.get(..length)?).ok()?;
    let number: i64 = digits.parse().ok()?;
    let (seconds, micros) = match length {
        10 => {
            let mut reader = Reader(text.get(length..)?);
            (number, reader.fraction())
        }
        13 => (number / 1_000, number % 1_000 * 1_000),
        16 => (number / 1_000_000, number % 1_000_000),
        19 => (number / 1_000_000_000, number % 1_000_000_000 / 1_000),
        _ => return None,
    };
    (seconds >= FIRST_EPOCH).then_some(seconds * 1_000_000 + micros)
}

/// Takes a time apart from its beginning on.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.iter().try_fold(0_i64, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn exactly(&mut self, byte: u8) -> Option<()> {
        self.one_of(&[byte]).map(drop)
    }

    fn month(&mut self) -> Option<i64> {
        let (name, rest) = self.0.split_at_checked(3)?;
        let index = MONTHS.iter().position(|month| *month == name)?;
        self.0 = rest;
        i64::try_from(index + 1).ok()
    }

    /// `21`, or ` 7` with a blank before it.
    fn day(&mut self) -> Option<i64> {
        match self.exactly(b' ') {
            Some(()) => self.digits(1),
            None => self.digits(2).or_else(|| self.digits(1)),
        }
    }

    /// Hour, minute, second, microseconds.
    fn clock(&mut self) -> Option<(i64, i64, i64, i64)> {
        let hour = self.digits(2)?;
        self.exactly(b':')?;
        let minute = self.digits(2)?;
        self.exactly(b':')?;
        let second = self.digits(2)?;
        Some((hour, minute, second, self.fraction()))
    }

    /// What is behind the seconds, in microseconds.
    fn fraction(&mut self) -> i64 {
        let Some((b'.' | b',', rest)) = self.0.split_first() else { return 0 };
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return 0;
        }
        let mut micros = 0;
        for place in 0..6 {
            let digit = rest.get(place).filter(|_| place < length).map_or(0, |byte| byte - b'0');
            micros = micros * 10 + i64::from(digit);
        }
        self.0 = rest.get(length..).unwrap_or_default();
        micros
    }

    /// Seconds east of Greenwich: `Z`, `+01:00`, ` +0100`.
    fn offset(&mut self) -> Option<i64> {
        let spaced = Reader(self.0.strip_prefix(b" ").unwrap_or(self.0));
        if self.0.first() == Some(&b'Z') || self.0.first() == Some(&b'z') {
            return Some(0);
        }
        let mut reader = Reader(spaced.0);
        let sign = match reader.one_of(b"+-")? {
            b'-' => -1,
            _ => 1,
        };
        let hours = reader.digits(2)?;
        let _ = reader.exactly(b':');
        let minutes = reader.digits(2)?;
        Some(sign * (hours * 3_600 + minutes * 60))
    }

    /// ` 2026`, also behind the name of a zone.
    fn year_behind(&mut self) -> Option<i64> {
        let mut reader = Reader(self.0.strip_prefix(b" ")?);
        let year = reader.digits(4)?;
        let ends = reader.0.first().is_none_or(|byte| !byte.is_ascii_alphanumeric());
        (ends && (1970..2200).contains(&year)).then_some(year)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21 08:34:09 UTC.
    const THEN: i64 = 1_795_250_049_000_000;

    #[test]
    fn times_are_read_as_programs_write_them() {
        // Expected values by date(1): date -ud '2026-11-21 08:34:09' +%s is 1795250049.
        let table: &[(&str, Option<i64>)] = &[
            ("2026-11-21T08:34:09Z x", Some(THEN)),
            ("2026-11-21T08:34:09.123456Z x", Some(THEN + 123_456)),
            ("2026-11-21T09:34:09.5+01:00 x", Some(THEN + 500_000)),
            ("2026-11-21T04:04:09-0430 x", Some(THEN)),
            ("2026-11-21 08:34:09,123 INFO x", Some(THEN + 123_000)),
            ("2026-11-21 08:34:09.123456789 x", Some(THEN + 123_456)),
            ("2026/11/21 08:34:09 [error] 7#7: x", Some(THEN)),
            ("[2026-11-21 08:34:09] x", Some(THEN)),
            ("Nov 21 08:34:09 web-1 sshd[7]: x", Some(THEN)),
            ("<34>Nov 21 08:34:09 web-1 su: x", Some(THEN)),
            ("Nov  7 08:34:09 web-1 x", Some(THEN - 14 * 86_400_000_000)),
            ("Dec 31 23:59:59 web-1 x", Some(1_767_225_599_000_000)),
            ("10.0.0.1 - - [21/Nov/2026:09:34:09 +0100] \"GET / HTTP/1.1\" 200 1", Some(THEN)),
            ("[Sat Nov 21 08:34:09.123456 2026] [core:error] x", Some(THEN + 123_456)),
            ("Sat Nov 21 08:34:09 2026 x", Some(THEN)),
            ("E1121 08:34:09.000007       1 x.go:7] x", Some(THEN + 7)),
            ("1795250049.25 x", Some(THEN + 250_000)),
            ("1795250049123 x", Some(THEN + 123_000)),
            ("{\"level\":\"info\",\"ts\":1795250049.5,\"msg\":\"x\"}", Some(THEN + 500_000)),
            ("{\"msg\":\"x\",\"time\":\"2026-11-21T08:34:09Z\"}", Some(THEN)),
            ("time=\"2026-11-21T08:34:09Z\" level=info", Some(THEN)),
            ("INFO  2026-11-21 08:34:09 x", Some(THEN)),
            ("\tat com.example.Main(Main.java:7)", None),
            ("2026-13-21T08:34:09Z", None),
            ("2026-11-31T08:34:09Z", None),
            ("2026-11-21T25:34:09Z", None),
            ("12345 things", None),
            ("", None),
            ("Mayor 12 says", None),
            ("2026-11-21T08:34", None),
        ];
        let mut times = Times::new(Zone::utc(), THEN + 60_000_000);
        for (line, expected) in table {
            assert_eq!(times.find(line.as_bytes()), *expected, "{line}");
        }
    }

    #[test]
    fn local_times_are_the_machines() {
        let mut times = Times::new(Zone::fixed(3_600), THEN);
        assert_eq!(times.find(b"2026-11-21 09:34:09 x"), Some(THEN));
        assert_eq!(times.find(b"Nov 21 09:34:09 host x"), Some(THEN));
        assert_eq!(times.find(b"2026-11-21 08:34:09Z x"), Some(THEN));
    }
}
