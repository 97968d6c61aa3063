//! Commands and words: how long a command takes there and back, how many at once, each beside what
//! people use now.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, TryStreamExt};
use reeve_protocol::Containment;
use reeve_sdk::api::{
    ExecuteCommandRequest, JobRequest, Operation, OperationRequest, OperationState,
};
use reeve_sdk::{Client, Event};
use reeve_tests::{Cluster, Sshd};
use serde_json::json;

use crate::asking;
use crate::streaming::{self, Ssh, Streamed};
use crate::table::{Figure, Goal, Table, Unit, percentile};

/// Round trips in a repetition.
const ROUNDS: usize = 100;

/// Whole processes in a repetition.
const PROCESSES: usize = 20;

/// Commands in flight at the same time.
const AT_ONCE: usize = 64;

/// Commands of a repetition that keeps so many in flight.
const CROWD: usize = 640;

/// Bytes of a durable append: what a small transaction writes.
const COMMIT_BYTES: usize = 4096;

/// The agent's own limit has to let so many run, and one user not.
const POLICY: &str = "[exec]\nmax_concurrent = 64\nusers = [\"root\"]\n";

/// Everything measured, by repetition.
#[derive(Default)]
struct Figures {
    spawn: Vec<Vec<Duration>>,
    commit: Vec<Vec<Duration>>,
    trip: Vec<Vec<Duration>>,
    answer: Vec<Vec<Duration>>,
    process: Vec<Vec<Duration>>,
    ssh_process: Vec<Vec<Duration>>,
    crowd: Vec<Duration>,
    local_crowd: Vec<Duration>,
    streamed: Vec<Streamed>,
    asked: Vec<Vec<asking::Stages>>,
}

/// Measures everything and prints it; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let agent = cluster.agent("bench").policy(POLICY).start();
    let runtime = tokio::runtime::Runtime::new()?;
    let client = cluster.client();
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(folder.path());
    let ssh = Ssh::connect(&sshd, folder.path())?;
    let mut figures = Figures::default();
    let mut containment = Containment::Unknown;
    for repetition in 0..=repetitions {
        let mut spawn = Vec::new();
        let mut commit = Vec::new();
        let (mut trip, mut answer) = (Vec::new(), Vec::new());
        let mut file = File::create(cluster.folder().join("append"))?;
        for _ in 0..ROUNDS {
            spawn.push(spawn_locally()?);
            commit.push(commit_durably(&mut file)?);
            let start = Instant::now();
            let (_, operation) = runtime.block_on(run(&client, &["true"]))?;
            trip.push(start.elapsed());
            containment = operation.containment.unwrap_or(Containment::Unknown);
            answer.push(runtime.block_on(ask_agent(&client))?);
        }
        let (mut process, mut ssh_process) = (Vec::new(), Vec::new());
        for _ in 0..PROCESSES {
            process.push(run_process(&cluster)?);
            ssh_process.push(ssh.run("true")?);
        }
        let local_crowd = crowd_locally()?;
        let crowd = runtime.block_on(crowd(&client))?;
        let streamed = Streamed::once(&runtime, &client, (&cluster, &agent), (&ssh, &sshd))?;
        let mut asked = Vec::new();
        for _ in 0..asking::TASKS {
            asked.push(runtime.block_on(asking::ask(&client, "bench"))?);
        }
        // The first one warms everything up.
        if repetition > 0 {
            figures.spawn.push(spawn);
            figures.commit.push(commit);
            figures.trip.push(trip);
            figures.answer.push(answer);
            figures.process.push(process);
            figures.ssh_process.push(ssh_process);
            figures.crowd.push(crowd);
            figures.local_crowd.push(local_crowd);
            figures.streamed.push(streamed);
            figures.asked.push(asked);
        }
        eprintln!("commands: repetition {repetition} of {repetitions}");
    }
    let database = format!("{:?}", cluster.database).to_lowercase();
    Ok(report(&figures, &database, containment))
}

/// `reeve run`, from the start of its process to its end.
fn run_process(cluster: &Cluster) -> anyhow::Result<Duration> {
    // Not `Cluster::reeve`: that looks every few milliseconds whether it has ended.
    let (mut command, line) =
        cluster.reeve_command(cluster.api.token(), ["run", "bench", "--", "true"]);
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{line}: {status}");
    Ok(start.elapsed())
}

/// Runs a command to its end; how many bytes came, and the operation.
pub async fn run(client: &Client, argv: &[&str]) -> anyhow::Result<(u64, Operation)> {
    let (bytes, operation) =
        follow(client, &reeve_sdk::command("bench", argv.iter().copied())).await?;
    ensure!(operation.state == OperationState::Succeeded, "{operation:?}");
    Ok((bytes, operation))
}

/// What the agent answers by itself: that its policy lets nobody be this user. The whole road, and no
/// process on it.
async fn ask_agent(client: &Client) -> anyhow::Result<Duration> {
    let command = ExecuteCommandRequest {
        argv: Some(vec!["true".to_owned()]),
        user: Some("nobody".to_owned()),
        ..ExecuteCommandRequest::default()
    };
    let request = JobRequest::new("bench", OperationRequest::ExecuteCommand(command));
    let start = Instant::now();
    let (_, operation) = follow(client, &request).await?;
    ensure!(operation.state == OperationState::Refused, "{operation:?}");
    Ok(start.elapsed())
}

async fn follow(client: &Client, request: &JobRequest) -> anyhow::Result<(u64, Operation)> {
    let mut follow = client.run(request)?;
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
    Ok((bytes, last.context("no operation came")?))
}

/// Many commands, so many of them in flight at any time.
async fn crowd(client: &Client) -> anyhow::Result<Duration> {
    let start = Instant::now();
    futures_util::stream::iter(0..CROWD)
        .map(|_| run(client, &["true"]))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(start.elapsed())
}

/// As many processes without us, by as many threads.
fn crowd_locally() -> anyhow::Result<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| (0..CROWD / AT_ONCE).try_for_each(|_| spawn_locally().map(drop)))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    })?;
    Ok(start.elapsed())
}

/// What starting `true` and waiting for it costs without us: posix_spawn(3) and waitpid(2).
pub fn spawn_locally() -> anyhow::Result<Duration> {
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

fn report(figures: &Figures, database: &str, containment: Containment) -> serde_json::Value {
    use Unit::{Milliseconds, PerSecond};
    let repetitions = figures.spawn.len();
    let mut table = Table::new(&format!(
        "Commands: medians of {repetitions} repetitions; {database}, containment {containment:?}"
    ));
    let spawn = Figure::percentile(&figures.spawn, 0.5);
    let commit = Figure::percentile(&figures.commit, 0.5);
    let unit = spawn.map(|spawn| 2.0 * spawn + commit.median());
    let p50 = Figure::percentile(&figures.trip, 0.5);
    let p99 = Figure::percentile(&figures.trip, 0.99);
    let answer = Figure::percentile(&figures.answer, 0.5);
    table.yardstick("spawn", "spawn and wait for `true`", Milliseconds, &spawn);
    table.yardstick("durable_append", "durable append of 4 KiB", Milliseconds, &commit);
    let beside = (&unit, "(2 spawns + 1 append)");
    let goal = Goal::AtMost(1.5);
    table.row(
        "round_trip_p50",
        "round trip of `true`, warm, p50",
        Milliseconds,
        &p50,
        beside,
        goal,
    );
    let goal = Goal::AtMost(4.0);
    table.row("round_trip_p99", "  p99", Milliseconds, &p99, (&p50, "p50"), goal);
    let beyond = answer.map(|ms| ms - commit.median());
    table.row(
        "answer",
        "request without a process",
        Milliseconds,
        &answer,
        (&commit, "1 append"),
        Goal::None,
    );
    table.alone("answer_beyond", "  beside the append", Milliseconds, &beyond, Goal::AtMost(0.3));
    let process = Figure::percentile(&figures.process, 0.5);
    let ssh = Figure::percentile(&figures.ssh_process, 0.5);
    let beside = (&ssh, "ssh, ControlMaster");
    let goal = Goal::AtMost(0.6);
    table.row("process", "`reeve run m -- true`, a process", Milliseconds, &process, beside, goal);
    let crowd = Figure::rate(CROWD as f64, figures.crowd.iter().copied());
    let local = Figure::rate(CROWD as f64, figures.local_crowd.iter().copied());
    let what = format!("{AT_ONCE} commands in flight");
    table.row("crowd", &what, PerSecond, &crowd, (&local, "local spawning"), Goal::AtLeast(0.8));
    streaming::report(&mut table, &figures.streamed);
    type Stage = fn(&asking::Stages) -> Duration;
    let stages: [(&str, &str, Stage, Goal); 6] = [
        ("words_to_plan", "words → plan, no model", |s| s.to_plan, Goal::None),
        ("plan", "  plan made and recorded", |s| s.plan, Goal::AtMost(20.0)),
        ("dispatch", "  plan → first job recorded", |s| s.dispatch, Goal::AtMost(20.0)),
        ("judge", "  end of a command → its verdict", |s| s.judge, Goal::AtMost(20.0)),
        ("summary", "  last verdict → summary", |s| s.summary, Goal::AtMost(20.0)),
        ("task", "the whole task, commands included", |s| s.whole, Goal::None),
    ];
    for (key, what, of, goal) in stages {
        let each: Vec<Vec<Duration>> =
            figures.asked.iter().map(|tasks| tasks.iter().map(of).collect()).collect();
        table.alone(key, what, Milliseconds, &Figure::percentile(&each, 0.5), goal);
    }
    // A quiet machine repeats itself: how far apart the repetitions of the yardstick are.
    let medians: Vec<f64> = figures.spawn.iter().map(|values| percentile(values, 0.5)).collect();
    let medians = Figure::new(medians);
    let noise = medians.most() / medians.least();
    table.note("database", json!(database));
    table.note("containment", json!(containment));
    table.note("repetitions", json!(repetitions));
    table.note("noise", json!(noise));
    let json = table.end();
    if noise > 1.2 {
        println!("This run was noisy: the yardstick's medians differ by a factor of {noise:.2}.");
    }
    json
}
