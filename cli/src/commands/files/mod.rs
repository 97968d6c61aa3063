//! `reeve files`.

mod asking;
mod find;
mod grep;
mod ls;
mod shown;
mod stat;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  reeve files ls -l web-1:/etc
  reeve files find 'role=web:/var/log' -name '*.log' --larger 100M
  reeve files grep -i 'out of memory' '@all:/var/log/syslog'
Paths are MACHINE:/PATH; for many machines SELECTOR:/PATH.";

/// Look at, search and change files on machines
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Files {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List what is in folders
    Ls(ls::Ls),
    /// Say all about files
    Stat(stat::Stat),
    /// Find files by name, kind, size, age and owner
    Find(Box<find::Find>),
    /// Search files for a pattern
    Grep(Box<grep::Grep>),
}

impl Files {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        match self.action {
            Action::Ls(ls) => ls.perform(global).await,
            Action::Stat(stat) => stat.perform(global).await,
            Action::Find(find) => find.perform(global).await,
            Action::Grep(grep) => grep.perform(global).await,
        }
    }
}
