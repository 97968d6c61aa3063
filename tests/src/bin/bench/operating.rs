//! What an operator does besides commands: files, terminals, logs, each beside what people use for
//! it now, and what the agent's memory was at most meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use reeve_tests::{Agent, Cluster, Sshd};
use serde_json::json;

use crate::copying::{Copied, LARGE_BYTES, SMALL_FILES, Sources};
use crate::{percentile, reading_logs, typing};

/// Most memory of a part, KiB.
struct Peak {
    what: &'static str,
    agent: u64,
}

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
        reset_peak(&agent)?;
        let each = sources.copy(&cluster, &sshd)?;
        peaks.push(Peak { what: "copying", agent: peak(&agent)? });
        reset_peak(&agent)?;
        let typed = typing::through_reeve(&cluster)?;
        peaks.push(Peak { what: "a terminal", agent: peak(&agent)? });
        let ssh_typed = typing::through_ssh(&sshd)?;
        reset_peak(&agent)?;
        let (took, lines) = reading_logs::through_reeve(&cluster, &log)?;
        peaks.push(Peak { what: "reading logs", agent: peak(&agent)? });
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
    Ok(report(&copied, (&mut keys, &mut ssh_keys), (&logs, &grep), &peaks))
}

fn report(
    copied: &[Copied],
    (keys, ssh_keys): (&mut [f64], &mut [f64]),
    (logs, grep): (&[Duration], &[Duration]),
    peaks: &[Peak],
) -> serde_json::Value {
    let median = |of: &dyn Fn(&Copied) -> Duration| {
        let each: Vec<Duration> = copied.iter().map(of).collect();
        percentile(&each, 0.5) / 1e3
    };
    let rate = |seconds: f64| (LARGE_BYTES >> 20) as f64 / seconds;
    println!("\nOperating: medians of {} repetitions", copied.len());
    println!("{:-<92}", "");
    println!("{:<44} {:>12}   {:>12}   beside", "", "Reeve", "yardstick");
    let mut json = serde_json::Map::new();
    let mut row = |key: &str, what: &str, unit: &str, ours: f64, theirs: f64, beside: &str| {
        let ratio = ours / theirs;
        let (ours_text, theirs_text) = (format!("{ours:.2} {unit}"), format!("{theirs:.2} {unit}"));
        println!("{what:<44} {ours_text:>12}   {theirs_text:>12}   {ratio:.2} × {beside}");
        json.insert(key.to_owned(), json!({ "reeve": ours, "yardstick": theirs, "ratio": ratio }));
    };
    let (up, down) = (rate(median(&|c| c.up)), rate(median(&|c| c.down)));
    let tls = rate(median(&|c| c.tls));
    row("up_scp", "1 GiB up, verified", "MiB/s", up, rate(median(&|c| c.scp_up)), "scp");
    row("up_rsync", "", "MiB/s", up, rate(median(&|c| c.rsync_up)), "rsync, aes128-gcm");
    row("up_tls", "", "MiB/s", up, tls, "plain TLS copy");
    row("down_scp", "1 GiB down, verified", "MiB/s", down, rate(median(&|c| c.scp_down)), "scp");
    row("down_rsync", "", "MiB/s", down, rate(median(&|c| c.rsync_down)), "rsync, aes128-gcm");
    row("down_tls", "", "MiB/s", down, tls, "plain TLS copy");
    let small = |of: &dyn Fn(&Copied) -> Duration| SMALL_FILES as f64 / median(of);
    let (small_up, small_down) = (small(&|c| c.small_up), small(&|c| c.small_down));
    let (tar, rsync) = (small(&|c| c.small_tar), small(&|c| c.small_rsync));
    row("small_up_tar", "10,000 small files up", "/s", small_up, tar, "tar | ssh tar");
    row("small_up_rsync", "", "/s", small_up, rsync, "rsync");
    row("small_down_tar", "10,000 small files down", "/s", small_down, tar, "tar | ssh tar");
    keys.sort_by(f64::total_cmp);
    ssh_keys.sort_by(f64::total_cmp);
    let middle = |sorted: &[f64]| sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    row("key_echo_ms", "a key, pressed until shown", "ms", middle(keys), middle(ssh_keys), "ssh");
    let seconds = |times: &[Duration]| percentile(times, 0.5) / 1e3;
    row("logs_s", "searching 1 GiB of log", "s", seconds(logs), seconds(grep), "grep");
    println!("{:-<92}", "");
    for what in ["copying", "a terminal", "reading logs"] {
        let most = peaks.iter().filter(|peak| peak.what == what).map(|peak| peak.agent).max();
        let mib = most.unwrap_or_default() as f64 / 1024.0;
        println!("agent's memory during {what}: at most {mib:.1} MiB");
        json.insert(format!("agent_mib_{}", what.replace(' ', "_")), json!(mib));
    }
    serde_json::Value::Object(json)
}

/// Makes the kernel forget what the agent's memory was at most (`/proc/PID/clear_refs`, proc(5)).
fn reset_peak(agent: &Agent) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").context("clear_refs")
}

/// What it was at most, KiB.
fn peak(agent: &Agent) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
