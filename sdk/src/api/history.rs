//! What machines did over time.

use serde::{Deserialize, Serialize};

/// How finely a history is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Resolution {
    /// The finest that fits what is asked for.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Samples, kept for an hour.
    #[serde(rename = "5s")]
    FiveSeconds,
    /// Minutes, kept for a day.
    #[serde(rename = "1m")]
    Minute,
    /// Quarters of an hour, kept for 30 days.
    #[serde(rename = "15m")]
    QuarterHour,
}

impl Resolution {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::FiveSeconds => "5s",
            Self::Minute => "1m",
            Self::QuarterHour => "15m",
        }
    }
}

/// What a machine did, points as columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// How finely it is told.
    pub resolution: Resolution,
    /// Seconds of one point.
    pub step_s: u32,
    /// When each point begins, seconds since 1970.
    pub times: Vec<i64>,
    /// The series that were asked for.
    pub series: Vec<HistorySeries>,
}

/// One series: a value for each of the times, or nothing where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistorySeries {
    /// Its name.
    pub name: String,
    /// `percent`, `bytes`, `bytes_per_second` or `processes`.
    pub unit: String,
    /// The mean of each point.
    pub avg: Vec<Option<f64>>,
    /// The least; empty for samples, which have a mean alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub min: Vec<Option<f64>>,
    /// The most; likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub max: Vec<Option<f64>>,
}
