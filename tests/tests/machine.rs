//! What a machine is and does: its processes, signals to them, how busy it is, what it is like.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reeve_protocol::SignalName;
use reeve_protocol::ops::{
    MachineDescribe, MachineDescription, Process, ProcessList, ProcessSignal, ProcessSort,
    ProcessTarget, Processes, Signalled, SystemWatch, WatchSample,
};
use reeve_sdk::api::OperationState;
use reeve_tests::{Cluster, eventually, processes};

/// A process that sleeps for a time nobody else does, and ends with this value.
struct Sleeper(Child, String);

impl Sleeper {
    fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let marker = format!("{}{number:03}", processes::marker());
        Self(Command::new("sleep").arg(&marker).spawn().expect("sleep starts"), marker)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("waited for").is_some()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn list(cluster: &Cluster, asked: ProcessList) -> Processes {
    let answers = cluster.perform("web-1", asked);
    assert!(answers[0].failure.is_none(), "{answers:?}");
    serde_json::from_slice(&answers[0].stdout).expect("processes")
}

fn find(cluster: &Cluster, pid: u32) -> (String, Process) {
    let listed = list(cluster, ProcessList { over_ms: Some(0), ..ProcessList::default() });
    let process = listed.processes.into_iter().find(|process| process.pid == pid);
    (listed.boot_id, process.expect("listed"))
}

#[test]
fn processes_are_listed_as_the_machine_has_them() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let sleeper = Sleeper::start();
    let (boot_id, process) = find(&cluster, sleeper.pid());
    assert_eq!(process.command, format!("sleep {}", sleeper.1));
    assert_eq!((process.name.as_str(), process.state.as_str()), ("sleep", "S"));
    assert_eq!(process.parent, std::process::id());
    assert_eq!(process.uid, nix::unistd::geteuid().as_raw());
    assert!(process.memory > 0 && process.start_time > 0 && process.threads == 1, "{process:?}");
    let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    assert_eq!(boot_id, own.trim());

    let few = list(
        &cluster,
        ProcessList { sort: ProcessSort::Memory, limit: Some(3), ..ProcessList::default() },
    );
    assert!(few.processes.len() == 3 && few.total > 3, "{few:?}");
    assert!(few.processes.windows(2).all(|pair| pair[0].memory >= pair[1].memory));
    let nobodys = ProcessList { user: Some("no-such-user".to_owned()), ..ProcessList::default() };
    assert_eq!(list(&cluster, nobodys).total, 0);

    let shown = cluster.reeve(["ps", "web-1", "--name", &sleeper.1]);
    shown.expect_code(0).expect_says(&sleeper.1).expect_says(&sleeper.pid().to_string());
    // Besides the title there is `reeve` itself, which was told the same words.
    assert_eq!(shown.text().lines().count(), 3, "{shown}");
    let documents: Vec<Process> =
        cluster.reeve(["ps", "web-1", "--name", &sleeper.1, "-o", "json"]).json();
    assert!(documents.iter().any(|found| found.start_time == process.start_time));
}

#[test]
fn busy_process_comes_first_with_what_it_uses() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("starts");
    let asked = ProcessList { over_ms: Some(1000), ..ProcessList::default() };
    let listed = list(&cluster, asked);
    let _gone = busy.kill();
    let _gone = busy.wait();
    let found = listed.processes.iter().find(|process| process.pid == busy.id()).expect("listed");
    assert!(found.cpu_percent > 5.0 && found.cpu_percent < 150.0, "{found:?}");
    assert!(listed.processes.windows(2).all(|pair| pair[0].cpu_percent >= pair[1].cpu_percent));
}

#[test]
fn signal_hits_exactly_the_process_that_was_seen() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut sleeper = Sleeper::start();
    let (boot_id, process) = find(&cluster, sleeper.pid());
    let signal = |start_time, boot_id: &str| {
        let targets = vec![ProcessTarget { pid: process.pid, start_time }];
        let boot_id = Some(boot_id.to_owned());
        let asked = ProcessSignal { targets, signal: SignalName::Term, boot_id };
        cluster.perform("web-1", asked).remove(0)
    };
    // Whoever was seen had this id and started a tick earlier: the id was reused since.
    let answer = signal(process.start_time - 1, &boot_id);
    let failure = answer.failure.expect("a failure");
    assert_eq!(failure.code, "not_found", "{failure:?}");
    assert!(failure.message.contains("another has its id now"), "{failure:?}");
    assert_eq!(answer.operation.state, OperationState::Failed);
    let answer = signal(process.start_time, "another boot");
    assert_eq!(answer.failure.expect("a failure").code, "rebooted");
    assert!(!sleeper.has_ended(), "it was hit");

    let answer = signal(process.start_time, &boot_id);
    assert!(answer.failure.is_none(), "{answer:?}");
    let signalled: Signalled = serde_json::from_slice(&answer.stdout).expect("an answer");
    assert!(signalled.targets[0].sent);
    eventually("it has ended", Duration::from_secs(10), || sleeper.has_ended());
    let answer = signal(process.start_time, &boot_id);
    assert_eq!(answer.failure.expect("a failure").code, "not_found");
}

#[test]
fn kill_shows_asks_and_hits_by_name_or_id() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let (mut by_id, mut by_name, mut other) =
        (Sleeper::start(), Sleeper::start(), Sleeper::start());
    let pid = by_id.pid().to_string();
    // Without a terminal nobody can say yes.
    let refused = cluster.reeve(["kill", "web-1", &pid]);
    refused.expect_code(2).expect_says("--yes").expect_says(&by_id.1);
    assert!(!by_id.has_ended());
    let sent = cluster.reeve(["kill", "web-1", &pid, "--yes"]);
    sent.expect_code(0).expect_says("TERM sent to 1 of 1");
    eventually("it has ended", Duration::from_secs(10), || by_id.has_ended());
    cluster.reeve(["kill", "web-1", &pid, "--yes"]).expect_code(1).expect_says("no process");

    let marker = by_name.1.clone();
    let sent = cluster.reeve(["kill", "web-1", "--name", &marker, "-s", "kill", "-y"]);
    sent.expect_code(0).expect_says("KILL sent to 1 of 1");
    eventually("it has ended", Duration::from_secs(10), || by_name.has_ended());
    cluster
        .reeve(["kill", "web-1", "--name", &marker, "-y"])
        .expect_code(1)
        .expect_says("no process has");
    assert!(!other.has_ended());
}

#[test]
fn policy_of_the_machine_forbids_signals_and_allows_looking() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy("[allow]\nexec = \"inspect\"\n").start();
    let _db = cluster.agent("db-1").policy("[exec]\nusers = [\"somebody\"]\n").start();
    let mut sleeper = Sleeper::start();
    let pid = sleeper.pid().to_string();
    cluster.reeve(["ps", "web-1", "--name", &sleeper.1]).expect_code(0).expect_says(&pid);
    cluster.reeve(["kill", "web-1", &pid, "-y"]).expect_code(255).expect_says("policy");
    cluster.reeve(["kill", "db-1", &pid, "-y"]).expect_code(255).expect_says("[exec] users");
    assert!(!sleeper.has_ended());
}

#[test]
fn machine_is_watched_for_as_long_as_asked() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let asked = SystemWatch {
        interval_ms: Some(500),
        count: Some(3),
        processes: Some(5),
        ..SystemWatch::default()
    };
    let answer = cluster.perform("web-1", asked).remove(0);
    assert!(answer.failure.is_none(), "{answer:?}");
    let lines: Vec<&[u8]> = answer.stdout.split(|byte| *byte == b'\n').collect();
    let samples: Vec<WatchSample> = lines
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a sample"))
        .collect();
    assert_eq!(samples.len(), 3);
    for sample in &samples {
        let cpus = std::thread::available_parallelism().expect("processors").get();
        assert!(sample.processors.len() > cpus, "{sample:?}");
        assert!(sample.memory.total > sample.memory.available);
        assert_eq!(sample.processes.len(), 5);
        assert!(sample.root.is_some() && sample.process_count > 5);
    }
    assert!(samples.windows(2).all(|pair| pair[0].time_us < pair[1].time_us));
    assert!((400..5000).contains(&samples[1].over_ms), "{:?}", samples[1].over_ms);
}

#[test]
fn machine_is_described_as_it_is() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let answer = cluster.perform("web-1", MachineDescribe::default()).remove(0);
    assert!(answer.failure.is_none(), "{answer:?}");
    let found: MachineDescription = serde_json::from_slice(&answer.stdout).expect("a description");
    let root = found.filesystems.iter().find(|it| it.mount == "/").expect("a root");
    assert!(root.total.is_some_and(|total| total > 0) && root.available <= root.total, "{root:?}");
    assert!(found.uptime_s > 0 && !found.boot_id.is_empty());
    if std::path::Path::new("/var/lib/dpkg/status").exists() {
        let updates = found.updates.expect("apt was asked");
        assert_eq!(updates.manager, "apt");
        assert!(updates.count.is_some() || !updates.note.is_empty(), "{updates:?}");
    }
    let quick = MachineDescribe { without_updates: true };
    let answer = cluster.perform("web-1", quick).remove(0);
    let found: MachineDescription = serde_json::from_slice(&answer.stdout).expect("a description");
    assert!(found.updates.is_none());
}
