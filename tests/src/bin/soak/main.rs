//! Random work and random faults against a cluster of the real programs, many times over; after
//! each run everything that was promised is checked. `make soak SECONDS=… SEED=…`.
//!
//! Each run is a process of its own, made from `SEED` and its number alone: `reeve-soak run SEED
//! NUMBER` repeats one. A run whose planned fault met nothing does not count.

mod ask;
mod campaign;
mod check;
mod history;
mod plan;
mod work;
mod world;

use std::path::Path;

use anyhow::Context;

const USAGE: &str =
    "Usage: reeve-soak [--seconds N] [--runs N] [--seed N] [--parallel N] [--folder PATH]
       reeve-soak run SEED NUMBER [FOLDER]     one run again";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["work", order] => work::run(order),
        ["run", seed, number, folder @ ..] => {
            let folder = Path::new(folder.first().copied().unwrap_or("."));
            let seed = seed.parse().context("SEED is a number")?;
            let number = number.parse().context("NUMBER is a number")?;
            let verdict = campaign::run_here(seed, number, folder)?;
            std::process::exit(verdict);
        }
        _ => match campaign::Campaign::from_words(&words) {
            Some(campaign) => {
                let all_is_well = campaign.run()?;
                std::process::exit(if all_is_well { 0 } else { 1 });
            }
            None => {
                eprintln!("{USAGE}");
                std::process::exit(2);
            }
        },
    }
}
