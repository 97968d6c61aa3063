//! The output of one command, as fast as it goes: how fast, and who spends how much on it, beside
//! ssh.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reeve_sdk::Client;
use reeve_tests::{Agent, Cluster, Sshd};

use crate::commands::run;
use crate::table::{Figure, Goal, Table, Unit};

/// Bytes streamed in a repetition.
const STREAM_BYTES: u64 = 1 << 30;

/// Between two looks at what keepers have spent: nobody of ours waits for them, so what they spent
/// is gone with them.
const LOOK: Duration = Duration::from_millis(2);

/// One repetition.
#[derive(Clone, Copy)]
pub struct Streamed {
    pipe: Duration,
    took: Duration,
    cpu: Spent,
    ssh: Duration,
    ssh_cpu: Duration,
}

/// What each part has spent of processors.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    coordinator: Duration,
    agent: Duration,
    /// With its command.
    keeper: Duration,
    client: Duration,
}

impl Spent {
    fn read(cluster: &Cluster, agent: &Agent) -> anyhow::Result<Self> {
        Ok(Self {
            coordinator: cpu_with_children(cluster.coordinator.pid())?,
            agent: cpu_with_children(agent.pid())?,
            keeper: Duration::ZERO,
            client: cpu_of(i32::try_from(std::process::id())?, false)?,
        })
    }

    fn all(self) -> Duration {
        self.coordinator + self.agent + self.keeper + self.client
    }
}

/// Measures this alone; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let agent = cluster.agent("bench").start();
    let runtime = tokio::runtime::Runtime::new()?;
    let client = cluster.client();
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(folder.path());
    let ssh = Ssh::connect(&sshd, folder.path())?;
    let mut streamed = Vec::new();
    for repetition in 0..=repetitions {
        let each = Streamed::once(&runtime, &client, (&cluster, &agent), (&ssh, &sshd))?;
        // The first one warms everything up.
        if repetition > 0 {
            streamed.push(each);
        }
    }
    let mut table = Table::new(&format!("Output: medians of {repetitions} repetitions"));
    report(&mut table, &streamed);
    Ok(table.end())
}

impl Streamed {
    /// Streams it once each way.
    pub fn once(
        runtime: &tokio::runtime::Runtime,
        client: &Client,
        (cluster, agent): (&Cluster, &Agent),
        (ssh, sshd): (&Ssh, &Sshd),
    ) -> anyhow::Result<Self> {
        let pipe = pipe_locally()?;
        let before = Spent::read(cluster, agent)?;
        let keepers = Keepers::watch(agent.pid());
        let start = Instant::now();
        let bytes = STREAM_BYTES.to_string();
        let (received, _) = runtime.block_on(run(client, &["head", "-c", &bytes, "/dev/zero"]))?;
        let took = start.elapsed();
        ensure!(received == STREAM_BYTES, "{received} bytes arrived of {STREAM_BYTES}");
        let keeper = keepers.end()?;
        let after = Spent::read(cluster, agent)?;
        let cpu = Spent {
            coordinator: after.coordinator.saturating_sub(before.coordinator),
            agent: after.agent.saturating_sub(before.agent),
            keeper,
            client: after.client.saturating_sub(before.client),
        };
        let (ssh, ssh_cpu) = ssh.stream(sshd)?;
        Ok(Self { pipe, took, cpu, ssh, ssh_cpu })
    }
}

/// Rows of it.
pub fn report(table: &mut Table, streamed: &[Streamed]) {
    use Unit::{MebibytesPerSecond, Seconds};
    let mebibytes = (STREAM_BYTES >> 20) as f64;
    let rate = |of: fn(&Streamed) -> Duration| Figure::rate(mebibytes, streamed.iter().map(of));
    let seconds = |of: fn(&Streamed) -> Duration| {
        Figure::new(streamed.iter().map(|each| of(each).as_secs_f64()))
    };
    let stream = rate(|each| each.took);
    let beside = (&rate(|each| each.ssh), "ssh");
    let what = "output of `head -c 1G /dev/zero`, stored";
    table.row("output_ssh", what, MebibytesPerSecond, &stream, beside, Goal::AtLeast(2.0));
    let beside = (&rate(|each| each.pipe), "a local pipe");
    table.row("output_pipe", "", MebibytesPerSecond, &stream, beside, Goal::None);
    let all = seconds(|each| each.cpu.all());
    let beside = (&seconds(|each| each.ssh_cpu), "ssh's");
    let what = "  processor time of all parts, per GiB";
    table.row("output_cpu", what, Seconds, &all, beside, Goal::AtMost(1.0));
    type PartOf = fn(&Streamed) -> Duration;
    let parts: [(&str, &str, PartOf); 4] = [
        ("output_cpu_coordinator", "    coordinator", |each| each.cpu.coordinator),
        ("output_cpu_agent", "    agent", |each| each.cpu.agent),
        ("output_cpu_keeper", "    keeper and command", |each| each.cpu.keeper),
        ("output_cpu_client", "    client", |each| each.cpu.client),
    ];
    for (key, what, of) in parts {
        table.alone(key, what, Seconds, &seconds(of), Goal::None);
    }
}

/// What an agent's keepers and their commands spend.
struct Keepers {
    stop: Arc<AtomicBool>,
    watching: std::thread::JoinHandle<Duration>,
}

impl Keepers {
    fn watch(agent: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watching = std::thread::spawn(move || {
            let mut found = std::collections::HashMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for keeper in children(agent).into_iter().flat_map(children) {
                    if let Ok(spent) = cpu_with_children(keeper) {
                        found.insert(keeper, spent);
                    }
                }
                std::thread::sleep(LOOK);
            }
            found.values().sum()
        });
        Self { stop, watching }
    }

    fn end(self) -> anyhow::Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.join().map_err(|_| anyhow::anyhow!("a thread panicked"))
    }
}

/// Processes whose parent this is, by any thread of it.
fn children(parent: i32) -> Vec<i32> {
    let folder = format!("/proc/{parent}/task");
    let threads = std::fs::read_dir(folder).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(str::parse).collect::<Vec<_>>())
        .filter_map(Result::ok)
        .collect()
}

/// What the same bytes take through a local pipe.
fn pipe_locally() -> anyhow::Result<Duration> {
    let start = Instant::now();
    let child = Command::new("head")
        .args(["-c", &STREAM_BYTES.to_string(), "/dev/zero"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    drain(child)?;
    Ok(start.elapsed())
}

/// Reads all that a process writes, which has to be just as much as was asked for.
fn drain(mut child: Child) -> anyhow::Result<()> {
    let mut pipe = child.stdout.take().context("a pipe")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    while let read @ 1.. = pipe.read(&mut buffer)? {
        received += read as u64;
    }
    ensure!(child.wait()?.success() && received == STREAM_BYTES);
    Ok(())
}

/// An SSH connection that stays open, as people keep one who are tired of waiting (`ControlMaster`,
/// ssh_config(5)).
pub struct Ssh {
    arguments: Vec<String>,
    master: Child,
}

impl Ssh {
    pub fn connect(sshd: &Sshd, folder: &std::path::Path) -> anyhow::Result<Self> {
        let socket = folder.join("master");
        let mut arguments = vec!["-p".to_owned(), sshd.port().to_string()];
        arguments.extend(sshd.options());
        arguments.extend(["-o".to_owned(), format!("ControlPath={}", socket.display())]);
        let master = Command::new("ssh")
            .args(["-M", "-N"])
            .args(&arguments)
            .arg("root@127.0.0.1")
            .stdin(Stdio::null())
            .spawn()
            .context("start ssh")?;
        let this = Self { arguments, master };
        reeve_tests::eventually("ssh is connected", Duration::from_secs(20), || socket.exists());
        Ok(this)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(&self.arguments).args(["root@127.0.0.1", line]).stdin(Stdio::null());
        command
    }

    /// One command over the open connection.
    pub fn run(&self, line: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        ensure!(self.command(line).status()?.success());
        Ok(start.elapsed())
    }

    /// The bytes over a connection of its own, whose processes end and so are counted: how long, and
    /// what all of them spent of processors.
    fn stream(&self, sshd: &Sshd) -> anyhow::Result<(Duration, Duration)> {
        let (client, server) = (children_cpu()?, cpu_with_children(sshd.pid())?);
        let start = Instant::now();
        let line = format!("head -c {STREAM_BYTES} /dev/zero");
        // Of an option that is given twice, ssh takes the first.
        let child = Command::new("ssh")
            .args(["-o", "ControlPath=none"])
            .args(&self.arguments)
            .args(["root@127.0.0.1", &line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        drain(child)?;
        let took = start.elapsed();
        // The server's process for it counts once the server has seen that it ended.
        let served = || cpu_with_children(sshd.pid()).unwrap_or_default().saturating_sub(server);
        reeve_tests::eventually("sshd has ended the session", Duration::from_secs(10), || {
            !served().is_zero()
        });
        let spent = children_cpu()?.saturating_sub(client) + served();
        Ok((took, spent))
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// What processes of ours that ended have spent, user and system.
fn children_cpu() -> anyhow::Result<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(nix::sys::time::TimeValLike::num_microseconds(&time))?))
}

fn cpu_with_children(pid: i32) -> anyhow::Result<Duration> {
    cpu_of(pid, true)
}

/// `utime`, `stime` and, of children that have been waited for, `cutime`, `cstime` of
/// `/proc/PID/stat` (proc(5)), in ticks.
fn cpu_of(pid: i32, with_children: bool) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind_name = stat.rsplit_once(')').context("a process's name")?.1;
    let fields = behind_name.split_whitespace().skip(11).take(if with_children { 4 } else { 2 });
    let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_millis(ticks * 1000 / u64::try_from(per_second)?))
}
