//! The commands, one file per noun.

pub mod approvals;
mod approved;
pub mod ask;
pub mod audit;
pub mod completion;
pub mod contexts;
pub mod cp;
pub mod doctor;
pub mod explain;
pub mod files;
pub mod forward;
pub mod jobs;
pub mod keys;
pub mod kill;
pub mod login;
pub mod logs;
mod machine_show;
pub mod machines;
pub mod models;
mod perform;
pub mod ps;
pub mod run;
pub mod services;
pub mod sessions;
pub mod shell;
pub mod status;
pub mod tasks;
pub mod tokens;
pub mod usage;
pub mod users;
pub mod vault;
pub mod version;

use std::collections::BTreeMap;
use std::future::Future;

use reeve_sdk::api::Page;
use reeve_sdk::{Error, Paging};

use crate::args::{Cli, Command};
use crate::failure::Failure;

/// Items of one page when all are wanted: the most a coordinator gives.
const PAGE: u32 = 1000;

/// Does what was asked; the exit code, unless it failed.
pub async fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Run(command) => command.perform(&global).await,
        Command::Shell(command) => command.perform(&global).await,
        Command::Sessions(command) => command.perform(&global).await,
        Command::Cp(command) => command.perform(&global).await,
        Command::Ask(command) => command.perform(&global).await,
        Command::Tasks(command) => command.perform(&global).await,
        Command::Approvals(command) => command.perform(&global).await,
        Command::Policy(command) => command.perform(&global).await,
        Command::Logs(command) => command.perform(&global).await,
        Command::Jobs(command) => command.perform(&global).await,
        Command::Files(command) => command.perform(&global).await,
        Command::Machines(command) => command.perform(&global).await,
        Command::Top(command) => command.perform(&global).await,
        Command::Ps(command) => command.perform(&global).await,
        Command::Kill(command) => command.perform(&global).await,
        Command::Services(command) => command.perform(&global).await,
        Command::Forward(command) => command.perform(&global).await,
        Command::SshProxy(command) => command.perform(&global).await,
        Command::Tokens(command) => command.perform(&global).await,
        Command::Models(command) => command.perform(&global).await,
        Command::Vault(command) => command.perform(&global).await,
        Command::Usage(command) => command.perform(&global).await,
        Command::Status(command) => command.perform(&global).await,
        Command::Login(command) => command.perform(&global).await,
        Command::Logout => login::logout(&global).await,
        Command::Whoami => login::whoami(&global).await,
        Command::Contexts(command) => command.perform(&global),
        Command::Users(command) => command.perform(&global).await,
        Command::Keys(command) => command.perform(&global).await,
        Command::Audit(command) => command.perform(&global).await,
        Command::Doctor(command) => command.perform(&global).await,
        Command::Version(command) => command.perform(&global).await,
        Command::Completion(command) => command.perform(),
    }
}

/// All items of a list, or the first `limit`, page by page.
async fn collect<T, F>(
    limit: Option<u32>,
    mut page: impl FnMut(Paging) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    let mut items = Vec::new();
    let mut cursor = None;
    loop {
        let wanted = limit.map_or(PAGE, |limit| {
            PAGE.min(limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX)))
        });
        if wanted == 0 {
            return Ok(items);
        }
        let mut answer = page(Paging { cursor, limit: Some(wanted) }).await?;
        items.append(&mut answer.items);
        match answer.next {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
}

/// `KEY=VALUE`.
fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// Labels as people write them.
fn labels_text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Asks before something that cannot be undone. Without a terminal, `--yes` is the answer.
fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !crate::terminal::can_ask() {
        return Err(Failure::usage(format!("{what} needs a yes; give --yes")));
    }
    if crate::terminal::confirm(&format!("{what}?"))? {
        return Ok(());
    }
    Err(Failure::new("not confirmed; nothing was done"))
}
