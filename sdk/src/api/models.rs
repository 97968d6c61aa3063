//! Providers of models, the roles they have, and what they used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Time;

/// Which of the HTTP interfaces a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// OpenAI's `/v1/responses`.
    OpenaiResponses,
    /// `/v1/chat/completions`, of OpenAI and of everything compatible.
    OpenaiChat,
    /// Anthropic's `/v1/messages`.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Ollama's `/api/chat`.
    Ollama,
    /// The runbooks inside the coordinator; no model at all.
    Builtin,
}

impl Wire {
    /// The word in API, settings and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiResponses => "openai_responses",
            Self::OpenaiChat => "openai_chat",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Builtin => "builtin",
        }
    }
}

/// What a model is asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ModelRole {
    /// Makes plans and alternatives.
    Planner,
    /// Judges results.
    Validator,
    /// Explains what hangs.
    Analyst,
    /// Sums up.
    Summariser,
}

impl ModelRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Planner, Self::Validator, Self::Analyst, Self::Summariser];

    /// The word in API, settings and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Validator => "validator",
            Self::Analyst => "analyst",
            Self::Summariser => "summariser",
        }
    }
}

/// Add or change a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// Its name here: lower-case letters, digits, `-`.
    pub name: String,
    /// What it speaks.
    pub wire: Wire,
    /// Where; left out: the wire's usual address. `http` on loopback and private networks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Its key: an entry of the vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_entry: Option<String>,
    /// Its key: a variable of the coordinator's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Headers to add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers to add whose values are in variables of the coordinator's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_headers: BTreeMap<String, String>,
    /// Its models.
    #[serde(default)]
    pub models: Vec<ModelSettings>,
    /// Tries after the first; 4 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Milliseconds to connect; 10,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    /// Milliseconds to the first byte; 60,000, and 120,000 for models that reason, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_timeout_ms: Option<u64>,
    /// Milliseconds between events; 120,000, and 300,000 for models that reason, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
}

/// One model of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// As the provider calls it.
    pub name: String,
    /// Tokens it can read and write together; 128,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// Tokens it may write; 8,192 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// It thinks before it writes: longer waits, no temperature.
    #[serde(default)]
    pub reasoning: bool,
    /// Prices per million tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// Prices per million tokens, in one currency for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Read.
    pub input: f64,
    /// Read from the provider's cache; as `input` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
    /// Written.
    pub output: f64,
}

/// A provider and how it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Provider {
    /// Its settings. Values of `headers` that look like secrets are not shown.
    #[serde(flatten)]
    pub settings: ProviderSettings,
    /// `settings` from the file (cannot be changed here), `api`, or `inside` for builtin.
    pub source: String,
    /// `closed` (all well), `open` (not asked until `retry_at`), `half_open`.
    pub breaker: String,
    /// When an open breaker lets one request through.
    pub retry_at: Option<Time>,
    /// Its key: `ok`, `missing`, `sealed` (unlock the vault), `none` (none needed).
    pub key: String,
    /// What it said last about its limits.
    pub rate_limits: Vec<RateLimitWindow>,
    /// The last failure, in a line.
    pub last_error: Option<String>,
}

/// How much of a provider's limit is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RateLimitWindow {
    /// `requests`, `tokens`, `input_tokens`, `output_tokens`.
    pub what: String,
    /// Percent, 0 to 100.
    pub used_percent: f64,
    /// How many are allowed in a window, when the provider says so.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: Option<u64>,
    /// When the window starts anew.
    pub resets_at: Option<Time>,
    /// When this was said.
    pub seen_at: Time,
}

/// Which models a role asks, in order: `provider/model`, or `builtin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RoleModels {
    /// The first that answers is taken.
    pub models: Vec<String>,
}

/// Providers and roles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Models {
    /// By name.
    pub providers: Vec<Provider>,
    /// For each role, which models in which order.
    pub roles: BTreeMap<String, Vec<String>>,
}

/// Ask a model for a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelTestRequest {
    /// Which of the provider's models; the first when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What a test found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelTest {
    /// `provider/model`.
    pub model: String,
    /// It answered, and kept to the schema.
    pub ok: bool,
    /// In a line: what is wrong and how to mend it, or that all is well.
    pub message: String,
    /// To the first byte of text, milliseconds.
    pub first_text_ms: Option<u64>,
    /// In all, milliseconds.
    pub total_ms: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// In the currency of the price table.
    pub cost: f64,
}

/// What models used. `GET /api/usage?from=&to=&by=provider|model|role|user|task|day`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// From, inclusive.
    pub from: Time,
    /// To, exclusive.
    pub to: Time,
    /// Everything together.
    pub total: UsageRow,
    /// By what was asked for, largest cost first.
    pub rows: Vec<UsageRow>,
}

/// One line of usage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UsageRow {
    /// Of whom or what; empty for the total.
    pub key: String,
    /// Calls, failed ones included.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Of these, from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// In the currency of the price table.
    pub cost: f64,
}
