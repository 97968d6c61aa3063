//! One thing to many machines goes up once, whatever is cut on the way; and each machine that can
//! have it, has it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::Signal;
use reeve_sdk::api::{MachineState, Page, Upload, UploadState};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{
    Agent, AgentBuilder, Cluster, ClusterBuilder, Finished, Running, eventually, processes,
    require_root,
};

/// Large enough that a cut can be in the middle.
const SIZE: u64 = 40 * 1024 * 1024;
/// What has gone up at the time of the cut: more than the coordinator syncs at once.
const CUT_AT: u64 = 24 * 1024 * 1024;
/// Slow enough that a cut at [`CUT_AT`] is not late.
const RATE: u64 = 8 * 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(60);

fn random_file(path: &Path, size: u64) {
    let mut bytes = vec![0; usize::try_from(size).expect("a size")];
    rand::fill(&mut bytes[..]);
    std::fs::write(path, &bytes).expect("a file");
}

fn hash_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    blake3::hash(&bytes).to_hex().to_string()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A coordinator behind a proxy, and machines that each have a folder of their own at one path.
struct Story {
    cluster: Cluster,
    proxy: Proxy,
    near: tempfile::TempDir,
    place: tempfile::TempDir,
}

impl Story {
    fn new() -> Self {
        Self::of(Cluster::builder())
    }

    fn of(builder: ClusterBuilder) -> Self {
        require_root("each machine has a folder of its own at the same path");
        let cluster = builder.start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let folder = || tempfile::TempDir::new().expect("a folder");
        Self { cluster, proxy, near: folder(), place: folder() }
    }

    /// A machine to be, with a folder of its own at the place where all have one.
    fn agent(&self, number: u32) -> AgentBuilder<'_> {
        let (own, place) = (self.own(number), self.place.path());
        let mount = format!("mount --bind '{}' '{}'", own.display(), place.display());
        let line = format!("{mount} && exec \"$0\" \"$@\"");
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &line];
        self.cluster.agent(&format!("web-{number}")).label("role", "web").through(&words)
    }

    fn machine(&self, number: u32) -> Agent {
        self.agent(number).start()
    }

    /// That folder, as seen from here.
    fn own(&self, number: u32) -> PathBuf {
        let folder = self.cluster.folder().join(format!("own-{number}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn machines(&self) -> Vec<Agent> {
        (1..=3).map(|number| self.machine(number)).collect()
    }

    fn big(&self) -> PathBuf {
        let path = self.near.path().join("big");
        if !path.exists() {
            random_file(&path, SIZE);
        }
        path
    }

    fn target(&self) -> String {
        format!("role=web:{}/", self.place.path().display())
    }

    fn start(&self, words: &[&str]) -> Running {
        let target = self.target();
        let words = [&["cp", "-o", "json"][..], words, &[&target]].concat();
        self.cluster.spawn_reeve_at(&self.proxy.url(), words)
    }

    fn cp(&self, words: &[&str]) -> Finished {
        self.start(words).finish()
    }

    fn start_big(&self) -> Running {
        self.start(&[self.big().to_str().expect("text")])
    }

    fn uploads(&self) -> Vec<Upload> {
        self.cluster.api.load::<Page<Upload>>("/api/uploads").items
    }

    /// Waits until a part has gone up, and shows that it is a part and that it is kept.
    fn wait_for_the_middle(&self) -> u64 {
        eventually("a part is kept", LIMIT, || {
            self.uploads().first().is_some_and(|upload| upload.received > 0)
        });
        let upload = self.uploads().remove(0);
        assert_eq!(upload.state, UploadState::Open, "it is too late");
        assert!(upload.received < SIZE, "it is too late: {}", upload.received);
        upload.received
    }

    /// The content passed once, and a little more.
    fn expect_once(&self, again: u64) {
        let passed = self.proxy.passed(Direction::Up);
        assert!(passed < SIZE + again + SIZE / 8, "{passed} bytes went up for {SIZE}");
        assert!(passed > SIZE, "{passed} bytes went up, so it took another way");
    }

    fn expect_there(&self, machines: impl IntoIterator<Item = u32>) {
        let hash = hash_of(&self.big());
        for machine in machines {
            assert_eq!(names_in(&self.own(machine)), ["big"], "{machine}");
            assert_eq!(hash_of(&self.own(machine).join("big")), hash, "{machine}");
        }
    }

    fn expect_nothing_there(&self) {
        for machine in 1..=3 {
            assert_eq!(names_in(&self.own(machine)), [""; 0], "{machine}");
        }
    }

    fn expect_nothing_kept(&self) {
        assert_eq!(self.uploads(), []);
        assert_eq!(names_in(&self.cluster.coordinator.data().join("uploads")), [""; 0]);
    }
}

#[test]
fn file_for_many_machines_goes_up_once() {
    let story = Story::new();
    let _machines = story.machines();
    let run = story.start_big().finish();
    run.expect_code(0);
    story.expect_there(1..=3);
    story.expect_once(0);
    story.expect_nothing_kept();
    let summary: serde_json::Value = run.json();
    let hash = hash_of(&story.big());
    let copied = summary["copied"].as_array().expect("a list");
    let told: Vec<_> = copied.iter().map(|each| each["machine"].as_str()).collect();
    assert_eq!(told, [Some("web-1"), Some("web-2"), Some("web-3")]);
    assert!(copied.iter().all(|each| each["hash"] == hash.as_str()), "{run}");
    assert!(copied.iter().all(|each| each["deed"] == "new"), "{run}");
}

#[test]
fn folder_for_many_machines_goes_up_once_and_fills_the_same_place_when_given_again() {
    let story = Story::new();
    let _machines = story.machines();
    let tree = story.near.path().join("tree");
    std::fs::create_dir_all(tree.join("inner/empty")).expect("folders");
    for number in 0..5 {
        random_file(&tree.join(format!("inner/{number}")), SIZE / 5);
    }
    std::fs::write(tree.join("odd\nname"), b"odd").expect("a file");
    symlink("inner/0", tree.join("link")).expect("a link");
    let words = ["-r", tree.to_str().expect("text")];
    story.cp(&words).expect_code(0);
    story.expect_once(0);
    for machine in 1..=3 {
        let there = story.own(machine).join("tree");
        for number in 0..5 {
            let name = format!("inner/{number}");
            assert_eq!(hash_of(&there.join(&name)), hash_of(&tree.join(&name)));
        }
        assert_eq!(names_in(&there), ["inner", "link", "odd\nname"]);
        assert_eq!(names_in(&there.join("inner")), ["0", "1", "2", "3", "4", "empty"]);
        assert_eq!(std::fs::read_link(there.join("link")).expect("a link"), Path::new("inner/0"));
    }
    std::fs::write(tree.join("odd\nname"), b"even").expect("a file");
    story.cp(&words).expect_code(0);
    for machine in 1..=3 {
        let there = story.own(machine).join("tree");
        assert_eq!(std::fs::read(there.join("odd\nname")).expect("a file"), b"even");
        assert_eq!(names_in(&story.own(machine)), ["tree"]);
    }
    story.expect_nothing_kept();
}

#[test]
fn connection_cut_in_the_middle_costs_little() {
    let story = Story::new();
    let _machines = story.machines();
    story.proxy.after(Direction::Up, CUT_AT, Fault::Reset);
    story.start_big().finish().expect_code(0);
    assert_eq!(story.proxy.faults(), 1, "the cut did not happen");
    story.expect_there(1..=3);
    // What had been synced is not sent again.
    story.expect_once(CUT_AT / 2);
}

#[test]
fn command_killed_in_the_middle_goes_on_when_given_again() {
    let story = Story::new();
    let _machines = story.machines();
    story.proxy.throttle(Some(RATE));
    let run = story.start_big();
    let came = story.wait_for_the_middle();
    run.signal(Signal::SIGKILL);
    assert_eq!(run.finish().code, 128 + 9);
    story.expect_nothing_there();
    let before = story.proxy.passed(Direction::Up);
    let run = story.start_big().finish();
    run.expect_code(0).expect_says("going on behind");
    let again = story.proxy.passed(Direction::Up) - before;
    assert!(again < SIZE - came + SIZE / 8, "{again} bytes went up, and {came} were there");
    story.expect_there(1..=3);
    story.expect_nothing_kept();
}

#[test]
fn coordinator_killed_in_the_middle_costs_little() {
    let mut story = Story::new();
    let _machines = story.machines();
    story.proxy.throttle(Some(RATE));
    let run = story.start_big();
    story.wait_for_the_middle();
    story.cluster.coordinator.kill9();
    story.cluster.coordinator.start();
    run.finish().expect_code(0);
    story.expect_there(1..=3);
    story.expect_once(SIZE / 2);
    story.expect_nothing_kept();
}

#[test]
fn ctrl_c_in_the_middle_leaves_nothing_at_the_coordinator() {
    let story = Story::new();
    let _machines = story.machines();
    story.proxy.throttle(Some(RATE));
    let run = story.start_big();
    story.wait_for_the_middle();
    run.signal(Signal::SIGINT);
    run.finish().expect_code(130).expect_says("is removed");
    story.expect_nothing_kept();
    story.expect_nothing_there();
}

/// With one machine on a slow line, so that something can happen to it in the middle.
fn something_happens_to_one(what: impl FnOnce(&mut Agent)) {
    let story = Story::new();
    let slow = Proxy::to(story.cluster.coordinator.address());
    slow.throttle(Some(RATE));
    let _others = (story.machine(1), story.machine(2));
    let mut third = story.agent(3).dials(&slow.url()).start();
    let run = story.start_big();
    eventually("a part has come", LIMIT, || slow.passed(Direction::Down) >= SIZE / 4);
    what(&mut third);
    let passed = slow.passed(Direction::Down);
    assert!(passed < SIZE, "it is too late: {passed}");
    run.finish().expect_code(0);
    story.expect_there(1..=3);
    story.expect_once(0);
    story.expect_nothing_kept();
}

#[test]
fn agent_killed_in_the_middle_gets_it_all_the_same() {
    something_happens_to_one(|agent| {
        agent.kill9();
        agent.restart();
    });
}

#[test]
fn machine_whose_attempt_was_killed_gets_another_without_a_second_upload() {
    something_happens_to_one(|agent| agent.keeper().signal(Signal::SIGKILL));
}

#[test]
fn writer_killed_before_it_could_clean_up_leaves_nothing() {
    something_happens_to_one(|agent| {
        let keeper = agent.keeper();
        let writers = processes::descendants(keeper.pid);
        assert!(!writers.is_empty(), "nothing writes");
        for writer in writers {
            writer.signal(Signal::SIGSTOP);
            processes::wait_until_held(writer.pid);
        }
        keeper.signal(Signal::SIGKILL);
    });
}

#[test]
fn machine_that_refuses_is_told_of_and_the_others_have_it() {
    let story = Story::new();
    let _others = (story.machine(1), story.machine(3));
    let _refusing = story.agent(2).policy("[allow]\nfiles = \"read\"\n").start();
    let run = story.start_big().finish();
    run.expect_code(1).expect_says("reeve: web-2:");
    story.expect_there([1, 3]);
    assert_eq!(names_in(&story.own(2)), [""; 0]);
    story.expect_once(0);
    story.expect_nothing_kept();
    let summary: serde_json::Value = run.json();
    assert!(summary["copied"][1]["error"].is_string(), "{run}");
    assert!(summary["copied"][2]["error"].is_null(), "{run}");
}

#[test]
fn what_the_coordinator_has_no_room_for_goes_to_each_machine_by_itself() {
    // One may have half of it.
    let limits = format!("uploads_bytes = \"{}MiB\"", SIZE / 1024 / 1024);
    let story = Story::of(Cluster::builder().limits(&limits));
    let _machines = story.machines();
    let run = story.start_big().finish();
    run.expect_code(0).expect_says("sent to each machine by itself").expect_says("uploads_bytes");
    story.expect_there(1..=3);
    assert!(story.proxy.passed(Direction::Up) > 3 * SIZE);
    story.expect_nothing_kept();
}

#[test]
fn what_nobody_goes_on_with_expires_and_is_sent_anew() {
    let mut story = Story::of(Cluster::builder().limits("uploads_keep = \"3s\""));
    let machines = story.machines();
    story.proxy.throttle(Some(RATE));
    let run = story.start_big();
    story.wait_for_the_middle();
    run.signal(Signal::SIGKILL);
    run.finish();
    eventually("its time is over", LIMIT, || {
        // What was on its way when it was killed may have come since.
        let upload = story.uploads().remove(0);
        let now = UNIX_EPOCH.elapsed().expect("a time").as_micros();
        upload.expires.as_micros() < i64::try_from(now).expect("a time")
    });
    // It sweeps when it starts, and every minute.
    story.cluster.coordinator.kill9();
    story.cluster.coordinator.start();
    eventually("it is swept away", LIMIT, || story.uploads().is_empty());
    story.expect_nothing_kept();
    story.proxy.throttle(None);
    // The machines come back in their own time, and a copy does not wait for them.
    machines.iter().for_each(|machine| machine.wait_until(MachineState::Online));
    story.start_big().finish().expect_code(0);
    story.expect_there(1..=3);
}

#[test]
fn source_that_changes_on_the_way_is_sent_anew() {
    let story = Story::new();
    let _machines = story.machines();
    story.proxy.throttle(Some(RATE));
    let other = story.near.path().join("other");
    random_file(&other, SIZE);
    let run = story.start_big();
    story.wait_for_the_middle();
    // What is read already is of the old one: into the same file.
    std::fs::copy(&other, story.big()).expect("copied");
    story.proxy.throttle(None);
    run.finish().expect_code(0).expect_says("it changed meanwhile; sent anew");
    story.expect_there(1..=3);
    story.expect_nothing_kept();
}

#[test]
fn dry_run_sends_no_content_and_says_what_each_machine_would_do() {
    let story = Story::new();
    let _machines = story.machines();
    std::fs::write(story.own(2).join("big"), b"another").expect("a file");
    std::fs::copy(story.big(), story.own(3).join("big")).expect("copied");
    let run = story.cp(&["--dry-run", story.big().to_str().expect("text")]);
    run.expect_code(0);
    let path = story.place.path().join("big").display().to_string();
    for (machine, deed) in [
        ("web-1", "would be new"),
        ("web-2", "would be overwritten"),
        ("web-3", "is the same already"),
    ] {
        run.expect_says(&format!("{machine}: {path}: {deed}"));
    }
    assert_eq!(names_in(&story.own(1)), [""; 0]);
    let passed = story.proxy.passed(Direction::Up);
    assert!(passed < SIZE / 8, "{passed} bytes went up");
    story.expect_nothing_kept();
}
