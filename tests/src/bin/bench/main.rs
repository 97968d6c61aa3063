//! First figures, each beside what this machine does by itself in the same run: `make bench`.
//! Prints tables and writes the same as JSON. With `commands` or `operating` only that part,
//! the latter as often as the number behind it says.

mod asking;
mod copying;
mod operating;
mod reading_logs;
mod typing;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reeve_protocol::Containment;
use reeve_sdk::api::{Operation, OperationState};
use reeve_sdk::{Client, Event};
use reeve_tests::Cluster;
use serde_json::json;

/// Repetitions of everything; medians are over them.
const REPETITIONS: usize = 5;

/// Round trips in a repetition.
const ROUNDS: usize = 100;

/// Whole processes in a repetition.
const PROCESSES: usize = 20;

/// Bytes streamed in a repetition.
const STREAM_BYTES: u64 = 1 << 30;

/// Bytes of a durable append: what a small transaction writes.
const COMMIT_BYTES: usize = 4096;

fn main() -> anyhow::Result<()> {
    let part = std::env::args().nth(1);
    let repetitions = match std::env::args().nth(2) {
        Some(text) => text.parse().context("how many repetitions")?,
        None => REPETITIONS,
    };
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let mut figures = serde_json::Map::new();
    if wants("commands") {
        figures.insert("commands".to_owned(), commands()?);
    }
    if wants("operating") {
        figures.insert("operating".to_owned(), operating::measure(repetitions)?);
    }
    ensure!(!figures.is_empty(), "there are the parts 'commands' and 'operating'");
    let me = std::env::current_exe()?;
    let path = me.parent().unwrap_or(Path::new(".")).join("bench.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&figures)?)?;
    println!("As JSON: {}", path.display());
    Ok(())
}

/// Commands and words.
fn commands() -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let _agent = cluster.agent("bench").start();
    let runtime = tokio::runtime::Runtime::new()?;
    let client = cluster.client();

    let mut figures = Figures::default();
    let mut containment = Containment::Unknown;
    for repetition in 0..=REPETITIONS {
        let mut spawn = Vec::new();
        let mut commit = Vec::new();
        let mut trip = Vec::new();
        let mut file = File::create(cluster.folder().join("append"))?;
        for _ in 0..ROUNDS {
            spawn.push(spawn_locally()?);
            commit.push(commit_durably(&mut file)?);
            let start = Instant::now();
            let (_, operation) = runtime.block_on(run(&client, &["true"]))?;
            trip.push(start.elapsed());
            containment = operation.containment.unwrap_or(Containment::Unknown);
        }
        let mut process = Vec::new();
        for _ in 0..PROCESSES {
            let start = Instant::now();
            let run = cluster.reeve(["run", "bench", "--", "true"]);
            ensure!(run.code == 0, "{run}");
            process.push(start.elapsed());
        }
        let pipe = pipe_locally(STREAM_BYTES)?;
        let start = Instant::now();
        let bytes = STREAM_BYTES.to_string();
        let (received, _) = runtime.block_on(run(&client, &["head", "-c", &bytes, "/dev/zero"]))?;
        let stream = start.elapsed();
        ensure!(received == STREAM_BYTES, "{received} bytes arrived of {STREAM_BYTES}");
        let mut asked = Vec::new();
        for _ in 0..asking::TASKS {
            asked.push(runtime.block_on(asking::ask(&client, "bench"))?);
        }
        // The first one warms everything up.
        if repetition > 0 {
            figures.spawn.push(spawn);
            figures.commit.push(commit);
            figures.trip.push(trip);
            figures.process.push(process);
            figures.pipe.push(pipe);
            figures.stream.push(stream);
            figures.asked.push(asked);
        }
        eprintln!("repetition {repetition} of {REPETITIONS}");
    }
    let database = format!("{:?}", cluster.database).to_lowercase();
    Ok(report(&figures, &database, containment))
}

/// Runs a command to its end; how many bytes came, and the operation.
async fn run(client: &Client, argv: &[&str]) -> anyhow::Result<(u64, Operation)> {
    let request = reeve_sdk::command("bench", argv.iter().copied());
    let mut follow = client.run(&request)?;
    let mut bytes = 0;
    let mut last = None;
    while let Some(event) = follow.next().await? {
        match event {
            Event::Output(output) => bytes += output.bytes.len() as u64,
            Event::Operation(operation) => last = Some(*operation),
            Event::Job(job) => last = job.single.map(|operation| *operation).or(last),
            Event::Gap { gap, .. } => bail!("a gap: {gap:?}"),
            Event::Interrupted { why } => bail!("interrupted: {why}"),
            Event::Resumed => {}
        }
    }
    let operation = last.context("no operation came")?;
    ensure!(operation.state == OperationState::Succeeded, "{operation:?}");
    Ok((bytes, operation))
}

/// What starting `true` and waiting for it costs without us: posix_spawn(3) and waitpid(2).
fn spawn_locally() -> anyhow::Result<Duration> {
    let start = Instant::now();
    let status = Command::new("/usr/bin/true").stdin(Stdio::null()).status()?;
    ensure!(status.success());
    Ok(start.elapsed())
}

/// What making a row durable costs: append and fdatasync(2), on the coordinator's file system.
fn commit_durably(file: &mut File) -> anyhow::Result<Duration> {
    let start = Instant::now();
    file.write_all(&[7; COMMIT_BYTES])?;
    file.sync_data()?;
    Ok(start.elapsed())
}

/// What the same bytes take through a local pipe.
fn pipe_locally(bytes: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut child = Command::new("head")
        .args(["-c", &bytes.to_string(), "/dev/zero"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut pipe = child.stdout.take().context("a pipe")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    while let read @ 1.. = pipe.read(&mut buffer)? {
        received += read as u64;
    }
    ensure!(child.wait()?.success() && received == bytes);
    Ok(start.elapsed())
}

/// Everything measured, by repetition.
#[derive(Default)]
struct Figures {
    spawn: Vec<Vec<Duration>>,
    commit: Vec<Vec<Duration>>,
    trip: Vec<Vec<Duration>>,
    process: Vec<Vec<Duration>>,
    pipe: Vec<Duration>,
    stream: Vec<Duration>,
    asked: Vec<Vec<asking::Stages>>,
}

impl Figures {
    /// Milliseconds of a stage of a task: median over repetitions of the median of each.
    fn stage(&self, of: impl Fn(&asking::Stages) -> Duration) -> f64 {
        let each: Vec<Vec<Duration>> =
            self.asked.iter().map(|tasks| tasks.iter().map(&of).collect()).collect();
        median_of(&each, 0.5)
    }
}

/// Milliseconds below which a share of the values lie.
fn percentile(values: &[Duration], share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|value| value.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let at = (share * (sorted.len() - 1) as f64).round() as usize;
    sorted[at]
}

/// Median over repetitions of a percentile within each.
fn median_of(repetitions: &[Vec<Duration>], share: f64) -> f64 {
    let each: Vec<Duration> = repetitions
        .iter()
        .map(|values| Duration::from_secs_f64(percentile(values, share) / 1e3))
        .collect();
    percentile(&each, 0.5)
}

fn mebibytes_per_second(times: &[Duration]) -> f64 {
    (STREAM_BYTES >> 20) as f64 / (percentile(times, 0.5) / 1e3)
}

fn report(figures: &Figures, database: &str, containment: Containment) -> serde_json::Value {
    let spawn = median_of(&figures.spawn, 0.5);
    let commit = median_of(&figures.commit, 0.5);
    let unit = 2.0 * spawn + commit;
    let (p50, p99) = (median_of(&figures.trip, 0.5), median_of(&figures.trip, 0.99));
    let process = median_of(&figures.process, 0.5);
    let (pipe, stream) =
        (mebibytes_per_second(&figures.pipe), mebibytes_per_second(&figures.stream));
    // A quiet machine repeats itself: how far apart the repetitions' medians of the yardstick are.
    let medians: Vec<f64> = figures.spawn.iter().map(|values| percentile(values, 0.5)).collect();
    let noise = medians.iter().copied().fold(f64::MIN, f64::max)
        / medians.iter().copied().fold(f64::MAX, f64::min);

    println!(
        "Medians of {REPETITIONS} repetitions; database {database}, containment {containment:?}"
    );
    println!("{:-<92}", "");
    println!("{:<44} {:>12}   {:>12}   beside", "", "Reeve", "yardstick");
    let row = |what: &str, ours: String, theirs: String, beside: String| {
        println!("{what:<44} {ours:>12}   {theirs:>12}   {beside}");
    };
    row("spawn and wait for `true`", String::new(), format!("{spawn:.3} ms"), "posix_spawn".into());
    row("durable append of 4 KiB", String::new(), format!("{commit:.3} ms"), "fdatasync".into());
    row(
        "round trip of `true`, warm, p50",
        format!("{p50:.3} ms"),
        format!("{unit:.3} ms"),
        format!("{:.2} × (2 spawns + 1 append)", p50 / unit),
    );
    row(
        "round trip of `true`, warm, p99",
        format!("{p99:.3} ms"),
        String::new(),
        format!("{:.2} × p50", p99 / p50),
    );
    row(
        "`reeve run m -- true`, a process",
        format!("{process:.2} ms"),
        String::new(),
        String::new(),
    );
    row(
        "output of `head -c 1G /dev/zero`",
        format!("{stream:.0} MiB/s"),
        format!("{pipe:.0} MiB/s"),
        format!("{:.2} × a local pipe", stream / pipe),
    );
    let stages = [
        ("words → plan, no model, as the asker sees it", figures.stage(|s| s.to_plan)),
        ("  plan made and recorded", figures.stage(|s| s.plan)),
        ("  plan → first job recorded", figures.stage(|s| s.dispatch)),
        ("  end of a command → its verdict", figures.stage(|s| s.judge)),
        ("  last verdict → summary", figures.stage(|s| s.summary)),
        ("the whole of it, commands included", figures.stage(|s| s.whole)),
    ];
    for (what, ms) in stages {
        let beside = match what.starts_with("  ") {
            true => format!("{:.2} × the goal of 20 ms per stage", ms / 20.0),
            false => String::new(),
        };
        row(what, format!("{ms:.2} ms"), String::new(), beside);
    }
    println!("{:-<92}", "");
    if noise > 1.2 {
        println!("This run was noisy: the yardstick's medians differ by a factor of {noise:.2}.");
    }
    json!({
        "database": database,
        "containment": containment,
        "repetitions": REPETITIONS,
        "noise": noise,
        "spawn_ms": spawn,
        "durable_append_ms": commit,
        "round_trip_p50_ms": p50,
        "round_trip_p99_ms": p99,
        "round_trip_ratio": p50 / unit,
        "cli_process_ms": process,
        "output_mib_s": stream,
        "local_pipe_mib_s": pipe,
        "output_ratio": stream / pipe,
        "asking_ms": stages.iter().map(|(what, ms)| (what.trim(), *ms)).collect::<BTreeMap<_, _>>(),
    })
}
