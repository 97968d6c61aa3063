//! The settings file as it is written. Every key may be left out; unknown ones are refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reeve_sdk::api::{ModelRole, ProviderSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

use super::policy::PolicyRule;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub listen: Option<SocketAddr>,
    pub public_url: Option<PublicUrl>,
    pub data: Option<PathBuf>,
    pub dist: Option<PathBuf>,
    #[serde(default)]
    pub trusted_proxies: Vec<IpAddr>,
    #[serde(default)]
    pub database: DatabaseTable,
    #[serde(default)]
    pub tls: TlsTable,
    #[serde(default)]
    pub log: LogTable,
    #[serde(default)]
    pub limits: LimitsTable,
    #[serde(default)]
    pub assistant: super::assistant::AssistantTable,
    #[serde(default)]
    pub output: OutputTable,
    #[serde(default)]
    pub metrics: MetricsTable,
    #[serde(default)]
    pub drain: DrainTable,
    #[serde(default)]
    pub approvals: ApprovalsTable,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<PolicyRule>,
    #[serde(default)]
    pub vault: VaultTable,
    #[serde(default)]
    pub models: ModelsTable,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultTable {
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelsTable {
    pub user_day_budget: Option<Amount>,
    #[serde(default)]
    pub roles: BTreeMap<ModelRole, Vec<String>>,
    #[serde(default, rename = "provider")]
    pub providers: Vec<ProviderSettings>,
}

/// Money, in the currency of the price table: more than nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount(pub f64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = f64::deserialize(deserializer)?;
        if amount.is_finite() && amount > 0.0 {
            Ok(Self(amount))
        } else {
            Err(de::Error::custom("has to be a number above 0"))
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatabaseTable {
    pub url: Option<String>,
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    #[serde(default)]
    pub mode: TlsMode,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    #[serde(default)]
    pub names: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TlsMode {
    #[default]
    Own,
    Files,
    Off,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogTable {
    pub level: Option<LogLevel>,
    pub format: Option<LogFormat>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The word in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl std::str::FromStr for LogLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| {
                format!("'{text}' is no log level; there are error, warn, info, debug and trace")
            })
    }
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub in_flight_per_machine: Option<Count>,
    pub max_targets: Option<Count>,
    pub output_limit: Option<Size>,
    pub request_body_bytes: Option<Size>,
    pub idempotency_keep: Option<Period>,
    pub uploads_bytes: Option<Size>,
    pub uploads_keep: Option<Period>,
    pub connections: Option<Count>,
    pub requests_per_minute: Option<Count>,
    pub logins_per_minute: Option<Count>,
    pub enrolments_per_minute: Option<Count>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputTable {
    pub keep_days: Option<Count>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsTable {
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalsTable {
    pub expire: Option<Period>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainTable {
    pub timeout: Option<Period>,
    pub spread: Option<Period>,
}

/// At least one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Err(de::Error::custom("has to be at least 1")),
            count => Ok(Self(count)),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// Bytes: a number, or text such as `4GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a number of bytes, or text such as \"64KiB\", \"10MiB\", \"4GiB\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
                u64::try_from(value)
                    .ok()
                    .filter(|bytes| *bytes > 0)
                    .map(Size)
                    .ok_or_else(|| E::custom("has to be at least 1 byte"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                parse_size(text)
                    .map(Size)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1_u64 << 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// Time, such as `30s` or `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period(pub Duration);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|_| {
            de::Error::custom(format!("'{text}' is no time; write it like \"30s\" or \"24h\""))
        })
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

/// An `http:` or `https:` URL without path, query or user.
#[derive(Clone, Debug)]
pub(super) struct PublicUrl(pub Url);

impl std::str::FromStr for PublicUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("'{text}' is no URL ({error}); write https://HOST:PORT"))?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if plain {
            Ok(Self(url))
        } else {
            Err(format!("'{text}' has to look like https://HOST:PORT, with nothing after it"))
        }
    }
}

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for PublicUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [
            ("10", Some(10)),
            ("64KiB", Some(65_536)),
            ("4GiB", Some(4 << 30)),
            ("4 GiB", Some(4 << 30)),
            ("4GB", None),
            ("", None),
            ("0", None),
            ("99999999999TiB", None),
            ("é", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
