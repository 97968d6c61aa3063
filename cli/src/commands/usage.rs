//! `reeve usage`.

use clap::{Args, ValueEnum};
use reeve_sdk::api::UsageRow;

use crate::args::{Format, Global};
use crate::connection::connect;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, print_one};

const EXAMPLES: &str = "\
Examples:
  reeve usage                               the last 30 days, by model
  reeve usage --by user --from 2026-11-01   since a day (UTC), or a time as in 2026-11-01T08:00:00Z
  reeve usage --by day -o json";

/// What models used and cost.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Usage {
    /// One line for each: provider, model, role, user, task or day
    #[arg(long, value_name = "WHAT", default_value = "model", hide_possible_values = true)]
    by: By,
    /// From this day or time on
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    from: Option<String>,
    /// Up to this day or time
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    to: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Provider,
    Model,
    Role,
    User,
    Task,
    Day,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Role => "role",
            Self::User => "user",
            Self::Task => "task",
            Self::Day => "day",
        }
    }
}

/// A day or an instant, as RFC 3339.
fn parse_when(text: &str) -> Result<String, String> {
    let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    full.parse::<jiff::Timestamp>()
        .map(|time| time.to_string())
        .map_err(|_| "write it as 2026-11-21 or 2026-11-21T08:00:00Z".to_owned())
}

impl Row for UsageRow {
    const COLUMNS: &'static [Column] = &[
        column("WHAT"),
        column("CALLS"),
        column("FAILED"),
        column("TOKENS READ"),
        column("CACHED"),
        column("TOKENS WRITTEN"),
        column("COST"),
    ];

    fn name(&self) -> String {
        self.key.clone()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            if self.key.is_empty() { "total".to_owned() } else { self.key.clone() },
            self.calls.to_string(),
            self.failed.to_string(),
            self.input_tokens.to_string(),
            self.cached_tokens.to_string(),
            self.output_tokens.to_string(),
            format!("{:.4}", self.cost),
        ]
    }
}

impl Usage {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let usage =
            client.usage(self.from.as_deref(), self.to.as_deref(), Some(self.by.as_str())).await?;
        match global.output {
            Format::Json | Format::Yaml | Format::Jsonl => {
                print_one(global.output, &usage, "usage", &[])?;
            }
            format => {
                let mut rows = usage.rows;
                rows.push(usage.total);
                print_list(format, &rows)?;
            }
        }
        Ok(crate::exit::OK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning_in_utc() {
        assert_eq!(parse_when("2026-11-21").as_deref(), Ok("2026-11-21T00:00:00Z"));
        assert_eq!(parse_when("2026-11-21T08:00:00+02:00").as_deref(), Ok("2026-11-21T06:00:00Z"));
        for wrong in ["yesterday", "2026-13-01", "21.11.2026", ""] {
            assert!(parse_when(wrong).is_err(), "{wrong}");
        }
    }
}
