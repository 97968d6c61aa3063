//! What an operator does besides commands: files, terminals, logs, each beside what people use for
//! it now, and what agent, keepers and workers take of memory meanwhile.

use std::time::Duration;

use anyhow::ensure;
use reeve_tests::{Cluster, Sshd};

use crate::copying::{Copied, Sources};
use crate::memory::{Peak, Watch};
use crate::table::{Figure, Goal, Table, Unit};
use crate::typing::Typed;
use crate::{copying, reading_logs, typing};

/// Measures everything and prints it; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let agent = cluster.agent("bench").start();
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(folder.path());
    let sources = Sources::make()?;
    let log = reading_logs::make(folder.path())?;
    let (mut copied, mut typed) = (Vec::new(), Vec::new());
    let (mut logs, mut grep) = (Vec::new(), Vec::new());
    let mut peaks = Vec::new();
    for repetition in 0..=repetitions {
        let watch = Watch::start(&agent, cluster.folder().to_owned())?;
        let mut each = Copied::default();
        sources.copy_large(&cluster, &sshd, &mut each)?;
        sources.copy_small(&cluster, &sshd, &mut each)?;
        peaks.push(("copying", watch.end()?));
        let watch = Watch::start(&agent, cluster.folder().to_owned())?;
        let keys = typing::through_reeve(&cluster)?;
        peaks.push(("a terminal", watch.end()?));
        let ssh_keys = typing::through_ssh(&sshd)?;
        let watch = Watch::start(&agent, cluster.folder().to_owned())?;
        let (took, lines) = reading_logs::through_reeve(&cluster, &log)?;
        peaks.push(("reading logs", watch.end()?));
        let (grep_took, grep_lines) = reading_logs::with_grep(&log)?;
        ensure!(lines == grep_lines, "{lines} lines, and {grep_lines} by grep");
        // The first one warms everything up.
        if repetition > 0 {
            copied.push(each);
            typed.push(Typed::of(&keys, &ssh_keys));
            logs.push(took);
            grep.push(grep_took);
        }
        eprintln!("operating: repetition {repetition} of {repetitions}");
    }
    Ok(report(&copied, &typed, (&logs, &grep), &peaks))
}

fn report(
    copied: &[Copied],
    typed: &[Typed],
    (logs, grep): (&[Duration], &[Duration]),
    peaks: &[(&str, Peak)],
) -> serde_json::Value {
    use Unit::Seconds;
    let mut table = Table::new(&format!("Operating: medians of {} repetitions", copied.len()));
    copying::report(&mut table, copied);
    typing::report(&mut table, typed);
    let seconds = |times: &[Duration]| Figure::new(times.iter().map(Duration::as_secs_f64));
    let (what, grep) = ("searching 1 GiB of log", seconds(grep));
    table.row("logs", what, Seconds, &seconds(logs), (&grep, "grep"), Goal::None);
    // The keeper's goal is its private memory, which is less than this.
    type MostOf = fn(&Peak) -> u64;
    let programs: [(&str, MostOf, Goal); 3] = [
        ("agent", |peak| peak.agent, Goal::AtMost(24.0)),
        ("keeper", |peak| peak.keeper, Goal::None),
        ("worker", |peak| peak.worker, Goal::None),
    ];
    for what in ["copying", "a terminal", "reading logs"] {
        for (program, of, goal) in programs {
            let each = peaks.iter().filter(|(part, _)| *part == what).map(|(_, peak)| of(peak));
            // A terminal has no worker.
            let seen: Vec<f64> =
                each.filter(|kib| *kib > 0).map(|kib| kib as f64 / 1024.0).collect();
            if seen.is_empty() {
                continue;
            }
            let key = format!("{program}_{}", what.replace(' ', "_"));
            let what = format!("{program}'s memory at most, {what}");
            table.alone(&key, &what, Unit::Mebibytes, &Figure::new(seen), goal);
        }
    }
    table.end()
}
