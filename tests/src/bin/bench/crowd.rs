//! Many agents: what each costs the coordinator, how fast all of them are asked something, and how
//! fast they all come back. The coordinator has two processors, the agents the others.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use reeve_protocol::token::Pin;
use reeve_sdk::api::{Job, JobState};
use reeve_tests::swarm::{Options, Script, Swarm};
use reeve_tests::{Api, Cluster};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::cost::Cost;

/// Processors of the coordinator.
pub const COORDINATOR_CPUS: [usize; 2] = [0, 1];

/// For anything that all agents do.
const LIMIT: Duration = Duration::from_secs(90);

/// Bytes every agent sends to see what of them stays in memory.
const BULK: u64 = 64 * 1024;

/// Two heartbeats and a bit: by then everybody has noticed that it is quiet.
const SETTLED: Duration = Duration::from_secs(18);

/// For a process that has just started to come to rest.
const QUIET: Duration = Duration::from_secs(2);

/// How long idle sessions are looked at.
const IDLE: Duration = Duration::from_secs(16);

/// Between two requests of whoever uses the API meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// Of one restart.
pub struct Storm {
    /// Until all were back, seconds, from the start of the new coordinator.
    pub back: f64,
    /// Processor time of the coordinator, all of it, seconds.
    pub cpu: f64,
    /// How long each request took meanwhile.
    pub api: Vec<Duration>,
}

/// All that was measured.
pub struct Figures {
    pub agents: usize,
    /// KiB for each agent: idle, and after each sent [`BULK`].
    pub idle_kib: f64,
    pub bulk_kib: f64,
    /// Share of one processor that all idle agents take together.
    pub idle_cpu: f64,
    /// Seconds for a tenth of them, and for all.
    pub some: Vec<f64>,
    pub all: Vec<f64>,
    pub storms: Vec<Storm>,
    /// Milliseconds of processor time of a TLS handshake's server end alone.
    pub handshake_ms: f64,
}

pub fn measure(agents: usize, repetitions: usize) -> anyhow::Result<Figures> {
    let mut cluster = Cluster::builder().config("[log]\nlevel = \"warn\"").start();
    // A new process: hashing the administrator's password has left memory behind in this one.
    cluster.coordinator.kill9();
    start(&mut cluster)?;
    std::thread::sleep(QUIET);
    let coordinator = Cost(cluster.coordinator.pid());
    let alone = coordinator.memory()?.1;
    let token = cluster.join_token(u32::try_from(agents)?);
    let options = Options {
        hasty: true,
        cpus: Some(other_cpus(&COORDINATOR_CPUS)),
        ..Options::new(cluster.coordinator.url(), &token, agents)
    };
    let began = Instant::now();
    let swarm = Swarm::start(&options)?;
    wait("everybody is online", || swarm.is_all_online())?;
    eprintln!("swarm: {agents} agents after {:.1} s", began.elapsed().as_secs_f64());

    std::thread::sleep(SETTLED);
    let idle = coordinator.memory()?.1;
    let (before, since) = (coordinator.cpu()?, Instant::now());
    std::thread::sleep(IDLE);
    let idle_cpu = (coordinator.cpu()? - before) / since.elapsed().as_secs_f64();

    // The names are numbers of five digits from 1 on.
    let tenth = agents / 10;
    let zeros = "0".repeat(6 - tenth.to_string().len());
    let some = format!("swarm-{zeros}*,swarm-{tenth:05}");
    let (mut few, mut all) = (Vec::new(), Vec::new());
    for repetition in 0..=repetitions {
        let each = (fan_out(&cluster.api, &some)?, fan_out(&cluster.api, "@all")?);
        // The first one warms everything up.
        if repetition > 0 {
            few.push(each.0);
            all.push(each.1);
        }
    }
    eprintln!("swarm: asked {} times", 2 * (repetitions + 1));

    swarm.play(Script { output: BULK, delay: Duration::ZERO });
    fan_out(&cluster.api, "@all")?;
    swarm.play(Script::default());
    std::thread::sleep(SETTLED);
    let bulk = coordinator.memory()?.1;

    let mut storms = Vec::new();
    for _ in 0..repetitions.min(3) {
        storms.push(restart(&mut cluster, &swarm)?);
        eprintln!("swarm: restarted {} times", storms.len());
    }
    let handshake_ms = handshake(&cluster)?;
    let each = |kib: u64| kib.saturating_sub(alone) as f64 / agents as f64;
    Ok(Figures {
        agents,
        idle_kib: each(idle),
        bulk_kib: each(bulk),
        idle_cpu,
        some: few,
        all,
        storms,
        handshake_ms,
    })
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds() {
        ensure!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// From asking until every result is durable, seconds.
pub fn fan_out(api: &Api, selector: &str) -> anyhow::Result<f64> {
    let start = Instant::now();
    let answer = api.post("/api/jobs", &reeve_sdk::command(selector, ["true"]));
    ensure!(answer.status == 201, "{answer}");
    let job: Job = answer.json();
    let path = format!("/api/jobs/{}", job.id);
    let mut job = job;
    while job.state == JobState::Running {
        ensure!(start.elapsed() < LIMIT, "{job:?}");
        std::thread::sleep(Duration::from_millis(10));
        job = api.load(&path);
    }
    ensure!(job.state == JobState::Succeeded, "{job:?}");
    Ok(start.elapsed().as_secs_f64())
}

/// Starts the coordinator on its processors: it has those of the thread that starts it.
fn start(cluster: &mut Cluster) -> anyhow::Result<()> {
    let everywhere = affinity(&COORDINATOR_CPUS)?;
    cluster.coordinator.start();
    Ok(sched_setaffinity(Pid::from_raw(0), &everywhere)?)
}

/// Kills the coordinator, starts it again, and uses its API until everybody is back.
fn restart(cluster: &mut Cluster, swarm: &Swarm) -> anyhow::Result<Storm> {
    cluster.coordinator.kill9();
    wait("everybody has noticed", || swarm.counts().online == 0)?;
    let began = Instant::now();
    start(cluster)?;
    let done = Arc::new(AtomicBool::new(false));
    let (api, over) = (cluster.api.clone(), Arc::clone(&done));
    let user = std::thread::spawn(move || {
        let mut took = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = api.get("/api/machines?limit=20");
            took.push(asked.elapsed());
            assert_eq!(answer.status, 200, "{answer}");
            std::thread::sleep(POLL);
        }
        took
    });
    let back = wait("everybody is back", || swarm.is_all_online());
    let took = began.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let api = user.join().map_err(|_| anyhow::anyhow!("the API did not answer"))?;
    back?;
    let cpu = Cost(cluster.coordinator.pid()).cpu()?;
    Ok(Storm { back: took, cpu, api })
}

/// Processor time that the server's end of a bare TLS handshake takes, with the same certificate and
/// the same library, milliseconds.
fn handshake(cluster: &Cluster) -> anyhow::Result<f64> {
    const ROUNDS: u32 = 500;
    let folder = cluster.coordinator.data().join("tls");
    let mut chain = Vec::new();
    for name in ["leaf.pem", "ca.pem"] {
        chain.extend(CertificateDer::pem_slice_iter(&fs::read(folder.join(name))?).flatten());
    }
    let key = PrivateKeyDer::from_pem_slice(&fs::read(folder.join("leaf.key"))?)?;
    let server =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let pin: Pin = cluster.coordinator.pin().parse().map_err(|_| anyhow::anyhow!("a pin"))?;
    let client =
        reeve_agent::uplink::tls::client_config(reeve_agent::uplink::tls::PinVerifier::new(pin))?;
    let server = Arc::new(server);
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        let mut client =
            rustls::ClientConnection::new(Arc::clone(&client), ServerName::try_from("127.0.0.1")?)?;
        let mut server = rustls::ServerConnection::new(Arc::clone(&server))?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.is_handshaking() || server.is_handshaking() {
            while client.wants_write() {
                client.write_tls(&mut up)?;
            }
            let begin = Instant::now();
            pour(&mut up, |bytes| {
                server.read_tls(bytes)?;
                Ok(server.process_new_packets()?)
            })?;
            while server.wants_write() {
                server.write_tls(&mut down)?;
            }
            spent += begin.elapsed();
            pour(&mut down, |bytes| {
                client.read_tls(bytes)?;
                Ok(client.process_new_packets()?)
            })?;
        }
    }
    Ok(spent.as_secs_f64() * 1e3 / f64::from(ROUNDS))
}

fn pour(
    bytes: &mut Vec<u8>,
    mut take: impl FnMut(&mut dyn Read) -> anyhow::Result<rustls::IoState>,
) -> anyhow::Result<()> {
    let whole = std::mem::take(bytes);
    let mut rest = whole.as_slice();
    while !rest.is_empty() {
        take(&mut rest).context("a handshake in memory")?;
    }
    Ok(())
}

/// Lets this thread, and what it starts, run on these processors only; where it could before. A
/// machine with fewer has them where it can.
fn affinity(cpus: &[usize]) -> anyhow::Result<CpuSet> {
    let me = Pid::from_raw(0);
    let everywhere = sched_getaffinity(me)?;
    let mut set = CpuSet::new();
    for cpu in cpus {
        if everywhere.is_set(*cpu)? {
            set.set(*cpu)?;
        }
    }
    let _none_of_them = sched_setaffinity(me, &set);
    Ok(everywhere)
}

/// The processors that are none of these; all, where there are no others.
fn other_cpus(taken: &[usize]) -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let others: Vec<usize> = (0..all).filter(|cpu| !taken.contains(cpu)).collect();
    if others.is_empty() { (0..all).collect() } else { others }
}
