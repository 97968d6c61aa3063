//! `reeve tokens`.

use std::time::Duration;

use clap::{Args, Subcommand};
use reeve_protocol::EnrolmentTokenId;
use reeve_sdk::api::{EnrolmentToken, EnrolmentTokenCreated, NewEnrolmentToken};

use super::{collect, labels_text, parse_pair};
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{self, age, to_millis};
use crate::failure::Failure;
use crate::output::{Column, Row, column, json, print, print_list, print_one, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve tokens create --label role=web            for one machine, within an hour
  reeve tokens create --uses 20 --expires 2days   for many
  reeve tokens create -o name > token             the token alone, for a script
  reeve tokens revoke ID";

/// Tokens with which machines join.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Tokens {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Make a token; it is shown once
    Create(Create),
    /// List tokens
    List,
    /// End a token
    Revoke {
        /// Its id
        id: EnrolmentTokenId,
    },
}

#[derive(Args)]
struct Create {
    /// Label every machine gets that joins with it
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    labels: Vec<(String, String)>,
    /// Name for the machine
    #[arg(long)]
    name: Option<String>,
    /// How many machines may join with it (1)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// How long it is good for (1h)
    #[arg(long, value_name = "DURATION", value_parser = durations::parse)]
    expires: Option<Duration>,
}

impl Row for EnrolmentToken {
    const COLUMNS: &'static [Column] = &[
        column("ID"),
        column("STATE"),
        column("USES"),
        column("EXPIRES"),
        column("LABELS"),
        wide("NAME"),
        wide("BY"),
        wide("CREATED"),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<String> {
        let over = self.expires.0 <= jiff::Timestamp::now();
        let state = match (self.revoked, self.uses_left, over) {
            (Some(_), _, _) => "revoked",
            (None, 0, _) => "used up",
            (None, _, true) => "expired",
            (None, _, false) => "valid",
        };
        vec![
            self.id.to_string(),
            state.to_owned(),
            format!("{}/{}", self.uses - self.uses_left.min(self.uses), self.uses),
            age(self.expires),
            labels_text(&self.labels),
            self.name.clone().unwrap_or_default(),
            self.created_by.clone(),
            age(self.created),
        ]
    }
}

impl Tokens {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::List) {
            Action::Create(create) => {
                let request = NewEnrolmentToken {
                    labels: create.labels.into_iter().collect(),
                    name: create.name,
                    uses: create.uses,
                    expires_in_ms: create.expires.map(to_millis),
                };
                show(global, &client.create_enrolment_token(&request).await?)?;
            }
            Action::List => {
                let tokens = collect(None, |paging| {
                    let client = client.clone();
                    async move { client.enrolment_tokens(&paging).await }
                })
                .await?;
                print_list(global.output, &tokens)?;
            }
            Action::Revoke { id } => {
                client.revoke_enrolment_token(id).await?;
                note(&format!("token {id} is revoked"));
            }
        }
        Ok(crate::exit::OK)
    }
}

fn show(global: &Global, created: &EnrolmentTokenCreated) -> Result<(), Failure> {
    match global.output {
        Format::Table | Format::Wide => {}
        Format::Name => return print(&format!("{}\n", created.token)),
        Format::Json => return print(&json(created)?),
        _ => return print_one(global.output, created, &created.token, &[]),
    }
    print(&format!("{}\n", created.token))?;
    note("");
    note(
        "On the machine, with reeve-agent installed (the token goes in on stdin, not as an argument):",
    );
    note(&format!(
        "  echo '{}' | sudo reeve-agent enroll {} --token-stdin",
        created.token, created.url
    ));
    note("Or install the agent and join in one go:");
    note(&format!("  {}", created.install.replace("TOKEN", &created.token)));
    let details = &created.details;
    note(&format!(
        "Good for {} machine{}, expires {}.",
        details.uses,
        if details.uses == 1 { "" } else { "s" },
        age(details.expires)
    ));
    Ok(())
}
