//! A gigabyte of log, searched on the machine, beside `grep` on the spot.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use reeve_tests::Cluster;

/// Bytes of the log.
pub const LOG_BYTES: u64 = 1 << 30;

/// Of so many lines one is looked for.
const RARE: u64 = 10_000;

/// A log file as servers write them.
pub fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("bench.log");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    let (mut written, mut number) = (0_u64, 0_u64);
    while written < LOG_BYTES {
        let what = if number % RARE == 0 { "upstream timed out" } else { "GET /index.html 200" };
        let second = number / 100;
        let line = format!(
            "2026-11-20T{:02}:{:02}:{:02}.{:03}Z web nginx[731]: 10.1.{}.{} \"{what}\" {} 0.003\n",
            second / 3600 % 24,
            second / 60 % 60,
            second % 60,
            number % 1000,
            number % 251,
            number % 241,
            number * 31 % 90_000,
        );
        file.write_all(line.as_bytes())?;
        written += line.len() as u64;
        number += 1;
    }
    file.flush()?;
    Ok(path)
}

/// Through `reeve logs`; how long, and how many lines.
pub fn through_reeve(cluster: &Cluster, path: &Path) -> anyhow::Result<(Duration, usize)> {
    let path = path.display().to_string();
    let run = cluster.reeve(["logs", "bench", "-f", &path, "--grep", "upstream", "-o", "jsonl"]);
    ensure!(run.code == 0, "{run}");
    Ok((run.took, run.stdout.iter().filter(|byte| **byte == b'\n').count()))
}

/// With `grep`.
pub fn with_grep(path: &Path) -> anyhow::Result<(Duration, usize)> {
    let start = Instant::now();
    let done = Command::new("grep")
        .env("LC_ALL", "C")
        .arg("upstream")
        .arg(path)
        .stdin(Stdio::null())
        .output()?;
    ensure!(done.status.success());
    let took = start.elapsed();
    Ok((took, done.stdout.iter().filter(|byte| **byte == b'\n').count()))
}
