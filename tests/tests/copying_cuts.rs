//! Copies that are cut in the middle, by whatever can be cut, are whole in the end; and what had
//! come before is not sent again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, Running, eventually};

/// Large enough that a cut can be in the middle.
const SIZE: u64 = 64 * 1024 * 1024;
/// What has come at the time of the cut.
const CUT_AT: u64 = 12 * 1024 * 1024;
/// What of it may have to be sent again: what was on its way.
const WINDOWS: u64 = 24 * 1024 * 1024;
/// Slow enough that a cut at [`CUT_AT`] is not late.
const RATE: u64 = 24 * 1024 * 1024;

fn random_file(path: &Path, size: u64) -> String {
    let mut bytes = vec![0; usize::try_from(size).expect("a size")];
    rand::fill(&mut bytes[..]);
    std::fs::write(path, &bytes).expect("a file");
    hash_of(path)
}

fn hash_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    blake3::hash(&bytes).to_hex().to_string()
}

/// What has come of a file that has not come whole.
fn partial(folder: &Path) -> Option<(PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let length = entry.metadata().ok()?.len();
        name.starts_with(".reeve-copy-").then(|| (entry.path(), length))
    })
}

/// Waits until a part has come, and shows that it is a part.
fn wait_for_the_middle(folder: &Path) -> u64 {
    eventually("a part has come", Duration::from_secs(60), || {
        partial(folder).is_some_and(|(_, length)| length >= CUT_AT)
    });
    let (_, length) = partial(folder).expect("it has not come whole");
    assert!(length < SIZE, "the cut comes too late: {length}");
    length
}

struct Story {
    cluster: Cluster,
    proxy: Proxy,
    /// Here.
    near: tempfile::TempDir,
    /// On the machine.
    far: tempfile::TempDir,
    hash: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Up,
    Down,
}

impl Story {
    fn new(way: Way) -> Self {
        Self::of_size(way, SIZE)
    }

    fn of_size(way: Way, size: u64) -> Self {
        let cluster = Cluster::start();
        let proxy = Proxy::to(cluster.coordinator.address());
        proxy.throttle(Some(RATE));
        let near = tempfile::TempDir::new().expect("a folder");
        let far = tempfile::TempDir::new().expect("a folder");
        let source = if way == Way::Up { near.path() } else { far.path() };
        let hash = random_file(&source.join("big"), size);
        Self { cluster, proxy, near, far, hash }
    }

    fn words(&self, way: Way) -> Vec<String> {
        let near = self.near.path().join("big").display().to_string();
        let far = format!("web-1:{}", self.far.path().join("big").display());
        let (from, to) = if way == Way::Up { (near, far) } else { (far, near) };
        vec!["cp".to_owned(), "-o".to_owned(), "json".to_owned(), from, to]
    }

    fn start(&self, way: Way) -> Running {
        self.cluster.spawn_reeve(self.words(way))
    }

    fn target(&self, way: Way) -> &Path {
        if way == Way::Up { self.far.path() } else { self.near.path() }
    }

    /// Waits for its end: everything is there, nothing is left over. Bytes that travelled.
    fn finish(&self, way: Way, run: Running) -> u64 {
        let run = run.finish();
        run.expect_code(0);
        assert_eq!(hash_of(&self.target(way).join("big")), self.hash);
        assert_eq!(partial(self.target(way)), None);
        let summary: serde_json::Value = run.json();
        assert_eq!(summary["copied"][0]["hash"], self.hash.as_str(), "{run}");
        summary["copied"][0]["sent"].as_u64().expect("a number")
    }
}

#[test]
fn agents_connection_cut_in_the_middle_of_an_upload_costs_little() {
    let story = Story::new(Way::Up);
    let _web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    story.proxy.after(Direction::Down, CUT_AT, Fault::Reset);
    let run = story.start(Way::Up);
    eventually("the connection was cut", Duration::from_secs(60), || story.proxy.faults() > 0);
    let came = partial(story.far.path()).map_or(0, |(_, length)| length);
    assert!(came < SIZE, "the cut comes too late");
    story.finish(Way::Up, run);
    let passed = story.proxy.passed(Direction::Down);
    assert!(passed < SIZE + WINDOWS, "{passed} bytes were sent for {SIZE}");
}

#[test]
fn agents_connection_cut_in_the_middle_of_a_download_costs_little() {
    let story = Story::new(Way::Down);
    let _web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    story.proxy.after(Direction::Up, CUT_AT, Fault::Reset);
    let run = story.start(Way::Down);
    eventually("the connection was cut", Duration::from_secs(60), || story.proxy.faults() > 0);
    story.finish(Way::Down, run);
    let passed = story.proxy.passed(Direction::Up);
    assert!(passed < SIZE + WINDOWS, "{passed} bytes were sent for {SIZE}");
}

fn agent_killed(way: Way) {
    let story = Story::new(way);
    let mut web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    let run = story.start(way);
    wait_for_the_middle(story.target(way));
    web.kill9();
    web.restart();
    story.finish(way, run);
}

#[test]
fn agent_killed_in_the_middle_of_an_upload_loses_nothing() {
    agent_killed(Way::Up);
}

#[test]
fn agent_killed_in_the_middle_of_a_download_loses_nothing() {
    agent_killed(Way::Down);
}

fn keeper_killed(way: Way, size: u64) {
    let story = Story::of_size(way, size);
    let web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    let run = story.start(way);
    let came = wait_for_the_middle(story.target(way));
    web.keeper().signal(Signal::SIGKILL);
    story.finish(way, run);
    let direction = if way == Way::Up { Direction::Down } else { Direction::Up };
    let passed = story.proxy.passed(direction);
    assert!(came >= CUT_AT && passed < size + WINDOWS, "{passed} bytes were sent for {size}");
}

#[test]
fn keeper_killed_in_the_middle_of_an_upload_costs_little() {
    keeper_killed(Way::Up, SIZE);
}

#[test]
fn keeper_killed_in_the_middle_of_a_download_costs_little() {
    // More than a keeper holds for a slow link, or it would have ended by then.
    keeper_killed(Way::Down, 2 * reeve_protocol::limits::SPOOL_BYTES);
}

fn coordinator_killed(way: Way) {
    let mut story = Story::new(way);
    let _web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    let run = story.start(way);
    wait_for_the_middle(story.target(way));
    story.cluster.coordinator.kill9();
    story.cluster.coordinator.start();
    story.finish(way, run);
    let direction = if way == Way::Up { Direction::Down } else { Direction::Up };
    let passed = story.proxy.passed(direction);
    assert!(passed < SIZE + WINDOWS, "{passed} bytes were sent for {SIZE}");
}

#[test]
fn coordinator_killed_in_the_middle_of_an_upload_costs_little() {
    coordinator_killed(Way::Up);
}

#[test]
fn coordinator_killed_in_the_middle_of_a_download_costs_little() {
    coordinator_killed(Way::Down);
}

fn command_killed(way: Way) {
    let story = Story::new(way);
    let _web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    let run = story.start(way);
    let came = wait_for_the_middle(story.target(way));
    run.signal(Signal::SIGKILL);
    assert_eq!(run.finish().code, 128 + 9);
    assert!(!story.target(way).join("big").exists(), "it has its name before it is whole");
    let sent = story.finish(way, story.start(way));
    assert!(sent <= SIZE - came, "{sent} bytes were sent, though {came} of {SIZE} had come");
}

#[test]
fn command_killed_in_the_middle_of_an_upload_goes_on_when_given_again() {
    command_killed(Way::Up);
}

#[test]
fn command_killed_in_the_middle_of_a_download_goes_on_when_given_again() {
    command_killed(Way::Down);
}

#[test]
fn ctrl_c_leaves_what_came_and_says_how_to_go_on() {
    for way in [Way::Up, Way::Down] {
        let story = Story::new(way);
        let _web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
        let run = story.start(way);
        let came = wait_for_the_middle(story.target(way));
        run.signal(Signal::SIGINT);
        let run = run.finish();
        run.expect_code(130).expect_says("give the same command again");
        let sent = story.finish(way, story.start(way));
        assert!(sent <= SIZE - came, "{sent} bytes were sent, though {came} of {SIZE} had come");
    }
}

#[test]
fn source_that_is_another_file_by_then_is_sent_from_its_start() {
    let mut story = Story::new(Way::Down);
    let _web = story.cluster.agent("web-1").dials(&story.proxy.url()).start();
    let run = story.start(Way::Down);
    wait_for_the_middle(story.near.path());
    run.signal(Signal::SIGKILL);
    run.finish();
    story.hash = random_file(&story.far.path().join("big"), SIZE);
    let sent = story.finish(Way::Down, story.start(Way::Down));
    assert_eq!(sent, SIZE);
}

#[test]
fn what_nobody_went_on_with_for_a_day_goes_when_the_agent_starts() {
    let cluster = Cluster::start();
    let mut web = cluster.agent("web-1").start();
    let (near, far) = (tempfile::TempDir::new(), tempfile::TempDir::new());
    let (near, far) = (near.expect("a folder"), far.expect("a folder"));
    std::fs::write(near.path().join("first"), b"first").expect("a file");
    random_file(&near.path().join("second"), SIZE);
    let proxy = Proxy::to(cluster.coordinator.address());
    proxy.throttle(Some(RATE));
    let file = near.path().join("second").display().to_string();
    let folder = format!("{}/", near.path().display());
    let file_target = format!("web-1:{}/file", far.path().display());
    let folder_target = format!("web-1:{}/folder", far.path().display());
    let filling = far.path().join("folder");
    for (words, place) in [
        (vec!["cp", &file, &file_target], far.path()),
        (vec!["cp", "-r", &folder, &folder_target], filling.as_path()),
    ] {
        let run = cluster.spawn_reeve_at(&proxy.url(), words);
        eventually("a part has come", Duration::from_secs(60), || {
            partial(place).is_some_and(|(_, length)| length > 0)
        });
        run.signal(Signal::SIGKILL);
        run.finish();
    }
    // Whoever wrote it is gone as well.
    let keepers = web.keepers();
    web.kill9();
    keepers.iter().for_each(|keeper| keeper.signal(Signal::SIGKILL));
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    let age = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).expect("a file");
        file.set_modified(old).expect("a time");
    };
    let parts = [partial(far.path()).expect("a part").0, partial(&filling).expect("notes").0];
    parts.iter().for_each(|part| age(part));
    for note in std::fs::read_dir(web.state().join("partials")).expect("a folder") {
        age(&note.expect("an entry").path());
    }
    // The first start ends the writers, and the second finds that nobody has them any more.
    web.restart();
    web.kill9();
    web.restart();
    eventually("nothing is left of it", Duration::from_secs(60), || {
        partial(far.path()).is_none() && partial(&filling).is_none()
    });
    assert_eq!(std::fs::read(filling.join("first")).expect("what came whole"), b"first");
}
