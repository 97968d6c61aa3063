//! Many agents: how fast they join, what each costs the coordinator, how fast all of them are asked
//! something, and how fast they all come back. The coordinator has two processors, the agents the others.
//! Each stage has its deadline; what one that failed would have measured is missing, and the others go on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use reeve_sdk::api::{Job, JobState};
use reeve_tests::swarm::{Options, Script, Swarm};
use reeve_tests::{Api, Cluster};

use crate::cost::Cost;
use crate::handshake;
use crate::storm::{self, Storm};

/// Processors of the coordinator.
pub const COORDINATOR_CPUS: [usize; 2] = [0, 1];

/// For anything that all agents do.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Bytes every agent sends to see what of them stays in memory.
const BULK: u64 = 64 * 1024;

/// Two heartbeats and a bit: by then everybody has noticed that it is quiet.
const SETTLED: Duration = Duration::from_secs(32);

/// For a process that has just started to come to rest.
const QUIET: Duration = Duration::from_secs(2);

/// How long idle sessions are looked at: two heartbeats of each.
const IDLE: Duration = Duration::from_secs(30);

/// Restarts, at most.
const STORMS: usize = 3;

/// What agents from one address join within a minute is limited, and these all have one.
const LIMITS: &str = "enrolments_per_minute = 4000000";

/// Only these stages, by name, separated by commas.
const STAGES_VARIABLE: &str = "REEVE_BENCH_STAGES";

/// All that was measured; what was not is empty.
#[derive(Default)]
pub struct Figures {
    pub agents: usize,
    /// Seconds until all had joined, and until all had sessions after that.
    pub joined: Vec<f64>,
    pub online: Vec<f64>,
    /// KiB for each agent: idle, and after each sent [`BULK`].
    pub idle_kib: Vec<f64>,
    pub bulk_kib: Vec<f64>,
    /// Share of one processor that all idle agents take together, and KiB a minute each of them
    /// exchanges, TLS included.
    pub idle_cpu: Vec<f64>,
    pub idle_traffic: Vec<f64>,
    /// Seconds for a tenth of them, and for all; the coordinator's processor time for all.
    pub some: Vec<f64>,
    pub all: Vec<f64>,
    pub all_cpu: Vec<f64>,
    pub storms: Vec<Storm>,
    /// Milliseconds of processor time of a TLS handshake's server end alone.
    pub handshake_ms: Vec<f64>,
    /// What failed, and why.
    pub failed: Vec<String>,
}

/// A coordinator and its swarm.
struct Crowd {
    cluster: Cluster,
    swarm: Swarm,
    /// The coordinator's memory without any agents, KiB.
    alone: u64,
    repetitions: usize,
}

type Stage = fn(&mut Crowd, &mut Figures) -> anyhow::Result<()>;

const STAGES: [(&str, Stage); 4] = [
    ("idle", Crowd::stay_idle),
    ("fan-out", Crowd::fan_out),
    ("bulk", Crowd::carry_bulk),
    ("storms", Crowd::come_back),
];

pub fn measure(agents: usize, repetitions: usize) -> Figures {
    let mut figures = Figures { agents, ..Figures::default() };
    let chosen = std::env::var(STAGES_VARIABLE).ok();
    let chosen: Option<HashSet<&str>> = chosen.as_deref().map(|text| text.split(',').collect());
    let mut crowd = match Crowd::gather(agents, repetitions, &mut figures) {
        Ok(crowd) => crowd,
        Err(error) => {
            fail(&mut figures, "joining", &error);
            return figures;
        }
    };
    for (name, stage) in STAGES {
        if chosen.as_ref().is_some_and(|chosen| !chosen.contains(name)) {
            continue;
        }
        let began = Instant::now();
        match stage(&mut crowd, &mut figures) {
            Ok(()) => eprintln!("swarm: {name} after {:.1} s", began.elapsed().as_secs_f64()),
            Err(error) => {
                eprintln!("swarm: {:?} {:?}", crowd.swarm.counts(), crowd.swarm.complaint());
                fail(&mut figures, name, &error);
            }
        }
    }
    match handshake::measure(&crowd.cluster) {
        Ok(each) => figures.handshake_ms.push(each),
        Err(error) => fail(&mut figures, "a bare handshake", &error),
    }
    figures
}

fn fail(figures: &mut Figures, what: &str, error: &anyhow::Error) {
    eprintln!("swarm: {what} FAILED: {error:#}");
    figures.failed.push(format!("{what}: {error:#}"));
}

impl Crowd {
    fn gather(agents: usize, repetitions: usize, figures: &mut Figures) -> anyhow::Result<Self> {
        let builder = Cluster::builder().config("[log]\nlevel = \"warn\"").limits(LIMITS);
        let mut cluster = builder.start();
        // A new process: hashing the administrator's password has left memory behind in this one.
        cluster.coordinator.kill9();
        start(&mut cluster)?;
        std::thread::sleep(QUIET);
        let alone = Cost(cluster.coordinator.pid()).memory()?.1;
        let token = cluster.join_token(u32::try_from(agents)?);
        let options = Options {
            hasty: true,
            cpus: Some(other_cpus(&COORDINATOR_CPUS)),
            within: Some(LIMIT),
            ..Options::new(cluster.coordinator.url(), &token, agents)
        };
        let began = Instant::now();
        let swarm = Swarm::start(&options)?;
        figures.joined.push(began.elapsed().as_secs_f64());
        eprintln!("swarm: {agents} have joined after {:.1} s", began.elapsed().as_secs_f64());
        let began = Instant::now();
        wait("everybody is online", || swarm.is_all_online())?;
        figures.online.push(began.elapsed().as_secs_f64());
        let (later, failures) = (began.elapsed().as_secs_f64(), swarm.counts().failures);
        eprintln!("swarm: all online {later:.1} s later, {failures} tries failed");
        Ok(Self { cluster, swarm, alone, repetitions })
    }

    fn cost(&self) -> Cost {
        Cost(self.cluster.coordinator.pid())
    }

    /// KiB of the coordinator's own for each agent.
    fn each_kib(&self) -> anyhow::Result<f64> {
        let now = self.cost().memory()?.1;
        Ok(now.saturating_sub(self.alone) as f64 / self.swarm.agents() as f64)
    }

    fn stay_idle(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        std::thread::sleep(SETTLED);
        figures.idle_kib.push(self.each_kib()?);
        let (cpu, bytes, since) = (self.cost().cpu()?, self.swarm.bytes(), Instant::now());
        std::thread::sleep(IDLE);
        let seconds = since.elapsed().as_secs_f64();
        figures.idle_cpu.push((self.cost().cpu()? - cpu) / seconds);
        let bytes = (self.swarm.bytes() - bytes) as f64 / self.swarm.agents() as f64;
        figures.idle_traffic.push(bytes / 1024.0 * 60.0 / seconds);
        Ok(())
    }

    fn fan_out(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        // The names are numbers of five digits from 1 on.
        let tenth = self.swarm.agents() / 10;
        let zeros = "0".repeat(6 - tenth.to_string().len());
        let some = format!("swarm-{zeros}*,swarm-{tenth:05}");
        for repetition in 0..=self.repetitions {
            let few = fan_out(&self.cluster.api, &some)?;
            let cpu = self.cost().cpu()?;
            let all = fan_out(&self.cluster.api, "@all")?;
            let cpu = self.cost().cpu()? - cpu;
            eprintln!("swarm: a tenth in {few:.2} s, all in {all:.2} s, {cpu:.2} s processor");
            // The first one warms everything up.
            if repetition > 0 {
                figures.some.push(few);
                figures.all.push(all);
                figures.all_cpu.push(cpu);
            }
        }
        Ok(())
    }

    fn carry_bulk(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        self.swarm.play(Script { output: BULK, delay: Duration::ZERO });
        let asked = fan_out(&self.cluster.api, "@all");
        self.swarm.play(Script::default());
        asked?;
        std::thread::sleep(SETTLED);
        figures.bulk_kib.push(self.each_kib()?);
        Ok(())
    }

    fn come_back(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        for _ in 0..self.repetitions.min(STORMS) {
            let storm = storm::restart(&mut self.cluster, &self.swarm)?;
            eprintln!("swarm: all back after {:.1} s, {} tries failed", storm.back, storm.failures);
            figures.storms.push(storm);
        }
        Ok(())
    }
}

/// Waits until something holds, and says so now and then.
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
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
pub fn start(cluster: &mut Cluster) -> anyhow::Result<()> {
    let everywhere = affinity(&COORDINATOR_CPUS)?;
    cluster.coordinator.start();
    Ok(sched_setaffinity(Pid::from_raw(0), &everywhere)?)
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
