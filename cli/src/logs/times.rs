//! Times as people write them: a while ago, or a date.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// `2h` (ago), `now`, `today`, `yesterday`, `14:30`, `2026-11-21`, `2026-11-21 14:30[:00]`, RFC 3339, `@1795250049`:
/// microseconds since 1970. What has no zone is local.
pub fn parse(text: &str) -> Result<i64, String> {
    parse_at(text, &Zoned::now())
}

fn parse_at(text: &str, now: &Zoned) -> Result<i64, String> {
    let text = text.trim();
    let day = |date: jiff::civil::Date| {
        date.to_zoned(now.time_zone().clone())
            .map(|time| time.timestamp().as_microsecond())
            .map_err(|error| error.to_string())
    };
    match text {
        "now" => return Ok(now.timestamp().as_microsecond()),
        "today" => return day(now.date()),
        "yesterday" => return day(now.date().yesterday().map_err(|error| error.to_string())?),
        _ => {}
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: f64 = seconds.parse().map_err(|_| usage())?;
        return Ok((seconds * 1e6) as i64);
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim_start_matches('-').trim();
    if let Ok(length) = crate::durations::parse(ago) {
        let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        return Ok(now.timestamp().as_microsecond().saturating_sub(micros));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_microsecond());
    }
    let zone: &TimeZone = now.time_zone();
    if let Ok(time) = text.parse::<jiff::civil::Time>()
        && text.contains(':')
    {
        let at = now.date().to_datetime(time);
        return local(at, zone);
    }
    if let Ok(at) = text.parse::<DateTime>() {
        return local(at, zone);
    }
    Err(usage())
}

fn local(at: DateTime, zone: &TimeZone) -> Result<i64, String> {
    at.to_zoned(zone.clone())
        .map(|time| time.timestamp().as_microsecond())
        .map_err(|error| error.to_string())
}

fn usage() -> String {
    "write it as 2h (ago), 14:30, yesterday, 2026-11-21 or '2026-11-21 14:30'".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        let now: Zoned = "2026-11-21T08:34:09[UTC]".parse().expect("a time");
        let then = 1_795_250_049;
        let table = [
            ("now", then),
            ("2h", then - 7_200),
            ("2h ago", then - 7_200),
            ("-90s", then - 90),
            ("30", then - 30),
            ("today", then - 30_849),
            ("yesterday", then - 30_849 - 86_400),
            ("08:30", then - 249),
            ("2026-11-21", then - 30_849),
            ("2026-11-21 08:34:09", then),
            ("2026-11-21T08:34:09Z", then),
            ("2026-11-21T09:34:09+01:00", then),
            ("@1795250049", then),
        ];
        for (text, seconds) in table {
            assert_eq!(parse_at(text, &now), Ok(seconds * 1_000_000), "{text}");
        }
        assert!(parse_at("soon", &now).is_err() && parse_at("", &now).is_err());
    }
}
