//! What Reeve costs, each figure beside what this machine or the usual tool does in the same run:
//! `make bench`. Prints tables and writes the same as JSON. With the name of a part only that part,
//! as often as the number behind it says.

mod asking;
mod commands;
mod copying;
mod cost;
mod crowd;
mod fleet;
mod handshake;
mod memory;
mod operating;
mod reading_logs;
mod storm;
mod swarm;
mod table;
mod typing;

use std::path::Path;

use anyhow::{Context, ensure};

/// Repetitions of everything; medians are over them.
const REPETITIONS: usize = 5;

/// What measures a part.
type Measure = fn(usize) -> anyhow::Result<serde_json::Value>;

const PARTS: [(&str, Measure); 3] =
    [("commands", commands::measure), ("operating", operating::measure), ("swarm", swarm::measure)];

fn main() -> anyhow::Result<()> {
    let part = std::env::args().nth(1);
    let repetitions = match std::env::args().nth(2) {
        Some(text) => text.parse().context("how many repetitions")?,
        None => REPETITIONS,
    };
    let mut figures = serde_json::Map::new();
    for (name, measure) in PARTS {
        if part.as_deref().is_none_or(|part| part == name) {
            figures.insert(name.to_owned(), measure(repetitions)?);
        }
    }
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    ensure!(!figures.is_empty(), "there are the parts {}", names.join(", "));
    let me = std::env::current_exe()?;
    let path = me.parent().unwrap_or(Path::new(".")).join("bench.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&figures)?)?;
    println!("As JSON: {}", path.display());
    let failed = |part: &serde_json::Value| {
        part.get("failed").and_then(|failed| failed.as_array()).is_some_and(|all| !all.is_empty())
    };
    ensure!(!figures.values().any(failed), "something was not measured; see above");
    Ok(())
}
