//! `reeve-agent`: agent and keeper in one binary.

use std::process::ExitCode;

use reeve_agent::host::{nursery, sandbox};
use reeve_agent::keeper;
use reeve_agent::operations::worker;

fn main() -> ExitCode {
    // The keeper comes before any argument parser or runtime: it starts once per command and has
    // to be as quick and small as a C program.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "keep") {
        let folder = arguments.next().unwrap_or_default();
        return match keeper::run(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == nursery::WORD) {
        return nursery::run(keeper::keep, keeper::refuse).unwrap_or(ExitCode::FAILURE);
    }
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == worker::WORD) {
        return worker::run(&arguments.next().unwrap_or_default());
    }
    // Likewise what tries out inspect mode, inside and outside of the sandbox.
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(sandbox::OUTER) => sandbox::run_probe(arguments),
        Some(sandbox::INNER) => sandbox::probe_inside(arguments),
        _ => reeve_agent::commands::main(),
    }
}
