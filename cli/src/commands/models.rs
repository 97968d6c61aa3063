//! `reeve models`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use reeve_sdk::Client;
use reeve_sdk::api::{
    ModelSettings, ModelTest, ModelTestRequest, Price, Provider, ProviderSettings, RoleModels, Wire,
};

use crate::args::{Format, Global};
use crate::commands::parse_pair;
use crate::connection::connect;
use crate::durations::age;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print, print_list, print_one, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve models add openai --wire openai_responses --key openai --model gpt-5 --price 1.25,10
  reeve models add local --wire ollama --model qwen3:8b
  reeve models add groq --wire openai_chat --base-url https://api.groq.com/openai --key groq --model NAME
  reeve models test openai
  reeve models use planner openai/gpt-5,builtin";

/// Providers of models, and who asks which.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Models {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List providers, and the models each role asks
    List,
    /// Add a provider, or change the one of the same name
    Add(Box<Add>),
    /// Ask a model for a sign of life; costs a few tokens
    Test {
        /// The provider, or provider/model
        name: String,
    },
    /// Say which models a role asks, in order
    Use(Use),
    /// Remove a provider
    Remove {
        /// Its name
        name: String,
    },
}

const ADD_EXAMPLES: &str = "\
Examples:
  reeve models add anthropic --wire anthropic --key anthropic --model NAME --price 3,15
  reeve models add lab --wire openai_chat --base-url http://10.0.0.5:8000 --model NAME
  reeve models add openai --file openai.json        everything the API knows, as JSON";

#[derive(Args)]
#[command(after_help = ADD_EXAMPLES)]
struct Add {
    /// What to call it
    name: String,
    /// openai_responses, openai_chat (and everything compatible), anthropic, gemini or ollama
    #[arg(
        long,
        value_name = "WIRE",
        required_unless_present = "file",
        hide_possible_values = true
    )]
    wire: Option<WireName>,
    /// Its address, when it is not the usual one
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// The entry of the vault with its key
    #[arg(long, value_name = "ENTRY", conflicts_with = "key_env")]
    key: Option<String>,
    /// The variable of the coordinator's environment with its key
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// A model; may be given again
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Prices of these models per million tokens: read,written
    #[arg(long, value_name = "IN,OUT", value_parser = parse_price)]
    price: Option<Price>,
    /// Tokens these models can hold
    #[arg(long, value_name = "TOKENS", hide_short_help = true)]
    context: Option<u64>,
    /// These models think first: longer waits, no temperature
    #[arg(long)]
    reasoning: bool,
    /// A header to add; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_pair, hide_short_help = true)]
    headers: Vec<(String, String)>,
    /// Read all settings from this JSON file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["wire", "base_url", "models"])]
    file: Option<PathBuf>,
}

#[derive(Args)]
struct Use {
    /// planner, validator, analyst or summariser; 'all' for every one
    role: String,
    /// provider/model in the order they are tried; 'builtin' is the runbooks. None: the default again
    #[arg(value_delimiter = ',')]
    models: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum WireName {
    OpenaiResponses,
    OpenaiChat,
    Anthropic,
    Gemini,
    Ollama,
}

impl From<WireName> for Wire {
    fn from(name: WireName) -> Self {
        match name {
            WireName::OpenaiResponses => Self::OpenaiResponses,
            WireName::OpenaiChat => Self::OpenaiChat,
            WireName::Anthropic => Self::Anthropic,
            WireName::Gemini => Self::Gemini,
            WireName::Ollama => Self::Ollama,
        }
    }
}

fn parse_price(text: &str) -> Result<Price, String> {
    let number = |text: &str| {
        text.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0)
    };
    text.split_once(',')
        .and_then(|(input, output)| Some((number(input)?, number(output)?)))
        .map(|(input, output)| Price { input, cached_input: None, output })
        .ok_or_else(|| "write it as READ,WRITTEN, such as 1.25,10".to_owned())
}

impl Row for Provider {
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("WIRE"),
        column("MODELS"),
        column("KEY"),
        column("STATE"),
        column("LIMITS"),
        wide("ADDRESS"),
        wide("FROM"),
        wide("LAST ERROR"),
    ];

    fn name(&self) -> String {
        self.settings.name.clone()
    }

    fn cells(&self) -> Vec<String> {
        let settings = &self.settings;
        let models: Vec<&str> = settings.models.iter().map(|model| &*model.name).collect();
        vec![
            settings.name.clone(),
            settings.wire.as_str().to_owned(),
            models.join(","),
            self.key.clone(),
            breaker_text(self),
            limits_text(self),
            settings.base_url.clone().unwrap_or_else(|| "-".to_owned()),
            self.source.clone(),
            self.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

/// Whether a provider is asked, in words.
pub fn breaker_text(provider: &Provider) -> String {
    match (&*provider.breaker, provider.retry_at) {
        ("closed", _) => "ok".to_owned(),
        ("open", Some(at)) => format!("failing, tried again at {at}"),
        ("open", None) => "failing".to_owned(),
        (other, _) => other.replace('_', " "),
    }
}

/// How much of its limits is used.
pub fn limits_text(provider: &Provider) -> String {
    let parts: Vec<String> = provider
        .rate_limits
        .iter()
        .map(|window| {
            let resets = window.resets_at.map(|at| format!(" until {at}")).unwrap_or_default();
            format!("{} {:.0}%{resets}", window.what, window.used_percent)
        })
        .collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

impl Models {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List) {
            Action::List => list(global.output, &client).await?,
            Action::Add(add) => {
                let provider = client.put_provider(&add.settings()?).await?;
                match global.output {
                    Format::Table | Format::Wide => note(&added(&provider)),
                    format => print_one(format, &provider, &provider.settings.name, &[])?,
                }
            }
            Action::Test { name } => return test(global.output, &client, &name).await,
            Action::Use(choice) => {
                let roles = match &*choice.role {
                    "all" => vec!["planner", "validator", "analyst", "summariser"],
                    role => vec![role],
                };
                for role in roles {
                    let models = RoleModels { models: choice.models.clone() };
                    let now = client.set_role(role, &models).await?;
                    let list = now.roles.get(role).cloned().unwrap_or_default();
                    note(&format!("{role} asks {}", list.join(", then ")));
                }
            }
            Action::Remove { name } => {
                client.remove_provider(&name).await?;
                note(&format!("'{name}' is removed"));
            }
        }
        Ok(exit::OK)
    }
}

fn added(provider: &Provider) -> String {
    let name = &provider.settings.name;
    let next = match &*provider.key {
        "missing" => format!(
            "its key is missing: 'reeve vault add {}'",
            provider.settings.vault_entry.as_deref().unwrap_or(name)
        ),
        "sealed" => "the vault is sealed: 'reeve vault unlock'".to_owned(),
        _ => format!("try it with 'reeve models test {name}', then 'reeve models use'"),
    };
    format!("'{name}' is there; {next}")
}

async fn list(format: Format, client: &Client) -> Result<(), Failure> {
    let models = client.models().await?;
    if !matches!(format, Format::Table | Format::Wide) {
        return match format {
            Format::Name => print_list(format, &models.providers),
            format => print_one(format, &models, "models", &[]),
        };
    }
    print_list(format, &models.providers)?;
    let mut text = String::from("\n");
    for (role, list) in &models.roles {
        text.push_str(&format!("{role:10}  {}\n", crate::terminal::escape(&list.join(", then "))));
    }
    print(&text)
}

async fn test(format: Format, client: &Client, name: &str) -> Result<u8, Failure> {
    let (provider, model) = match name.split_once('/') {
        Some((provider, model)) => (provider, Some(model.to_owned())),
        None => (name, None),
    };
    let found = client.test_provider(provider, &ModelTestRequest { model }).await?;
    let ModelTest { model, ok, message, first_text_ms, total_ms, .. } = &found;
    let details = [
        ("model", model.clone()),
        ("result", format!("{}: {message}", if *ok { "ok" } else { "failed" })),
        ("first text", first_text_ms.map(|ms| format!("{ms} ms")).unwrap_or_default()),
        ("in all", format!("{total_ms} ms")),
        ("tokens", format!("{} read, {} written", found.input_tokens, found.output_tokens)),
        ("cost", format!("{:.6}", found.cost)),
    ];
    print_one(format, &found, model, &details)?;
    Ok(if *ok { exit::OK } else { exit::SOME_FAILED })
}

impl Add {
    fn settings(self) -> Result<ProviderSettings, Failure> {
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(format!("{} cannot be read: {error}", path.display()))
            })?;
            let mut settings: ProviderSettings = serde_json::from_str(&text).map_err(|error| {
                Failure::usage(format!("{} is not as expected: {error}", path.display()))
            })?;
            settings.name = self.name;
            return Ok(settings);
        }
        let wire = self.wire.ok_or_else(|| Failure::usage("give --wire"))?.into();
        let models = self
            .models
            .iter()
            .map(|name| ModelSettings {
                name: name.clone(),
                context_tokens: self.context,
                max_output_tokens: None,
                reasoning: self.reasoning,
                price: self.price,
            })
            .collect();
        Ok(ProviderSettings {
            name: self.name,
            wire,
            base_url: self.base_url,
            vault_entry: self.key,
            key_env: self.key_env,
            headers: self.headers.into_iter().collect(),
            env_headers: std::collections::BTreeMap::new(),
            models,
            retries: None,
            connect_timeout_ms: None,
            first_byte_timeout_ms: None,
            idle_timeout_ms: None,
        })
    }
}

/// A provider in a line, for `reeve status`.
pub fn provider_line(provider: &Provider) -> String {
    let mut text = format!("{}: {}", provider.settings.name, breaker_text(provider));
    if !matches!(&*provider.key, "ok" | "none") {
        text.push_str(&format!(", key {}", provider.key));
    }
    if !provider.rate_limits.is_empty() {
        text.push_str(&format!("; {}", limits_text(provider)));
        if let Some(seen) = provider.rate_limits.iter().map(|window| window.seen_at).max() {
            text.push_str(&format!(" (seen {} ago)", age(seen)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_two_numbers() {
        let price = parse_price("1.25, 10").expect("a price");
        assert!((price.input - 1.25).abs() < 1e-9 && (price.output - 10.0).abs() < 1e-9);
        for wrong in ["", "1", "1,x", "-1,2", "nan,1", "1,inf"] {
            assert!(parse_price(wrong).is_err(), "{wrong}");
        }
    }
}
