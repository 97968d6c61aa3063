//! What a provider says about its limits: in headers, in bodies, in words.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use reeve_sdk::api::{RateLimitWindow, Time};
use serde_json::Value;

/// A delay nobody means. It also keeps what comes in from being added to a clock and overflowing.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn seconds(number: f64) -> Option<Duration> {
    (number.is_finite() && number >= 0.0)
        .then(|| Duration::try_from_secs_f64(number).unwrap_or(LONGEST).min(LONGEST))
}

/// Go's notation, as OpenAI has it: `6m0s`, `20ms`, `1s`, `1h2m3.5s`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() || rest.len() > 40 {
        return None;
    }
    if let Ok(number) = rest.parse::<f64>() {
        return seconds(number);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    seconds(total)
}

/// What the provider asks to wait: `retry-after-ms`, `retry-after` in seconds or as an HTTP date
/// (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    if let Some(millis) = text(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok())
    {
        return seconds(millis / 1000.0);
    }
    let said = text(headers, "retry-after")?;
    if let Ok(number) = said.parse::<f64>() {
        return seconds(number);
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(said).ok()?;
    Some(until(date, now))
}

fn until(then: Timestamp, now: Time) -> Duration {
    let millis = then.as_millisecond().saturating_sub(now.0.as_millisecond()).max(0);
    Duration::from_millis(millis.unsigned_abs()).min(LONGEST)
}

/// The delay in Google's error details, and whether a quota for a day is what is used up.
pub(crate) fn google_details(error: &Value) -> (Option<Duration>, bool) {
    let mut delay = None;
    let mut is_daily = false;
    for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
        if let Some(said) = detail.get("retryDelay").and_then(Value::as_str) {
            delay = duration(said);
        }
        for violation in detail.get("violations").and_then(Value::as_array).into_iter().flatten() {
            for word in ["quotaId", "quotaMetric"] {
                if let Some(quota) = violation.get(word).and_then(Value::as_str) {
                    let quota = quota.to_ascii_lowercase();
                    is_daily |= quota.contains("perday") || quota.contains("per_day");
                }
            }
        }
    }
    (delay, is_daily)
}

/// `Please try again in 1.2s`: where headers are missing, the words are all there is.
pub(crate) fn delay_in_words(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let at = lower.find("try again in ")? + "try again in ".len();
    let word = lower[at..].split_whitespace().next()?;
    let word = word.trim_end_matches(['.', ',', ';', '!']);
    let next = lower[at..].split_whitespace().nth(1).unwrap_or_default();
    if next.starts_with("minute") {
        return seconds(word.parse::<f64>().ok()? * 60.0);
    }
    duration(word)
}

fn window(
    headers: &HeaderMap,
    now: Time,
    what: &str,
    name: impl Fn(&str) -> String,
) -> Option<RateLimitWindow> {
    let number = |part: &str| text(headers, &name(part))?.parse::<f64>().ok();
    let (limit, remaining) = (number("limit")?, number("remaining")?);
    let is_sound = limit.is_finite() && remaining.is_finite() && limit > 0.0 && remaining >= 0.0;
    if !is_sound {
        return None;
    }
    let resets_at = text(headers, &name("reset")).and_then(|said| {
        if let Ok(at) = said.parse::<Timestamp>() {
            return Some(Time(at));
        }
        let after = jiff::SignedDuration::try_from(duration(said)?).ok()?;
        now.0.checked_add(after).ok().map(Time)
    });
    Some(RateLimitWindow {
        what: what.to_owned(),
        used_percent: ((limit - remaining) / limit * 100.0).clamp(0.0, 100.0),
        limit: Some(limit as u64),
        remaining: Some(remaining as u64),
        resets_at,
        seen_at: now,
    })
}

/// The windows of any wire: OpenAI's `x-ratelimit-limit-requests` (Cerebras adds `-day` and
/// `-minute`), Anthropic's `anthropic-ratelimit-input-tokens-limit`.
pub(crate) fn rate_limits(headers: &HeaderMap, now: Time) -> Vec<RateLimitWindow> {
    let mut found = Vec::new();
    for what in ["requests", "tokens"] {
        for window_name in ["", "-minute", "-hour", "-day"] {
            let name = |part: &str| format!("x-ratelimit-{part}-{what}{window_name}");
            found.extend(window(headers, now, what, name));
        }
    }
    for what in ["requests", "tokens", "input-tokens", "output-tokens"] {
        let name = |part: &str| format!("anthropic-ratelimit-{what}-{part}");
        found.extend(window(headers, now, &what.replace('-', "_"), name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            })
            .collect()
    }

    fn now() -> Time {
        Time("2026-11-21T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn durations_of_openai_are_read() {
        for (text, millis) in [
            ("6m0s", 360_000),
            ("20ms", 20),
            ("1s", 1_000),
            ("7.66s", 7_660),
            ("1h2m3.5s", 3_723_500),
            ("2m59.56s", 179_560),
            ("33011.38", 33_011_380),
            ("34.074824224s", 34_074),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), Some(millis), "{text}");
        }
        for text in ["", "s", "-1s", "1x", "NaN", "1s1", "soon", "..s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration("1e300"), Some(LONGEST));
        assert_eq!(duration("1e12"), Some(LONGEST));
    }

    #[test]
    fn retry_after_is_seconds_or_milliseconds_or_a_date() {
        let read = |name, value| retry_after(&headers(&[(name, value)]), now());
        assert_eq!(read("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(
            read("retry-after", "Sat, 21 Nov 2026 12:00:30 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(read("retry-after", "Sat, 21 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("retry-after", "-5"), None);
        assert_eq!(read("retry-after", "soon"), None);
        let both = headers(&[("retry-after", "9"), ("retry-after-ms", "100")]);
        assert_eq!(retry_after(&both, now()), Some(Duration::from_millis(100)));
    }

    #[test]
    fn windows_of_openai_are_read() {
        let found = rate_limits(
            &headers(&[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "45"),
                ("x-ratelimit-reset-requests", "6m0s"),
                ("x-ratelimit-limit-tokens", "150000"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "20ms"),
            ]),
            now(),
        );
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].what.as_str(), found[0].used_percent), ("requests", 25.0));
        assert_eq!(found[0].resets_at, Some(Time("2026-11-21T12:06:00Z".parse().unwrap())));
        assert_eq!((found[1].remaining, found[1].used_percent), (Some(0), 100.0));
    }

    #[test]
    fn windows_of_anthropic_are_read() {
        let found = rate_limits(
            &headers(&[
                ("anthropic-ratelimit-input-tokens-limit", "40000"),
                ("anthropic-ratelimit-input-tokens-remaining", "30000"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T12:00:10Z"),
            ]),
            now(),
        );
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].what.as_str(), found[0].used_percent), ("input_tokens", 25.0));
        assert_eq!(found[0].resets_at, Some(Time("2026-11-21T12:00:10Z".parse().unwrap())));
    }

    #[test]
    fn nonsense_about_limits_is_no_window() {
        for (limit, remaining) in [("0", "0"), ("NaN", "1"), ("many", "1"), ("10", "-1")] {
            let headers = headers(&[
                ("x-ratelimit-limit-requests", limit),
                ("x-ratelimit-remaining-requests", remaining),
            ]);
            assert!(rate_limits(&headers, now()).is_empty(), "{limit} {remaining}");
        }
    }

    #[test]
    fn google_tells_a_minute_from_a_day() {
        let minute = serde_json::json!({"details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
             "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]});
        assert_eq!(google_details(&minute), (Some(Duration::from_millis(34_500)), false));
        let day = serde_json::json!({"details": [
            {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]});
        assert_eq!(google_details(&day), (None, true));
    }

    #[test]
    fn delay_is_found_in_words() {
        let read = |text| delay_in_words(text).map(|delay| delay.as_millis());
        assert_eq!(read("Rate limit reached. Please try again in 1.898s. Visit"), Some(1_898));
        assert_eq!(read("Please try again in 20ms."), Some(20));
        assert_eq!(read("Try again in 6m0s"), Some(360_000));
        assert_eq!(read("try again in 2 minutes"), Some(120_000));
        assert_eq!(read("try again later"), None);
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_a_panic(text in "\\PC*") {
            let _ = duration(&text);
            let _ = delay_in_words(&format!("try again in {text}"));
        }
    }
}
