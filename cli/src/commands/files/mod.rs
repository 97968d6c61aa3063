//! `reeve files`.

mod asking;
mod cat;
mod change;
mod content;
mod diff;
mod edit;
mod find;
mod grep;
mod history;
mod ls;
mod mode;
mod shown;
mod stat;
mod tree;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  reeve files ls -l web-1:/etc
  reeve files find 'role=web:/var/log' -n '*.log' --larger 100M
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
    /// Show folders as trees
    Tree(tree::Tree),
    /// Print files, byte for byte
    Cat(cat::Cat),
    /// Find files by name, kind, size, age and owner
    Find(Box<find::Find>),
    /// Search files for a pattern
    Grep(Box<grep::Grep>),
    /// Make folders
    Mkdir(change::Mkdir),
    /// Give files and folders other names
    Mv(change::Mv),
    /// Remove files and folders
    Rm(change::Rm),
    /// Change modes and owners
    Chmod(mode::Chmod),
    /// Edit a file in your editor
    Edit(edit::Edit),
    /// List versions that were kept
    History(history::History),
    /// Compare versions, machines, and files here
    Diff(diff::Diff),
    /// Put versions back
    Restore(history::Restore),
}

impl Files {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        match self.action {
            Action::Ls(ls) => ls.perform(global).await,
            Action::Stat(stat) => stat.perform(global).await,
            Action::Find(find) => find.perform(global).await,
            Action::Grep(grep) => grep.perform(global).await,
            Action::Tree(tree) => tree.perform(global).await,
            Action::Cat(cat) => cat.perform(global).await,
            Action::Edit(edit) => edit.perform(global).await,
            Action::Diff(diff) => diff.perform(global).await,
            Action::Mkdir(mkdir) => mkdir.perform(global).await,
            Action::Mv(mv) => mv.perform(global).await,
            Action::Rm(rm) => rm.perform(global).await,
            Action::Chmod(chmod) => chmod.perform(global).await,
            Action::History(history) => history.perform(global).await,
            Action::Restore(restore) => restore.perform(global).await,
        }
    }
}
