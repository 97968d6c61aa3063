//! `reeve ask`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCandidates;
use reeve_sdk::api::{TaskRequest, Yes};

use crate::args::{Format, Global};
use crate::commands::completion::machine_names;
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::output::{print, print_one};
use crate::task::{Options, follow};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve ask web-1 'why is the disk filling up?'
  reeve ask 'role=web' 'why is the disk filling up, and free at least 2 GB safely'
  reeve ask 'which services failed on db-1?'       machines by the words
  reeve ask web-1 'restart nginx' --yes=change     no question for changes
  reeve ask @all 'which machines need a reboot?' --plan-only

What only looks is run at once, where the kernel keeps it from changing anything. Everything else
waits for a yes to its exact bytes. Exits with 0 when every step did what was expected.";

/// Ask in words; see the plan, say yes, read what it came to.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "reeve ask [SELECTOR] 'WORDS' [OPTIONS]")]
pub struct Ask {
    /// The machines it may touch (those the words name), and the words
    #[arg(required = true, num_args = 1..=2, value_names = ["SELECTOR", "WORDS"])]
    #[arg(add = ArgValueCandidates::new(machine_names))]
    words: Vec<String>,
    /// Show the plan and run nothing
    #[arg(long)]
    plan_only: bool,
    /// Say yes in advance to: read, change or all
    #[arg(long, value_name = "WHAT", default_value = "read", hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "change")]
    yes: YesName,
    /// Run commands as this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Plan with this provider/model, or 'builtin'
    #[arg(long, value_name = "MODEL", hide_short_help = true)]
    model: Option<String>,
    /// Most that models may cost
    #[arg(long, value_name = "AMOUNT", hide_short_help = true)]
    budget: Option<f64>,
    /// Show every line of output
    #[arg(long, hide_short_help = true)]
    all_output: bool,
    /// Without a terminal: wait until others have said yes
    #[arg(long, hide_short_help = true)]
    wait: bool,
    /// Print the task's id and leave
    #[arg(long)]
    detach: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum YesName {
    Read,
    Change,
    All,
}

impl Ask {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let (selector, prompt) = match <[String; 2]>::try_from(self.words) {
            Ok([selector, prompt]) => (Some(selector), prompt),
            Err(words) => (None, words.into_iter().next().unwrap_or_default()),
        };
        if prompt.trim().is_empty() {
            return Err(Failure::usage("say in words what you want to know or to be done"));
        }
        let request = TaskRequest {
            prompt,
            selector,
            user: self.user,
            plan_only: self.plan_only,
            yes: match self.yes {
                YesName::Read => Yes::Read,
                YesName::Change => Yes::Change,
                YesName::All => Yes::All,
            },
            model: self.model,
            budget: self.budget,
        };
        let client = connect(global)?;
        let task = client.create_task(&request).await?;
        if self.detach {
            match global.output {
                Format::Table | Format::Wide => print(&format!("{}\n", task.id))?,
                format => print_one(format, &task, &task.id.to_string(), &[])?,
            }
            note(&format!("reeve: come back with: reeve tasks follow {}", task.id));
            return Ok(exit::OK);
        }
        let options = Options {
            format: global.output,
            color: global.color,
            all_output: self.all_output,
            wait: self.wait,
            cancels: true,
        };
        follow(client, task.id, options).await
    }
}
