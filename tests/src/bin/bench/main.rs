//! What Reeve costs, each figure beside what this machine or the usual tool does in the same run:
//! `make bench`. Prints tables and writes the same as JSON. With the name of a part, or of some rows
//! of one, only that, as often as the number behind it says.

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
mod streaming;
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

/// Rows of parts, by themselves.
const ROWS: [(&str, Measure); 3] =
    [("output", streaming::measure), ("files", copying::measure), ("keys", typing::measure)];

fn main() -> anyhow::Result<()> {
    let part = std::env::args().nth(1);
    let repetitions = match std::env::args().nth(2) {
        Some(text) => text.parse().context("how many repetitions")?,
        None => REPETITIONS,
    };
    let mut figures = serde_json::Map::new();
    let wanted: Vec<(&str, Measure)> = match part.as_deref() {
        None => PARTS.to_vec(),
        Some(part) => PARTS.into_iter().chain(ROWS).filter(|(name, _)| *name == part).collect(),
    };
    let names: Vec<&str> = PARTS.iter().chain(&ROWS).map(|(name, _)| *name).collect();
    ensure!(!wanted.is_empty(), "there are the parts {}", names.join(", "));
    for (name, measure) in wanted {
        figures.insert(name.to_owned(), measure(repetitions)?);
    }
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
