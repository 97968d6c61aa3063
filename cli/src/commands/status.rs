//! `reeve status`.

use clap::Args;

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
        let details = [
            ("coordinator", client.url().to_owned()),
            ("state", status.readiness.clone()),
            ("machines", counts),
            (
                "running",
                format!("{} jobs, {} operations", status.jobs_running, status.operations_running),
            ),
            ("output kept", size(status.output_bytes)),
            ("database", status.database.clone()),
            ("up for", age(status.started)),
            ("version", status.version.clone()),
            ("id", status.coordinator_id.to_string()),
        ];
        print_one(global.output, &status, &status.readiness, &details)?;
        Ok(if status.readiness == "ready" { exit::OK } else { exit::SOME_FAILED })
    }
}
