//! Many agents at once: they all come on, all do their part, all come back after the coordinator
//! died, and leave nothing behind in it.

use std::fs;
use std::time::Duration;

use reeve_protocol::JobId;
use reeve_sdk::api::{Job, JobState};
use reeve_tests::proxy::Proxy;
use reeve_tests::swarm::{Options, Script, Swarm};
use reeve_tests::{Cluster, eventually};

const AGENTS: usize = 300;

/// For everybody to come, or to come back.
const LIMIT: Duration = Duration::from_secs(60);

/// For each reconnect of an agent memory may grow by this much in a round that counts as one without
/// growth: less than a session that is not let go.
const GROWTH_PER_AGENT_KIB: u64 = 12;

/// Rounds in a row without growth that show that nothing is kept of sessions.
const STEADY_ROUNDS: usize = 2;

/// Rounds at most. What the allocator holds back comes to an end within some; what is kept of each session
/// grows in all of them.
const MOST_ROUNDS: u64 = 12;

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

fn wait_until_all_online(swarm: &Swarm) {
    eventually("every agent has a session", LIMIT, || swarm.is_all_online());
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
    wait_until_all_online(&swarm);

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
    wait_until_all_online(&swarm);

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
    let mut steady = 0;
    for round in 1..=MOST_ROUNDS {
        eventually("everybody is there again", LIMIT, || {
            swarm.counts().sessions >= round * AGENTS as u64 && swarm.is_all_online()
        });
        let job = wait_until_over(&cluster, run_everywhere(&cluster).id);
        assert_eq!(job.counts.succeeded as usize, AGENTS, "{job:?}");
        eventually("no old connection is left", LIMIT, || {
            descriptors(&cluster) < without + AGENTS + 64
        });
        let now = private_kib(&cluster);
        // Beside the most so far: memory that was given back for a moment is no sign of anything.
        let most = seen.iter().max().copied().unwrap_or(0);
        let grew = now.saturating_sub(most) >= GROWTH_PER_AGENT_KIB * AGENTS as u64;
        seen.push(now);
        steady = if grew { 0 } else { steady + 1 };
        if steady == STEADY_ROUNDS {
            break;
        }
        proxy.cut();
    }
    println!("KiB of the coordinator's own after each round: {seen:?}");
    assert_eq!(steady, STEADY_ROUNDS, "memory grew and grew with every session: {seen:?} KiB");
    drop(swarm);
    eventually("all descriptors are given back", LIMIT, || descriptors(&cluster) < without + 64);
}
