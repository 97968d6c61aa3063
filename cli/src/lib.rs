//! `reeve`: the command line of Reeve. The program is `main.rs`; here is everything it does.

mod args;
mod commands;
#[cfg(not(fuzzing))]
mod connection;
#[cfg(fuzzing)]
pub mod connection;
mod contexts;
mod durations;
mod exit;
mod failure;
#[cfg(not(fuzzing))]
mod logs;
#[cfg(fuzzing)]
pub mod logs;
mod output;
#[cfg(not(fuzzing))]
mod shell;
#[cfg(fuzzing)]
pub mod shell;
#[cfg(not(fuzzing))]
mod target;
#[cfg(fuzzing)]
pub mod target;
mod task;
#[cfg(not(fuzzing))]
mod terminal;
#[cfg(fuzzing)]
pub mod terminal;
mod top;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// What `reeve` does, with the words it was called with.
#[must_use]
pub fn run() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(args::Cli::command).complete();
    let cli = args::Cli::parse();
    let verbose = cli.global.verbose;
    if verbose > 1 {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_writer(std::io::stderr)
            .init();
    }
    // One thread: a short-lived program spends longer on starting more than they give back.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::Failure::new(format!("cannot start: {error}")).report(verbose);
        }
    };
    let outcome = runtime.block_on(commands::dispatch(cli));
    // A read of the terminal may still be under way on another thread; nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(verbose),
    }
}
