//! `true` on many real agents of this one machine, beside what people reach many machines with:
//! pdsh(1) over connections that are kept (`ControlMaster`), and libssh2 (Python's parallel-ssh) on
//! sessions that are kept. A tool that is not installed is left out, and that is said.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reeve_tests::{Agent, Cluster, Sshd, eventually};

use crate::commands::spawn_locally;
use crate::crowd;

/// Real agents on this one machine.
pub const AGENTS: usize = 200;

/// Agents that are started at the same time.
const STARTERS: usize = 8;

/// Machines that pdsh asks at the same time.
const PDSH_FANOUT: &str = "64";

/// For all connections of a tool to be made.
const CONNECTED: Duration = Duration::from_secs(60);

/// Names a Python that has `pssh` (`pip install parallel-ssh`).
const PYTHON_VARIABLE: &str = "REEVE_BENCH_PYTHON";

/// Asks every session once to warm up, then says how many seconds each round took.
const PSSH: &str = "
import sys, time
from pssh.clients import ParallelSSHClient
port, key, count, rounds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = ParallelSSHClient(['127.0.0.1'] * count, user='root', port=port, pkey=key, pool_size=count)
for round in range(rounds + 1):
    start = time.monotonic()
    output = client.run_command('true')
    client.join(output)
    took = time.monotonic() - start
    codes = {host.exit_code for host in output}
    assert codes == {0} and len(output) == count, codes
    if round: print(took, flush=True)
";

/// Seconds for each round.
#[derive(Default)]
pub struct Fleet {
    pub reeve: Vec<f64>,
    /// As many spawns here, one after the other.
    pub local: Vec<f64>,
    pub pdsh: Vec<f64>,
    pub libssh2: Vec<f64>,
    /// What was not measured, and why.
    pub missing: Vec<String>,
}

pub fn measure(repetitions: usize) -> anyhow::Result<Fleet> {
    let mut fleet = Fleet::default();
    let folder = tempfile::Builder::new().prefix("rb-").tempdir()?;
    let sshd = Sshd::start(folder.path());
    match pdsh(&sshd, folder.path(), repetitions) {
        Ok(took) => fleet.pdsh = took,
        Err(error) => fleet.missing.push(format!("pdsh: {error:#}")),
    }
    match libssh2(&sshd, repetitions) {
        Ok(took) => fleet.libssh2 = took,
        Err(error) => fleet.missing.push(format!("libssh2: {error:#}")),
    }
    for missing in &fleet.missing {
        eprintln!("fleet: not measured: {missing}");
    }
    let cluster = Cluster::start();
    let began = Instant::now();
    let _agents = start(&cluster);
    eprintln!("fleet: {AGENTS} agents after {:.1} s", began.elapsed().as_secs_f64());
    for repetition in 0..=repetitions {
        let start = Instant::now();
        for _ in 0..AGENTS {
            spawn_locally()?;
        }
        let local = start.elapsed().as_secs_f64();
        let reeve = crowd::fan_out(&cluster.api, "@all")?;
        // The first one warms everything up.
        if repetition > 0 {
            fleet.local.push(local);
            fleet.reeve.push(reeve);
        }
    }
    Ok(fleet)
}

fn start(cluster: &Cluster) -> Vec<Agent> {
    let start_some = |first: usize| -> Vec<Agent> {
        let numbers = (first..AGENTS).step_by(STARTERS);
        numbers.map(|number| cluster.agent(&format!("real-{number}")).start()).collect()
    };
    std::thread::scope(|scope| {
        let starters: Vec<_> =
            (0..STARTERS).map(|first| scope.spawn(move || start_some(first))).collect();
        starters.into_iter().flat_map(|starter| starter.join().expect("agents start")).collect()
    })
}

/// Connections that stay open; they end with this value.
struct Masters(Vec<Child>);

impl Drop for Masters {
    fn drop(&mut self) {
        for master in &mut self.0 {
            let _gone = master.kill();
            let _gone = master.wait();
        }
    }
}

fn pdsh(sshd: &Sshd, folder: &Path, repetitions: usize) -> anyhow::Result<Vec<f64>> {
    Command::new("pdsh").arg("-V").output().context("install pdsh")?;
    // Short, because socket paths may have 108 bytes at most (unix(7)).
    let sockets = folder.join("s");
    fs::create_dir(&sockets)?;
    let config = folder.join("pdsh");
    let settings = format!(
        "Host *\n HostName 127.0.0.1\n Port {}\n IdentityFile {}\n IdentitiesOnly yes\n \
         StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n BatchMode yes\n LogLevel ERROR\n \
         ControlPath {}/%n\n",
        sshd.port(),
        sshd.key().display(),
        sockets.display()
    );
    fs::write(&config, settings)?;
    let hosts: Vec<String> = (0..AGENTS).map(|number| format!("h{number}")).collect();
    let masters = hosts.iter().map(|host| {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&config).args(["-M", "-N", host]).stdin(Stdio::null()).spawn()
    });
    let _masters = Masters(masters.collect::<Result<_, _>>()?);
    let paths: Vec<PathBuf> = hosts.iter().map(|host| sockets.join(host)).collect();
    eventually("every connection is there", CONNECTED, || paths.iter().all(|path| path.exists()));
    let round = || -> anyhow::Result<f64> {
        let start = Instant::now();
        let asked = Command::new("pdsh")
            .args(["-S", "-R", "ssh", "-f", PDSH_FANOUT, "-w", &hosts.join(","), "true"])
            .env("PDSH_SSH_ARGS", format!("-F {} %h", config.display()))
            .output()?;
        let took = start.elapsed().as_secs_f64();
        ensure!(asked.status.success() && asked.stderr.is_empty(), "{asked:?}");
        Ok(took)
    };
    round()?;
    (0..repetitions).map(|_| round()).collect()
}

fn libssh2(sshd: &Sshd, repetitions: usize) -> anyhow::Result<Vec<f64>> {
    let python = std::env::var(PYTHON_VARIABLE).unwrap_or_else(|_| "python3".to_owned());
    let mut asking = Command::new(&python)
        .args(["-c", PSSH, &sshd.port().to_string()])
        .arg(sshd.key())
        .args([AGENTS.to_string(), repetitions.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| python.clone())?;
    let lines = asking.stdout.take().map(BufReader::new).context("a pipe")?.lines();
    let took = lines.map(|line| Ok(line?.parse()?)).collect::<anyhow::Result<Vec<f64>>>()?;
    let ended = asking.wait()?;
    ensure!(
        ended.success(),
        "{python} with parallel-ssh (another one: {PYTHON_VARIABLE}): {ended}"
    );
    Ok(took)
}
