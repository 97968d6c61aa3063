//! Sources that change while they are copied: nothing takes the place of what was there, unless the
//! copy was told to take them as they are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeve_protocol::limits::SPOOL_BYTES;
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, Finished, eventually};

/// More than is on its way at any time, so that the end of a file is read after its middle arrived.
const SIZE: u64 = 2 * SPOOL_BYTES;
/// What has come when the source changes.
const MIDDLE: u64 = 4 * 1024 * 1024;
/// Slow enough that the change is in the middle.
const RATE: u64 = 32 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Up,
    Down,
    Across,
}

/// What is at the target before.
const BEFORE: &[u8] = b"before";

const WAYS: [Way; 3] = [Way::Up, Way::Down, Way::Across];

/// Two machines behind a slow line, and a folder with a source and a target.
struct Story {
    cluster: Cluster,
    proxy: Proxy,
    _agents: Vec<reeve_tests::Agent>,
    folder: tempfile::TempDir,
    content: Vec<u8>,
}

impl Story {
    fn new() -> Self {
        let cluster = Cluster::start();
        let proxy = Proxy::to(cluster.coordinator.address());
        proxy.throttle(Some(RATE));
        let agents = ["web-1", "db-1"]
            .map(|name| cluster.agent(name).dials(&proxy.url()).start())
            .into_iter()
            .collect();
        let folder = tempfile::TempDir::new().expect("a folder");
        let mut content = vec![0; usize::try_from(SIZE).expect("a size")];
        rand::fill(&mut content[..]);
        Self { cluster, proxy, _agents: agents, folder, content }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// Starts a copy of what is at one path to another, and changes the source in the middle of it:
    /// its beginning has come, and its target is still as it was.
    fn copy(
        &self,
        way: Way,
        more: &[&str],
        (from, to): (&Path, &Path),
        change: impl FnOnce(&mut std::fs::File),
    ) -> Finished {
        let target = if to.is_dir() { to.join("big") } else { to.to_owned() };
        std::fs::write(&target, BEFORE).expect("a target");
        std::fs::write(self.source(), &self.content).expect("a source");
        let (from, to) = (from.display(), to.display());
        let (from, to) = match way {
            Way::Up => (from.to_string(), format!("web-1:{to}")),
            Way::Down => (format!("web-1:{from}"), to.to_string()),
            Way::Across => (format!("web-1:{from}"), format!("db-1:{to}")),
        };
        let passed = || self.proxy.passed(Direction::Up) + self.proxy.passed(Direction::Down);
        let before = passed();
        let run = self.cluster.spawn_reeve([&["cp"], more, &[&from, &to]].concat());
        eventually("a part has come", Duration::from_secs(60), || passed() - before >= MIDDLE);
        let mut source = std::fs::File::options().append(true).open(self.source()).expect("open");
        change(&mut source);
        assert_eq!(std::fs::read(&target).expect("there"), BEFORE, "the change comes too late");
        run.finish()
    }
}

/// What is there under the names of what has not come whole.
fn temporary(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".reeve-"))
        })
        .collect()
}

fn append(file: &mut std::fs::File) {
    file.write_all(b"more").expect("appended");
}

#[test]
fn file_that_changes_while_it_is_copied_takes_no_place() {
    let story = Story::new();
    let (source, target) = (story.source(), story.target());
    for way in WAYS {
        let run = story.copy(way, &[], (&source, &target), append);
        run.expect_code(1).expect_says("changed while it was read").expect_says("--live");
        assert_eq!(run.stderr.lines().count(), 1, "{way:?}: {run}");
        assert_eq!(std::fs::read(&target).expect("there"), BEFORE, "{way:?}");
        assert_eq!(temporary(story.folder.path()), Vec::<PathBuf>::new(), "{way:?}");
    }
}

#[test]
fn file_that_grows_or_shrinks_is_taken_live_as_it_is() {
    let story = Story::new();
    let (source, target) = (story.source(), story.target());
    for way in WAYS {
        story.copy(way, &["--live"], (&source, &target), append).expect_code(0);
        // What it had when it was opened.
        assert!(std::fs::read(&target).expect("there") == story.content, "{way:?}");

        let left = SIZE - 1000;
        let shrink = |file: &mut std::fs::File| file.set_len(left).expect("shorter");
        story.copy(way, &["--live"], (&source, &target), shrink).expect_code(0);
        let left = usize::try_from(left).expect("a length");
        assert!(std::fs::read(&target).expect("there") == story.content[..left], "{way:?}");
        assert_eq!(temporary(story.folder.path()), Vec::<PathBuf>::new(), "{way:?}");
    }
}

#[test]
fn file_of_a_folder_that_changes_is_left_out_unless_it_is_taken_live() {
    let story = Story::new();
    let folder = |name: &str| {
        let path = story.folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        path
    };
    let (from, to) = (folder("from"), folder("to"));
    let others = [("a", "first"), ("z", "last")];
    for (name, text) in others {
        std::fs::write(from.join(name), text).expect("a file");
    }
    // The one that changes has a name of its own in the folder.
    std::fs::write(story.source(), "").expect("a file");
    std::fs::hard_link(story.source(), from.join("big")).expect("a link");
    let contents = PathBuf::from(format!("{}/", from.display()));
    for way in WAYS {
        let run = story.copy(way, &["-r"], (&contents, &to), append);
        run.expect_code(1).expect_says("big changed while it was read").expect_says("1 left out");
        assert_eq!(std::fs::read(to.join("big")).expect("there"), BEFORE, "{way:?}");
        for (name, text) in others {
            assert_eq!(std::fs::read_to_string(to.join(name)).expect("there"), text, "{way:?}");
            std::fs::remove_file(to.join(name)).expect("removed");
        }
        story.copy(way, &["-r", "--live"], (&contents, &to), append).expect_code(0);
        assert!(std::fs::read(to.join("big")).expect("there") == story.content, "{way:?}");
        assert_eq!(temporary(&to), Vec::<PathBuf>::new(), "{way:?}");
    }
}
