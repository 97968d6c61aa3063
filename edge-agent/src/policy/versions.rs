//! `[versions]`: how much of what Reeve changes or removes is kept on this machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1024 * 1024;
const DAY: u64 = 24 * 60 * 60;

/// What is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRules {
    /// Whether anything is.
    pub enabled: bool,
    /// Bytes of all versions together.
    pub max_bytes: u64,
    /// They go after this long.
    pub max_age: Duration,
    /// Of larger files no version is kept.
    pub max_file: u64,
}

impl Default for VersionRules {
    fn default() -> Self {
        Self {
            enabled: true,
            max_bytes: 1024 * MIB,
            max_age: Duration::from_secs(30 * DAY),
            max_file: 128 * MIB,
        }
    }
}

/// As it is written in the policy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    enabled: Option<bool>,
    max_bytes: Option<Quantity>,
    max_age: Option<Quantity>,
    max_file: Option<Quantity>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(u64),
    Text(String),
}

impl Written {
    /// What holds, or which value makes no sense.
    pub(super) fn resolve(&self) -> Result<VersionRules, String> {
        let usual = VersionRules::default();
        let read = |name: &str, written: &Option<Quantity>, units: &[(&str, u64)], usual: u64| {
            let Some(written) = written else { return Ok(usual) };
            let value = match written {
                Quantity::Number(number) => Some(*number),
                Quantity::Text(text) => parse(text, units),
            };
            let words: Vec<&str> = units.iter().map(|(word, _)| *word).collect();
            value.filter(|value| *value > 0).ok_or_else(|| {
                format!(
                    "[versions] {name} has to be a number above 0 with one of {}, such as \
                     \"30{}\"; to keep none, say enabled = false",
                    words.join(", "),
                    words.last().unwrap_or(&"")
                )
            })
        };
        let age = usual.max_age.as_secs();
        Ok(VersionRules {
            enabled: self.enabled.unwrap_or(usual.enabled),
            max_bytes: read("max_bytes", &self.max_bytes, &SIZES, usual.max_bytes)?,
            max_age: Duration::from_secs(read("max_age", &self.max_age, &AGES, age)?),
            max_file: read("max_file", &self.max_file, &SIZES, usual.max_file)?,
        })
    }
}

const SIZES: [(&str, u64); 4] =
    [("KiB", 1024), ("TiB", 1024 * 1024 * MIB), ("GiB", 1024 * MIB), ("MiB", MIB)];
const AGES: [(&str, u64); 4] = [("m", 60), ("h", 3600), ("w", 7 * DAY), ("d", DAY)];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(word, factor)| {
        let number: u64 = text.strip_suffix(word)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_have_units() {
        assert_eq!(parse("1GiB", &SIZES), Some(1 << 30));
        assert_eq!(parse("512 KiB", &SIZES), Some(512 * 1024));
        assert_eq!(parse("2w", &AGES), Some(14 * DAY));
        for bad in ["", "GiB", "1 GB", "-1GiB", "1.5GiB", "99999999999999TiB"] {
            assert_eq!(parse(bad, &SIZES), None, "{bad}");
        }
    }
}
