//! Many agents at once: they all come on, all do their part, all come back after the coordinator
//! died, and leave nothing behind in it.

use std::fs;
use std::time::Duration;

use reeve_protocol::JobId;
use reeve_sdk::api::{Job, JobState, Machine, MachineState, Page};
use reeve_tests::proxy::Proxy;
use reeve_tests::swarm::{Options, Script, Swarm};
use reeve_tests::{Cluster, eventually};

const AGENTS: usize = 300;

/// For everybody to come, or to come back.
const LIMIT: Duration = Duration::from_secs(60);

/// For each reconnect of an agent memory may grow by this much: less than a session that is not let go
/// (28 KiB and more once it has carried bulk). Up to 8 were seen that are none of its: SQLite's caches,
/// 16 MiB for writing and 8 for each reader, fill up with the rows of each round.
const GROWTH_PER_AGENT_KIB: u64 = 20;

/// Everybody leaves and comes back so often.
const ROUNDS: u64 = 10;

/// The first rounds let everything come that stays: connections of the database, threads, arenas.
const WARM: usize = 2;

/// The least of so many rounds is looked at, at the beginning and at the end: what the allocator holds back
/// for a while comes and goes.
const TOGETHER: usize = 3;

fn start(cluster: &Cluster, url: &str) -> Swarm {
    let token = cluster.join_token(AGENTS as u32);
    let options = Options { hasty: true, ..Options::new(url, &token, AGENTS) };
    Swarm::start(&options).expect("a swarm that joins")
}

fn run_everywhere(cluster: &Cluster) -> Job {
    cluster.submit(&reeve_sdk::command("@all", ["true"]))
}

fn wait_until_over(cluster: &Cluster, job: JobId) -> Job {
    eventually("the job is over on every machine", LIMIT, || cluster.job(job).finished.is_some());
    cluster.job(job)
}

/// They learn that they are let in before others can see it.
fn wait_until_all_online(cluster: &Cluster, swarm: &Swarm) {
    eventually("every agent has a session", LIMIT, || swarm.is_all_online());
    eventually("every agent is seen to be online", LIMIT, || {
        let machines: Page<Machine> = cluster.api.load("/api/machines?limit=1000");
        machines.items.iter().filter(|machine| machine.state == MachineState::Online).count()
            == AGENTS
    });
}

/// Descriptors of the coordinator.
fn descriptors(cluster: &Cluster) -> usize {
    let folder = format!("/proc/{}/fd", cluster.coordinator.pid());
    fs::read_dir(folder).expect("the coordinator runs").count()
}

/// Memory of the coordinator that is its own alone, KiB (proc_pid_smaps(5)).
fn private_kib(cluster: &Cluster) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", cluster.coordinator.pid());
    let text = fs::read_to_string(path).expect("the coordinator runs");
    let of = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    of("Private_Clean:") + of("Private_Dirty:")
}

#[test]
fn everybody_does_a_part_once_though_the_coordinator_dies_in_the_middle() {
    let mut cluster = Cluster::start();
    let swarm = start(&cluster, cluster.coordinator.url());
    wait_until_all_online(&cluster, &swarm);

    let job = wait_until_over(&cluster, run_everywhere(&cluster).id);
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    assert_eq!(job.counts.succeeded as usize, AGENTS, "{job:?}");

    // More than the first credit, and long enough to be in the middle of it.
    swarm.play(Script { output: 100_000, delay: Duration::from_millis(300) });
    let before = swarm.counts();
    let job = run_everywhere(&cluster);
    eventually("some have started", LIMIT, || swarm.counts().started > before.started);
    cluster.coordinator.kill9();
    let unfinished = before.finished + AGENTS as u64 - swarm.counts().finished;
    assert!(unfinished > 0, "the job was over before the coordinator died");
    eventually("everybody has noticed", LIMIT, || swarm.counts().online == 0);
    cluster.coordinator.start();
    wait_until_all_online(&cluster, &swarm);

    let job = wait_until_over(&cluster, job.id);
    assert_eq!(job.state, JobState::Succeeded, "{job:?}");
    eventually("every result was acknowledged", LIMIT, || {
        swarm.counts().finished == 2 * AGENTS as u64
    });
    let counts = swarm.counts();
    assert_eq!((counts.started, counts.repeated), (2 * AGENTS as u64, 0), "{counts:?}");
    for operation in cluster.operations(job.id) {
        assert_eq!(operation.output.stdout, 100_000, "{operation:?}");
    }
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind_in_the_coordinator() {
    let cluster = Cluster::start();
    let without = descriptors(&cluster);
    let proxy = Proxy::to(cluster.coordinator.address());
    let swarm = start(&cluster, &proxy.url());
    swarm.play(Script { output: 60_000, delay: Duration::ZERO });
    let mut seen: Vec<u64> = Vec::new();
    for round in 1..=ROUNDS {
        eventually("everybody is there again", LIMIT, || {
            swarm.counts().sessions >= round * AGENTS as u64
        });
        wait_until_all_online(&cluster, &swarm);
        let job = wait_until_over(&cluster, run_everywhere(&cluster).id);
        assert_eq!(job.counts.succeeded as usize, AGENTS, "{job:?}");
        eventually("no old connection is left", LIMIT, || {
            descriptors(&cluster) < without + AGENTS + 64
        });
        seen.push(private_kib(&cluster));
        proxy.cut();
    }
    println!("KiB of the coordinator's own after each round: {seen:?}");
    let least = |rounds: &[u64]| rounds.iter().min().copied().expect("rounds");
    let (first, last) = (&seen[WARM..WARM + TOGETHER], &seen[seen.len() - TOGETHER..]);
    let between = (seen.len() - TOGETHER - WARM) as u64;
    let growth = least(last).saturating_sub(least(first)) / between / AGENTS as u64;
    assert!(growth < GROWTH_PER_AGENT_KIB, "{growth} KiB more for each agent in a round: {seen:?}");
    drop(swarm);
    eventually("all descriptors are given back", LIMIT, || descriptors(&cluster) < without + 64);
}
