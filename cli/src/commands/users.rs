//! `reeve users`.

use clap::{Args, Subcommand};
use reeve_sdk::api::{NewUser, Role, User, UserChange};

use super::{collect, confirm};
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::age;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print, print_list, print_one, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve users add ada --role operator --scope 'role=web'   prints their one-time code
  reeve users role ada approver
  reeve users remove ada

Roles: viewer < operator < approver < admin";

/// People who may log in.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Users {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Add somebody; prints the one-time code they log in with first
    Add {
        /// Their name
        name: String,
        /// What they may do: viewer, operator, approver or admin
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// With which machines (all)
        #[arg(long, value_name = "SELECTOR")]
        scope: Option<String>,
    },
    /// List people
    List,
    /// Change what somebody may do
    Role {
        /// Their name
        name: String,
        /// viewer, operator, approver or admin
        role: Role,
        /// With which machines (as before)
        #[arg(long, value_name = "SELECTOR")]
        scope: Option<String>,
    },
    /// Remove somebody, with their sessions and keys
    Remove {
        /// Their name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

impl Row for User {
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("ROLE"),
        column("SCOPE"),
        column("STATE"),
        column("ADDED"),
        wide("ID"),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.role.as_str().to_owned(),
            self.scope.clone(),
            if self.active { "active" } else { "invited" }.to_owned(),
            age(self.created),
            self.id.to_string(),
        ]
    }
}

impl Users {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List) {
            Action::Add { name, role, scope } => {
                let added = client.add_user(&NewUser { name, role, scope }).await?;
                match global.output {
                    Format::Table | Format::Wide => {
                        print(&format!("{}\n", added.code))?;
                        note(&format!(
                            "Give {} this code. They log in once with it, within {}:",
                            added.user.name,
                            age(added.expires).trim_start_matches("in ")
                        ));
                        note(&format!("  reeve login {} --code-file -", client.url()));
                    }
                    format => print_one(format, &added, &added.code, &[])?,
                }
            }
            Action::List => {
                let users = collect(None, |paging| {
                    let client = client.clone();
                    async move { client.users(&paging).await }
                })
                .await?;
                print_list(global.output, &users)?;
            }
            Action::Role { name, role, scope } => {
                let change = UserChange { role: Some(role), scope };
                let user = client.change_user(&name, &change).await?;
                note(&format!("{} is {} for {}", user.name, user.role.as_str(), user.scope));
            }
            Action::Remove { name, yes } => {
                confirm(yes, &format!("Removing {name} with all their sessions and keys"))?;
                client.remove_user(&name).await?;
                note(&format!("{name} is removed"));
            }
        }
        Ok(crate::exit::OK)
    }
}
