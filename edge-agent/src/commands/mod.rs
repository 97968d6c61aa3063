//! The command line. Data goes to stdout, talk to stderr.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line's own output")]

mod doctor;
mod enroll;
mod run;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Reeve's agent: runs operations on this machine and loses nothing.
#[derive(Debug, Parser)]
#[command(name = "reeve-agent", version, arg_required_else_help = true)]
#[command(after_help = "Examples:
  reeve-agent enroll https://reeve.example:7717 --token-file token
  reeve-agent run
  reeve-agent status -o json
  reeve-agent doctor --url https://reeve.example:7717")]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes this machine known to a coordinator
    Enroll(enroll::EnrollArguments),
    /// Runs the agent until it is stopped; commands go on when it stops
    Run(run::RunArguments),
    /// Shows who this machine is and what runs
    Status(status::StatusArguments),
    /// Checks everything the agent needs, and says how to mend what is wrong
    Doctor(doctor::DoctorArguments),
    /// Shows the version
    Version,
}

/// Where state is kept.
#[derive(Clone, Debug, Args)]
struct StateArgument {
    /// Folder for identity, journal and running operations [default: /var/lib/reeve-agent as
    /// root, else $XDG_STATE_HOME/reeve-agent]
    #[arg(long, env = "REEVE_AGENT_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl StateArgument {
    fn path(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(crate::state::default_path)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// How long an idle thread for blocking calls is kept.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Runs what the command line says. The exit code: 0 good, 1 bad, 2 used wrongly.
#[must_use]
pub fn main() -> ExitCode {
    let line = Line::parse();
    // One thread is enough, and every further one would cost memory on every machine. Those for
    // blocking calls start keepers side by side. They stay: asked for one when none is left and the
    // machine gives out no more, the runtime would panic, and whatever asked would end.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_stack_size(256 * 1024)
        .thread_keep_alive(FOREVER)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("reeve-agent: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match line.verb {
        Verb::Enroll(arguments) => runtime.block_on(enroll::main(arguments)),
        Verb::Run(arguments) => runtime.block_on(run::main(arguments)),
        Verb::Status(arguments) => status::main(&arguments),
        Verb::Doctor(arguments) => runtime.block_on(doctor::main(arguments)),
        Verb::Version => {
            println!("reeve-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("reeve-agent: {error:#}");
        ExitCode::FAILURE
    })
}
