//! Durations as people write them, and times as people read them.

use std::time::Duration;

use reeve_sdk::api::Time;

/// `30s`, `5m`, `1h30m`, `2 days`; a bare number is seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; write it as 30s, 5m, 1h30m or 2days"))
}

/// In milliseconds, as the API counts.
pub fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago, in one unit: `now`, `12s`, `5m`, `3h`, `9d`; in the future with `in` before it.
pub fn age(at: Time) -> String {
    let micros = jiff::Timestamp::now().as_microsecond().saturating_sub(at.as_micros());
    let text = rounded(micros.unsigned_abs() / 1_000_000);
    match micros / 1_000_000 {
        0 => "now".to_owned(),
        1.. => text,
        _ => format!("in {text}"),
    }
}

fn rounded(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length in milliseconds: `340ms`, `1.2s`, `3m`.
pub fn length(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis}ms"),
        1_000..=119_999 => format!("{}.{}s", millis / 1_000, millis % 1_000 / 100),
        _ => rounded(millis / 1_000),
    }
}

/// Bytes with a binary unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        assert_eq!(parse("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse(" 250ms "), Ok(Duration::from_millis(250)));
        assert!(parse("soon").expect_err("no duration").contains("30s"));
        assert!(parse("-3s").is_err());
    }

    #[test]
    fn lengths_and_sizes_are_short() {
        assert_eq!(length(340), "340ms");
        assert_eq!(length(1_290), "1.2s");
        assert_eq!(length(180_000), "3m");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}
