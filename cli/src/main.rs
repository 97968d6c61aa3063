//! `reeve`: the command line of Reeve.

use std::process::ExitCode;

fn main() -> ExitCode {
    reeve_cli::run()
}
