//! What an operator does besides commands: files, terminals, logs, each beside what people use for
//! it now, and what agent, keepers and workers take of memory meanwhile.

use std::time::Duration;

use anyhow::ensure;
use reeve_tests::{Cluster, Sshd};

use crate::copying::{Copied, LARGE_BYTES, SMALL_FILES, Sources};
use crate::memory::{Peak, Watch};
use crate::table::{Figure, Goal, Table, Unit, percentile};
use crate::{reading_logs, typing};

/// Measures everything and prints it; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let agent = cluster.agent("bench").start();
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(folder.path());
    let sources = Sources::make()?;
    let log = reading_logs::make(folder.path())?;
    let (mut copied, mut keys, mut ssh_keys) = (Vec::new(), Vec::new(), Vec::new());
    let (mut logs, mut grep) = (Vec::new(), Vec::new());
    let mut peaks = Vec::new();
    for repetition in 0..=repetitions {
        let watch = Watch::start(&agent, cluster.folder().to_owned())?;
        let each = sources.copy(&cluster, &sshd)?;
        peaks.push(("copying", watch.end()?));
        let watch = Watch::start(&agent, cluster.folder().to_owned())?;
        let typed = typing::through_reeve(&cluster)?;
        peaks.push(("a terminal", watch.end()?));
        let ssh_typed = typing::through_ssh(&sshd)?;
        let watch = Watch::start(&agent, cluster.folder().to_owned())?;
        let (took, lines) = reading_logs::through_reeve(&cluster, &log)?;
        peaks.push(("reading logs", watch.end()?));
        let (grep_took, grep_lines) = reading_logs::with_grep(&log)?;
        ensure!(lines == grep_lines, "{lines} lines, and {grep_lines} by grep");
        // The first one warms everything up.
        if repetition > 0 {
            copied.push(each);
            keys.push(percentile(&typed, 0.5));
            ssh_keys.push(percentile(&ssh_typed, 0.5));
            logs.push(took);
            grep.push(grep_took);
        }
        eprintln!("operating: repetition {repetition} of {repetitions}");
    }
    Ok(report(&copied, (&keys, &ssh_keys), (&logs, &grep), &peaks))
}

fn report(
    copied: &[Copied],
    (keys, ssh_keys): (&[f64], &[f64]),
    (logs, grep): (&[Duration], &[Duration]),
    peaks: &[(&str, Peak)],
) -> serde_json::Value {
    use Unit::{MebibytesPerSecond, Milliseconds, PerSecond, Seconds};
    let mut table = Table::new(&format!("Operating: medians of {} repetitions", copied.len()));
    let rate = |of: fn(&Copied) -> Duration| {
        Figure::rate((LARGE_BYTES >> 20) as f64, copied.iter().map(of))
    };
    let (up, down, tls) = (rate(|c| c.up), rate(|c| c.down), rate(|c| c.tls));
    let mut large = |key: &str, what: &str, ours: &Figure, theirs: &Figure, beside, goal| {
        table.row(key, what, MebibytesPerSecond, ours, (theirs, beside), goal);
    };
    let (twice, more) = (Goal::AtLeast(2.0), Goal::AtLeast(1.2));
    large("up_scp", "1 GiB up, verified", &up, &rate(|c| c.scp_up), "scp", twice);
    large("up_rsync", "", &up, &rate(|c| c.rsync_up), "rsync, aes128-gcm", more);
    large("up_tls", "", &up, &tls, "plain TLS copy", Goal::None);
    large("down_scp", "1 GiB down, verified", &down, &rate(|c| c.scp_down), "scp", twice);
    large("down_rsync", "", &down, &rate(|c| c.rsync_down), "rsync, aes128-gcm", more);
    large("down_tls", "", &down, &tls, "plain TLS copy", Goal::None);
    let small =
        |of: fn(&Copied) -> Duration| Figure::rate(SMALL_FILES as f64, copied.iter().map(of));
    let (small_up, small_down) = (small(|c| c.small_up), small(|c| c.small_down));
    let (tar, rsync) = (small(|c| c.small_tar), small(|c| c.small_rsync));
    let mut small = |key: &str, what: &str, ours: &Figure, beside: (&Figure, &str)| {
        table.row(key, what, PerSecond, ours, beside, Goal::None);
    };
    small("small_up_tar", "10,000 small files up", &small_up, (&tar, "tar | ssh tar"));
    small("small_up_rsync", "", &small_up, (&rsync, "rsync"));
    small("small_down_tar", "10,000 small files down", &small_down, (&tar, "tar | ssh tar"));
    let (keys, ssh_keys) =
        (Figure::new(keys.iter().copied()), Figure::new(ssh_keys.iter().copied()));
    let (what, beside) = ("a key, pressed until shown", (&ssh_keys, "ssh"));
    table.row("key_echo", what, Milliseconds, &keys, beside, Goal::AtMost(2.0));
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
