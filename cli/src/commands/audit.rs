//! `reeve audit`.

use clap::{Args, Subcommand};
use reeve_sdk::api::AuditEntry;

use super::collect;
use crate::args::Global;
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, print_one, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve audit                                       the newest 50
  reeve audit list --principal user:ada --limit 500
  reeve audit list --action job.create -o jsonl
  reeve audit verify                                is the chain whole?";

/// Who did what, when.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List entries, newest first
    List(List),
    /// Check that nothing was changed or removed
    Verify,
}

#[derive(Args)]
struct List {
    /// Only this, such as job.create
    #[arg(long)]
    action: Option<String>,
    /// Only by them, such as user:ada
    #[arg(long)]
    principal: Option<String>,
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
}

impl Row for AuditEntry {
    const COLUMNS: &'static [Column] = &[
        column("#"),
        column("WHEN"),
        column("WHO"),
        column("DID"),
        column("TO"),
        wide("DETAIL"),
        wide("HASH"),
    ];

    fn name(&self) -> String {
        self.sequence.to_string()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.sequence.to_string(),
            self.at.0.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            self.principal.clone(),
            self.action.clone(),
            self.target.clone(),
            self.detail.to_string(),
            self.hash.clone(),
        ]
    }
}

impl Audit {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let list = match self.action {
            Some(Action::Verify) => {
                let verdict = client.verify_audit().await?;
                let result = match verdict.broken_at {
                    _ if verdict.intact => "intact".to_owned(),
                    Some(at) => format!("BROKEN at entry {at}: it or one before it was changed"),
                    None => "BROKEN".to_owned(),
                };
                let details = [("chain", result.clone()), ("entries", verdict.entries.to_string())];
                print_one(global.output, &verdict, &result, &details)?;
                return Ok(if verdict.intact { exit::OK } else { exit::SOME_FAILED });
            }
            Some(Action::List(list)) => list,
            None => List { action: None, principal: None, limit: 50 },
        };
        let (action, principal) = (list.action.as_deref(), list.principal.as_deref());
        let entries = collect(Some(list.limit), |paging| {
            let client = client.clone();
            async move { client.audit(action, principal, &paging).await }
        })
        .await?;
        if entries.is_empty() {
            note("no such entries");
        }
        print_list(global.output, &entries)?;
        Ok(exit::OK)
    }
}
