//! `reeve contexts`.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::args::Global;
use crate::contexts::{self, Contexts as File};
use crate::exit;
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve contexts                  which there are
  reeve contexts use work         the one to use from now on
  reeve --context home status     another one, this time
  reeve contexts remove old";

/// Coordinators you have logged in to.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Contexts {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// List them
    List,
    /// Use this one from now on
    Use {
        /// Its name
        name: String,
    },
    /// Forget one; its session stays valid, so log out first
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
struct Entry {
    name: String,
    current: bool,
    url: String,
    user: Option<String>,
    logged_in: bool,
    pin: Option<String>,
}

impl Row for Entry {
    const COLUMNS: &'static [Column] =
        &[column(""), column("NAME"), column("URL"), column("USER"), wide("PIN")];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self) -> Vec<String> {
        let user = self.user.clone().unwrap_or_default();
        vec![
            if self.current { "*" } else { "" }.to_owned(),
            self.name.clone(),
            self.url.clone(),
            if self.logged_in { user } else { "(logged out)".to_owned() },
            self.pin.clone().unwrap_or_default(),
        ]
    }
}

impl Contexts {
    pub fn perform(self, global: &Global) -> Result<u8, Failure> {
        let path = contexts::path()?;
        let mut file = File::load(&path)?;
        match self.action.unwrap_or(Action::List) {
            Action::List => {
                let entries: Vec<Entry> = file
                    .contexts
                    .iter()
                    .map(|(name, context)| Entry {
                        name: name.clone(),
                        current: file.current.as_ref() == Some(name),
                        url: context.url.clone(),
                        user: context.user.clone(),
                        logged_in: context.token.is_some(),
                        pin: context.pin.clone(),
                    })
                    .collect();
                if entries.is_empty() {
                    note("no contexts yet; 'reeve login URL' makes one");
                }
                print_list(global.output, &entries)?;
            }
            Action::Use { name } => {
                file.select(Some(&name))?;
                file.current = Some(name);
                file.save(&path)?;
            }
            Action::Remove { name } => {
                file.select(Some(&name))?;
                file.contexts.remove(&name);
                if file.current.as_ref() == Some(&name) {
                    file.current = None;
                }
                file.save(&path)?;
            }
        }
        Ok(exit::OK)
    }
}
