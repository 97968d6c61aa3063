//! Many agents, and what one costs its machine: the table.

use std::time::{Duration, Instant};

use anyhow::ensure;
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, eventually_some};
use serde_json::{Value, json};

use crate::commands::spawn_locally;
use crate::cost::Cost;
use crate::crowd::{self, Figures};
use crate::table::{Figure, Goal, Table, Unit};

/// Agents of the crowd.
const AGENTS: usize = 10_000;

/// Real agents on this one machine.
const REAL_AGENTS: usize = 50;

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
    ensure!([1000, AGENTS].contains(&agents), "REEVE_BENCH_AGENTS is 1000 or {AGENTS}");
    let idle = idle_agent()?;
    let (spawned, asked) = real_agents(repetitions)?;
    let crowd = crowd::measure(agents, repetitions)?;
    Ok(report(&idle, (&spawned, &asked), &crowd))
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

/// Seconds for as many local spawns one after the other, and for the same on as many agents.
fn real_agents(repetitions: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let cluster = Cluster::start();
    let _agents: Vec<_> =
        (0..REAL_AGENTS).map(|number| cluster.agent(&format!("real-{number}")).start()).collect();
    let (mut spawned, mut asked) = (Vec::new(), Vec::new());
    for repetition in 0..=repetitions {
        let start = Instant::now();
        for _ in 0..REAL_AGENTS {
            spawn_locally()?;
        }
        let local = start.elapsed().as_secs_f64();
        let fleet = crowd::fan_out(&cluster.api, "@all")?;
        // The first one warms everything up.
        if repetition > 0 {
            spawned.push(local);
            asked.push(fleet);
        }
    }
    Ok((spawned, asked))
}

fn report(idle: &IdleAgent, (spawned, asked): (&[f64], &[f64]), crowd: &Figures) -> Value {
    let figure = |values: &[f64]| Figure::new(values.iter().copied());
    let one = |value: f64| Figure::new([value]);
    let mut table = Table::new(&format!(
        "Many agents: a swarm of {}, the coordinator on 2 processors",
        crowd.agents
    ));
    let each = Unit::Kibibytes;
    let (idle_kib, bulk_kib) = (one(crowd.idle_kib), one(crowd.bulk_kib));
    let memory = Goal::AtMost(28.0);
    table.alone("idle_kib", "coordinator's memory, each idle agent", each, &idle_kib, memory);
    table.alone("bulk_kib", "  once each has sent 64 KiB", each, &bulk_kib, memory);
    let percent = one(crowd.idle_cpu * 100.0);
    table.alone("idle_cpu", "  processor, all of them idle", Unit::Percent, &percent, Goal::None);
    let (some, all) = (figure(&crowd.some), figure(&crowd.all));
    table.alone("fan_out_tenth", "a no-op on a tenth, durable", Unit::Seconds, &some, Goal::None);
    table.alone("fan_out", "a no-op on all, durable", Unit::Seconds, &all, Goal::AtMost(2.0));
    let back = Figure::new(crowd.storms.iter().map(|storm| storm.back));
    table.alone("storm", "restart until all are back", Unit::Seconds, &back, Goal::AtMost(12.0));
    let cpu = crowd.storms.iter().map(|storm| storm.cpu * 1e3 / crowd.agents as f64);
    let bare = (&one(crowd.handshake_ms), "a bare TLS handshake");
    let (cpu, what) = (Figure::new(cpu), "  processor time of the coordinator, each");
    table.row("storm_cpu", what, Unit::Milliseconds, &cpu, bare, Goal::None);
    let api: Vec<Vec<Duration>> = crowd.storms.iter().map(|storm| storm.api.clone()).collect();
    let (api, what) = (Figure::percentile(&api, 0.99), "  a request of the API meanwhile, p99");
    table.alone("storm_api_p99", what, Unit::Milliseconds, &api, Goal::AtMost(1000.0));
    let local = (&figure(spawned), "as many local spawns, one by one");
    let (asked, what) = (figure(asked), format!("`true` on {REAL_AGENTS} real agents here"));
    table.row("real_agents", &what, Unit::Seconds, &asked, local, Goal::None);
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
    let noise = figure(spawned).most() / figure(spawned).least();
    if noise > 1.2 {
        println!("This run was noisy: local spawns differ by a factor of {noise:.2}.");
    }
    table.note("agents", json!(crowd.agents));
    table.note("noise", json!(noise));
    table.end()
}
