//! `reeve completion`, and the live names it offers.

use std::io;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::Shells;
use reeve_sdk::Paging;

use crate::args::Global;
use crate::connection::Connection;
use crate::exit;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  source <(reeve completion bash)                        in ~/.bashrc
  source <(reeve completion zsh)                         in ~/.zshrc
  reeve completion fish > ~/.config/fish/completions/reeve.fish

Names of machines are asked of the coordinator while you type.";

/// A person who presses Tab does not wait longer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Completion for your shell.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Completion {
    /// Which shell
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub fn perform(self) -> Result<u8, Failure> {
        let name = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let shells = Shells::builtins();
        let completer = shells
            .completer(name)
            .ok_or_else(|| Failure::new(format!("completion for {name} is not in this build")))?;
        completer.write_registration("COMPLETE", "reeve", "reeve", "reeve", &mut io::stdout())?;
        Ok(exit::OK)
    }
}

/// Only the options that say which coordinator; the rest of an unfinished line is not understood.
#[derive(Parser)]
struct OnlyGlobal {
    #[command(flatten)]
    global: Global,
}

/// Names of machines; none when the coordinator cannot be asked, for completion must not complain.
pub fn machine_names() -> Vec<CompletionCandidate> {
    let Ok(OnlyGlobal { global }) = OnlyGlobal::try_parse_from(["reeve"]) else {
        return Vec::new();
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let asked = runtime.block_on(async {
        let client = Connection::load(&global).ok()?.client_trying_for(Duration::ZERO).ok()?;
        let paging = Paging { cursor: None, limit: Some(1000) };
        tokio::time::timeout(PATIENCE, client.machines(None, None, &paging)).await.ok()?.ok()
    });
    let machines = asked.map(|page| page.items).unwrap_or_default();
    machines
        .into_iter()
        .map(|machine| {
            let about = format!(
                "{} {}",
                super::machines::state_word(machine.state),
                super::labels_text(&machine.labels)
            );
            CompletionCandidate::new(machine.name).help(Some(about.into()))
        })
        .collect()
}
