//! `reeve keys`.

use std::time::Duration;

use clap::{Args, Subcommand};
use reeve_protocol::ApiKeyId;
use reeve_sdk::api::{ApiKey, NewApiKey, Role};

use super::collect;
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{self, age, to_millis};
use crate::failure::Failure;
use crate::output::{Column, Row, column, print, print_list, print_one, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve keys create backup --role operator --scope 'role=db' --expires 90days
  REEVE_API_KEY=$(reeve keys create ci -o name) reeve status
  reeve keys revoke ID";

/// Keys for programs.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Keys {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key; it is shown once
    Create(Create),
    /// List keys
    List,
    /// End a key
    Revoke {
        /// Its id
        id: ApiKeyId,
    },
}

#[derive(Args)]
struct Create {
    /// What it is for
    name: String,
    /// What it may do: viewer, operator, approver or admin (as you)
    #[arg(long)]
    role: Option<Role>,
    /// With which machines (as you)
    #[arg(long, value_name = "SELECTOR")]
    scope: Option<String>,
    /// How long it is good for (for ever)
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    expires: Option<Duration>,
}

impl Row for ApiKey {
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("NAME"),
        column("USER"),
        column("ROLE"),
        column("SCOPE"),
        column("EXPIRES"),
        column("USED"),
        wide("KIND"),
        wide("CREATED"),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.user.clone(),
            self.role.as_str().to_owned(),
            self.scope.clone(),
            self.expires.map_or_else(|| "never".to_owned(), age),
            self.last_used.map_or_else(|| "never".to_owned(), age),
            self.kind.clone(),
            age(self.created),
        ]
    }
}

impl Keys {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List) {
            Action::Create(create) => {
                let key = NewApiKey {
                    name: create.name,
                    role: create.role,
                    scope: create.scope,
                    expires_in_ms: create.expires.map(to_millis),
                };
                let created = client.create_key(&key).await?;
                match global.output {
                    Format::Table | Format::Wide => {
                        print(&format!("{}\n", created.token))?;
                        note("It is not shown again. Use it as REEVE_API_KEY or --api-key-file.");
                    }
                    format => print_one(format, &created, &created.token, &[])?,
                }
            }
            Action::List => {
                let keys = collect(None, |paging| {
                    let client = client.clone();
                    async move { client.keys(&paging).await }
                })
                .await?;
                print_list(global.output, &keys)?;
            }
            Action::Revoke { id } => {
                client.revoke_key(id).await?;
                note(&format!("key {id} is revoked"));
            }
        }
        Ok(crate::exit::OK)
    }
}
