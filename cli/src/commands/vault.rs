//! `reeve vault`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reeve_sdk::api::{
    NewVaultEntry, VaultEntry, VaultPassphrase, VaultSecret, VaultState, VaultStatus,
};

use crate::args::{Format, Global};
use crate::connection::{connect, read_secret};
use crate::durations::age;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print, print_list, print_one, wide};
use crate::terminal::{ask_secret, can_ask, note};

const EXAMPLES: &str = "\
Examples:
  reeve vault init                             make it; asks for a passphrase
  reeve vault add openai                       asks for the key; it is never shown again
  reeve vault add openai --file key.txt        or from a file, or '-' for stdin
  reeve vault add account --oauth tokens.json  tokens of a login: access_token, refresh_token, …
  reeve vault unlock                           after a restart of the coordinator";

/// Keys of model providers, encrypted on the coordinator.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Vault {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Make the vault
    Init(Passphrase),
    /// Open the vault with its passphrase
    Unlock(Passphrase),
    /// Seal it: no key can be used until it is unlocked
    Lock,
    /// Whether it is open
    Status,
    /// Put a key in, or in place of the one of the same name
    Add(Add),
    /// List what is in it, without the keys
    List,
    /// Take a key out
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
struct Passphrase {
    /// Read the passphrase from this file ('-' is stdin)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
struct Add {
    /// What to call it
    name: String,
    /// Read the key from this file ('-' is stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "oauth")]
    file: Option<PathBuf>,
    /// Tokens of an OAuth 2.0 login as JSON: access_token, refresh_token, id_token, token_url, client_id, expires
    #[arg(long, value_name = "FILE")]
    oauth: Option<PathBuf>,
}

impl Row for VaultEntry {
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("KIND"),
        column("ENDS WITH"),
        column("ACCOUNT"),
        column("EXPIRES"),
        wide("BY"),
        wide("CREATED"),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.name.clone(),
            self.kind.clone(),
            text(&self.ends_with),
            text(&self.account),
            self.expires.map_or_else(|| "-".to_owned(), age),
            self.created_by.clone(),
            age(self.created),
        ]
    }
}

impl Vault {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action.unwrap_or(Action::Status) {
            Action::Init(given) => {
                let passphrase = given.read("New passphrase of the vault:", true)?;
                show(global.output, &client.init_vault(&passphrase).await?)?;
                note("Keep the passphrase elsewhere too: without it nobody can open the vault.");
            }
            Action::Unlock(given) => {
                let passphrase = given.read("Passphrase of the vault:", false)?;
                show(global.output, &client.unlock_vault(&passphrase).await?)?;
            }
            Action::Lock => show(global.output, &client.lock_vault().await?)?,
            Action::Status => show(global.output, &client.vault().await?)?,
            Action::Add(add) => {
                let entry = NewVaultEntry { secret: add.read()?, name: add.name };
                let entry = client.add_vault_entry(&entry).await?;
                match global.output {
                    Format::Table | Format::Wide => {
                        note(&format!("'{}' is in the vault", entry.name))
                    }
                    format => print_one(format, &entry, &entry.name, &[])?,
                }
            }
            Action::List => print_list(global.output, &client.vault_entries().await?.items)?,
            Action::Remove { name } => {
                client.remove_vault_entry(&name).await?;
                note(&format!("'{name}' is no longer in the vault"));
            }
        }
        Ok(crate::exit::OK)
    }
}

fn show(format: Format, status: &VaultStatus) -> Result<(), Failure> {
    let state = match status.state {
        VaultState::Absent => "absent",
        VaultState::Sealed => "sealed",
        VaultState::Open => "open",
    };
    if !matches!(format, Format::Table | Format::Wide) {
        return print_one(format, status, state, &[]);
    }
    let remedy = match status.state {
        VaultState::Absent => "; 'reeve vault init' makes one",
        VaultState::Sealed => "; 'reeve vault unlock' opens it",
        VaultState::Open if status.opens_itself => ", and opens by itself at the start",
        VaultState::Open => "",
    };
    let entries = match (status.state, status.entries) {
        (VaultState::Absent, _) => String::new(),
        (_, 1) => ", 1 entry".to_owned(),
        (_, count) => format!(", {count} entries"),
    };
    print(&format!("the vault is {state}{entries}{remedy}\n"))
}

impl Passphrase {
    fn read(&self, question: &str, new: bool) -> Result<VaultPassphrase, Failure> {
        let passphrase = match &self.passphrase_file {
            Some(path) => read_secret(path, "passphrase")?,
            None if can_ask() => ask_secret(question, new)?,
            None => {
                return Err(Failure::usage(
                    "there is no terminal to ask for the passphrase; give --passphrase-file",
                ));
            }
        };
        Ok(VaultPassphrase { passphrase })
    }
}

impl Add {
    fn read(&self) -> Result<VaultSecret, Failure> {
        if let Some(path) = &self.oauth {
            let text = read_secret(path, "tokens")?;
            let mut json: serde_json::Value = serde_json::from_str(&text)
                .map_err(|error| Failure::usage(format!("the tokens are no JSON: {error}")))?;
            if let Some(object) = json.as_object_mut() {
                object.insert("kind".to_owned(), "oauth".into());
            }
            return serde_json::from_value(json).map_err(|error| {
                Failure::usage(format!(
                    "the tokens are not as expected: {error}; there are access_token, refresh_token, id_token, token_url, client_id and expires"
                ))
            });
        }
        let value = match &self.file {
            Some(path) => read_secret(path, "key")?,
            None if can_ask() => ask_secret(&format!("Key for '{}':", self.name), false)?,
            None => {
                return Err(Failure::usage(
                    "there is no terminal to ask for the key; give --file (or --file - for stdin)",
                ));
            }
        };
        Ok(VaultSecret::ApiKey { value })
    }
}
