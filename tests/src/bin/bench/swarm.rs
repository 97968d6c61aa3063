//! Many agents, and what one costs its machine: the table.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, eventually_some};
use serde_json::{Value, json};

use crate::cost::Cost;
use crate::crowd::{self, Figures};
use crate::fleet::{self, Fleet};
use crate::storm::Storm;
use crate::table::{Figure, Goal, Table, Unit};

/// Agents of the crowd.
const AGENTS: usize = 10_000;

/// Only these of `crowd`, `fleet`, `agent`, separated by commas.
const PARTS_VARIABLE: &str = "REEVE_BENCH_PARTS";

/// How long an idle agent is looked at.
const MINUTE: Duration = Duration::from_secs(60);

/// What an agent with nothing to do costs its machine.
struct IdleAgent {
    /// Share of one processor.
    cpu: f64,
    /// Times a minute that a thread of it is woken.
    wakeups: f64,
    /// Bytes a minute, both ways, TLS included.
    traffic: f64,
    /// KiB: all, and its own alone.
    memory: (u64, u64),
    /// Of the keeper of a command that sleeps.
    keeper: (u64, u64),
}

/// Measures everything and prints it; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<Value> {
    let agents = match std::env::var("REEVE_BENCH_AGENTS") {
        Ok(text) => text.parse()?,
        Err(_) => AGENTS,
    };
    ensure!((10..=AGENTS).contains(&agents), "REEVE_BENCH_AGENTS is 10 to {AGENTS}");
    let mut failed = Vec::new();
    let mut note = |what: &str, error: anyhow::Error| {
        eprintln!("{what} FAILED: {error:#}");
        failed.push(format!("{what}: {error:#}"));
    };
    let parts = std::env::var(PARTS_VARIABLE).ok();
    let wants = |part: &str| parts.as_ref().is_none_or(|all| all.split(',').any(|one| one == part));
    let mut crowd = Figures { agents, ..Figures::default() };
    if wants("crowd") {
        crowd = crowd::measure(agents, repetitions);
    }
    let mut fleet = Fleet::default();
    if wants("fleet") {
        match fleet::measure(repetitions) {
            Ok(measured) => fleet = measured,
            Err(error) => note("real agents", error),
        }
    }
    let mut idle = None;
    if wants("agent") {
        match idle_agent() {
            Ok(measured) => idle = Some(measured),
            Err(error) => note("an idle agent", error),
        }
    }
    failed.extend(crowd.failed.iter().cloned());
    Ok(report(idle.as_ref(), &fleet, &crowd, &failed))
}

fn idle_agent() -> anyhow::Result<IdleAgent> {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let agent = cluster.agent("idle").dials(&proxy.url()).start();
    let cost = Cost(agent.pid());
    let passed = || proxy.passed(Direction::Up) + proxy.passed(Direction::Down);
    // Its first heartbeats are over, and what it does only once.
    std::thread::sleep(Duration::from_secs(3));
    let before = (cost.cpu()?, cost.wakeups()?, passed(), Instant::now());
    std::thread::sleep(MINUTE);
    let minutes = before.3.elapsed().as_secs_f64() / 60.0;
    let cpu = (cost.cpu()? - before.0) / (minutes * 60.0);
    let wakeups = (cost.wakeups()? - before.1) as f64 / minutes;
    let traffic = (passed() - before.2) as f64 / minutes;
    let memory = cost.memory()?;
    let _running = cluster.submit(&reeve_sdk::command("idle", ["sleep", "600"]));
    let keeper = eventually_some("the keeper is there", MINUTE, || agent.keepers().pop());
    std::thread::sleep(Duration::from_millis(500));
    Ok(IdleAgent { cpu, wakeups, traffic, memory, keeper: Cost(keeper.pid).memory()? })
}

fn report(idle: Option<&IdleAgent>, fleet: &Fleet, crowd: &Figures, failed: &[String]) -> Value {
    let mut table = Table::new(&format!(
        "Many agents: a swarm of {}, the coordinator on 2 processors",
        crowd.agents
    ));
    report_crowd(&mut table, crowd);
    report_storms(&mut table, crowd);
    report_fleet(&mut table, fleet);
    if let Some(idle) = idle {
        report_idle(&mut table, idle);
    }
    let local = figure(&fleet.local);
    let noise = local.most() / local.least();
    if noise > 1.2 {
        println!("This run was noisy: local spawns differ by a factor of {noise:.2}.");
    }
    for failure in failed {
        println!("FAILED: {failure}");
    }
    table.note("agents", json!(crowd.agents));
    table.note("noise", json!(noise));
    table.note("failed", json!(failed));
    table.note("missing", json!(fleet.missing));
    table.end()
}

fn figure(values: &[f64]) -> Figure {
    Figure::new(values.iter().copied())
}

fn report_crowd(table: &mut Table, crowd: &Figures) {
    let mut alone = |key, what, unit, values: &[f64], goal| {
        table.alone(key, what, unit, &figure(values), goal);
    };
    let (seconds, none) = (Unit::Seconds, Goal::None);
    alone("joined", "all join", seconds, &crowd.joined, none);
    alone("online", "  and all have their first session", seconds, &crowd.online, none);
    let (kib, memory) = (Unit::Kibibytes, Goal::AtMost(28.0));
    alone("idle_kib", "coordinator's memory, each idle agent", kib, &crowd.idle_kib, memory);
    alone("bulk_kib", "  once each has sent 64 KiB", kib, &crowd.bulk_kib, memory);
    let percent: Vec<f64> = crowd.idle_cpu.iter().map(|share| share * 100.0).collect();
    alone("idle_cpu", "  processor, all of them idle", Unit::Percent, &percent, none);
    let (traffic, what) = (&crowd.idle_traffic, "  traffic of each, KiB both ways");
    alone("idle_traffic", what, Unit::PerMinute, traffic, Goal::AtMost(2.0));
    alone("fan_out_tenth", "a no-op on a tenth, durable", seconds, &crowd.some, none);
    alone("fan_out", "a no-op on all, durable", seconds, &crowd.all, Goal::AtMost(2.0));
    let what = "  processor time of the coordinator";
    alone("fan_out_cpu", what, seconds, &crowd.all_cpu, none);
}

fn report_storms(table: &mut Table, crowd: &Figures) {
    let storms = || crowd.storms.iter();
    let back = Figure::new(storms().map(|storm| storm.back));
    table.alone("storm", "restart until all are back", Unit::Seconds, &back, Goal::AtMost(12.0));
    let cpu = Figure::new(storms().map(|storm| storm.cpu * 1e3 / crowd.agents as f64));
    let bare = (&figure(&crowd.handshake_ms), "a bare TLS handshake");
    let what = "  processor time of the coordinator, each";
    table.row("storm_cpu", what, Unit::Milliseconds, &cpu, bare, Goal::None);
    let mut requests = |key, what, times: &dyn Fn(&Storm) -> Vec<Duration>, share, goal| {
        let times: Vec<_> = storms().map(times).collect();
        table.alone(key, what, Unit::Milliseconds, &Figure::percentile(&times, share), goal);
    };
    let second = Goal::AtMost(1000.0);
    let (kept, anew) = (|storm: &Storm| storm.kept.clone(), |storm: &Storm| storm.anew.clone());
    requests("storm_api_p50", "  a request of the API meanwhile, p50", &kept, 0.5, Goal::None);
    requests("storm_api_p99", "    p99", &kept, 0.99, second);
    requests("storm_api_most", "    at most", &kept, 1.0, Goal::None);
    requests("storm_anew_p50", "  with a connection of its own, p50", &anew, 0.5, Goal::None);
    requests("storm_anew_p99", "    p99", &anew, 0.99, second);
    requests("storm_anew_most", "    at most", &anew, 1.0, Goal::None);
}

fn report_fleet(table: &mut Table, fleet: &Fleet) {
    let (local, pdsh) = (figure(&fleet.local), figure(&fleet.pdsh));
    table.yardstick("spawns", &format!("{} local spawns", fleet::AGENTS), Unit::Seconds, &local);
    let what = format!("`true` by pdsh, warm, on {}", fleet::AGENTS);
    table.yardstick("pdsh", &what, Unit::Seconds, &pdsh);
    let libssh2 = (&figure(&fleet.libssh2), "libssh2, warm");
    let what = format!("`true` on {} real agents here", fleet::AGENTS);
    let (ours, goal) = (figure(&fleet.reeve), Goal::AtMost(0.6));
    table.row("real_agents", &what, Unit::Seconds, &ours, libssh2, goal);
}

fn report_idle(table: &mut Table, idle: &IdleAgent) {
    let one = |value: f64| Figure::new([value]);
    let percent = one(idle.cpu * 100.0);
    table.alone("agent_cpu", "an idle agent", Unit::Percent, &percent, Goal::AtMost(0.1));
    table.alone("agent_wakeups", "  wake-ups", Unit::PerMinute, &one(idle.wakeups), Goal::None);
    let traffic = one(idle.traffic / 1024.0);
    table.alone("agent_traffic", "  KiB", Unit::PerMinute, &traffic, Goal::AtMost(2.0));
    let mib = |kib: u64| one(kib as f64 / 1024.0);
    let (rss, private) = (mib(idle.memory.0), mib(idle.memory.1));
    table.alone("agent_rss", "  memory", Unit::Mebibytes, &rss, Goal::AtMost(8.0));
    table.alone("agent_private", "    its own alone", Unit::Mebibytes, &private, Goal::AtMost(2.0));
    let keeper = mib(idle.keeper.1);
    table.alone("keeper", "a keeper's own memory", Unit::Mebibytes, &keeper, Goal::AtMost(1.0));
}
