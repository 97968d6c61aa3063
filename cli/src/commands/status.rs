//! `reeve status`.

use clap::Args;

use reeve_sdk::api::{UsageRow, VaultState, VaultStatus};

use super::models::provider_line;
use crate::args::Global;
use crate::connection::connect;
use crate::durations::{age, size};
use crate::exit;
use crate::failure::Failure;
use crate::output::print_one;

const EXAMPLES: &str = "\
Examples:
  reeve status
  reeve status -o json | jq .machines.offline

Exits with 1 when the coordinator takes no new work.";

/// How the coordinator is.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Status {}

impl Status {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let status = client.status().await?;
        let machines = status.machines;
        let mut counts = format!("{} online, {} offline", machines.online, machines.offline);
        for (count, word) in [(machines.quarantined, "quarantined"), (machines.revoked, "revoked")]
        {
            if count > 0 {
                counts.push_str(&format!(", {count} {word}"));
            }
        }
        let providers: Vec<String> = status.providers.iter().map(provider_line).collect();
        let details = [
            ("coordinator", client.url().to_owned()),
            ("state", status.readiness.clone()),
            ("machines", counts),
            (
                "running",
                format!("{} jobs, {} operations", status.jobs_running, status.operations_running),
            ),
            ("output kept", size(status.output_bytes)),
            ("vault", status.vault.as_ref().map(vault_text).unwrap_or_default()),
            ("models", providers.join("\n")),
            ("models today", usage_text(&status.models_today)),
            ("database", status.database.clone()),
            ("up for", age(status.started)),
            ("version", status.version.clone()),
            ("id", status.coordinator_id.to_string()),
        ];
        print_one(global.output, &status, &status.readiness, &details)?;
        Ok(if status.readiness == "ready" { exit::OK } else { exit::SOME_FAILED })
    }
}

fn vault_text(vault: &VaultStatus) -> String {
    match vault.state {
        VaultState::Absent => String::new(),
        VaultState::Sealed => "sealed; 'reeve vault unlock' opens it".to_owned(),
        VaultState::Open => "open".to_owned(),
    }
}

fn usage_text(usage: &UsageRow) -> String {
    if usage.calls == 0 {
        return String::new();
    }
    format!(
        "{} calls ({} failed), {} tokens read, {} written, cost {:.4}",
        usage.calls, usage.failed, usage.input_tokens, usage.output_tokens, usage.cost
    )
}
