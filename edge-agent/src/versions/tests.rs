//! What is kept, for how long, and after a crash.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use reeve_protocol::OperationId;
use reeve_protocol::ops::FileKind;
use tempfile::TempDir;

use super::*;
use crate::host::paths::LastLink;
use crate::operations::worker::Order;

const KIB: u64 = 1024;

struct Shelf {
    folder: TempDir,
    versions: VersionRules,
}

impl Shelf {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("state")).expect("made");
        Self { folder, versions: VersionRules { max_bytes: 100 * KIB, ..VersionRules::default() } }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> RemotePath {
        Rules::to_remote(&self.at(name))
    }

    fn worker(&self, blocked: &[&str]) -> Worker {
        let state = self.at("state");
        let blocked: Vec<String> =
            blocked.iter().map(|name| self.at(name).to_str().expect("text").to_owned()).collect();
        let rules = Rules::new(&["/".to_owned()], &blocked, &state).expect("rules");
        let order = Order {
            id: OperationId(uuid::Uuid::from_u128(5)),
            name: "test".to_owned(),
            body: Vec::new(),
            allowed: vec!["/".to_owned()],
            blocked: Vec::new(),
            state,
            policy: PathBuf::from("/etc/reeve/agent.toml"),
            versions: self.versions.clone(),
            tunnels: Vec::new(),
        };
        Worker::with_answer(order, rules, tempfile::tempfile().expect("a file"))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.at(name), bytes).expect("written");
    }

    /// Keeps what is at a name now.
    fn keep(&self, name: &str) -> Option<FileVersion> {
        let mut worker = self.worker(&[]);
        let path = self.path(name);
        let place = worker.rules.find(&path, LastLink::Keep).expect("found");
        keep(&mut worker, &place, &path, FileDeed::Removed).expect("kept")
    }

    fn ids(&self, name: &str) -> Vec<u64> {
        let listed = list(&self.worker(&[]), &self.path(name), false).expect("listed");
        listed.into_iter().map(|version| version.id).collect()
    }

    fn content(&self, name: &str, id: u64) -> Vec<u8> {
        let (_, mut file) = open(&self.worker(&[]), &self.path(name), id).expect("opened");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        bytes
    }

    fn blobs(&self) -> usize {
        let folders = fs::read_dir(self.at("state/versions/blobs")).expect("there").flatten();
        folders.map(|folder| fs::read_dir(folder.path()).expect("there").count()).sum()
    }
}

#[test]
fn versions_come_back_byte_for_byte_newest_first() {
    let shelf = Shelf::new();
    let mut sparse = vec![0; 300 * 1024];
    sparse[200 * 1024] = 7;
    let shelf = Shelf { versions: VersionRules::default(), ..shelf };
    for bytes in [&b"one"[..], b"", &sparse] {
        shelf.write("a", bytes);
        shelf.keep("a").expect("a version");
    }
    let ids = shelf.ids("a");
    assert_eq!(ids.len(), 3);
    assert!(ids.is_sorted_by(|a, b| a > b));
    assert_eq!(shelf.content("a", ids[0]), sparse);
    assert_eq!(shelf.content("a", ids[1]), b"");
    assert_eq!(shelf.content("a", ids[2]), b"one");
    std::os::unix::fs::symlink("a", shelf.at("link")).expect("linked");
    let link = shelf.keep("link").expect("a version");
    assert_eq!((link.kind, link.target), (FileKind::Symlink, Some(RemotePath::from("a"))));
    let all = list(&shelf.worker(&[]), &Rules::to_remote(shelf.folder.path()), true);
    assert_eq!(all.expect("listed").len(), 4);
    // Nothing on the way stays behind.
    assert_eq!(fs::read_dir(shelf.at("state/versions/incoming")).expect("there").count(), 0);
}

#[test]
fn what_is_blocked_now_cannot_be_read_from_history() {
    let shelf = Shelf::new();
    fs::create_dir(shelf.at("etc")).expect("made");
    shelf.write("etc/key", b"secret");
    let id = shelf.keep("etc/key").expect("a version").id;
    let blocked = shelf.worker(&["etc/key"]);
    let path = shelf.path("etc/key");
    assert_eq!(list(&blocked, &path, false).expect_err("blocked").code, "policy_path");
    assert_eq!(open(&blocked, &path, id).expect_err("blocked").code, "policy_path");
    let beneath = list(&blocked, &shelf.path("etc"), true).expect("listed");
    assert!(beneath.is_empty(), "{beneath:?}");
    // Another path with the number of a version of this one.
    shelf.write("other", b"");
    let error = open(&blocked, &shelf.path("other"), id).expect_err("not its version");
    assert_eq!(error.code, "no_such_version");
}

#[test]
fn oldest_go_first_when_there_is_too_much() {
    let shelf = Shelf::new();
    for number in 0..20u8 {
        shelf.write("a", &[number + 1; 10 * 1024]);
        shelf.keep("a").expect("a version");
    }
    let ids = shelf.ids("a");
    assert!((5..=10).contains(&ids.len()), "{ids:?}");
    assert_eq!(ids[0], 20);
    assert_eq!(shelf.blobs(), ids.len());
    assert_eq!(shelf.content("a", 20), [20; 10 * 1024]);
    // The same content takes its space once.
    for _ in 0..20 {
        shelf.keep("a").expect("a version");
    }
    assert_eq!(shelf.ids("a").len(), ids.len() + 20);
    assert_eq!(shelf.blobs(), ids.len());
}

#[test]
fn old_ones_go_and_numbers_are_not_used_again() {
    let mut shelf = Shelf::new();
    shelf.write("a", b"one");
    assert_eq!(shelf.keep("a").expect("a version").id, 1);
    shelf.versions.max_age = Duration::ZERO;
    let folder = StateFolder::at(shelf.at("state"));
    tidy(&folder, &shelf.versions).expect("tidied");
    assert_eq!((shelf.ids("a").len(), shelf.blobs()), (0, 0));
    shelf.versions.max_age = Duration::from_secs(60);
    assert_eq!(shelf.keep("a").expect("a version").id, 2);
}

#[test]
fn what_a_crash_cut_off_never_happened() {
    let shelf = Shelf::new();
    shelf.write("a", b"one");
    shelf.keep("a").expect("a version");
    let index = shelf.at("state/versions/index");
    let whole = fs::read(&index).expect("read");
    shelf.write("a", b"two");
    shelf.keep("a").expect("a version");
    let both = fs::read(&index).expect("read");
    for length in whole.len()..both.len() {
        fs::write(&index, &both[..length]).expect("written");
        assert_eq!(shelf.ids("a"), [1], "{length}");
    }
    shelf.write("a", b"three");
    assert_eq!(shelf.keep("a").expect("a version").id, 2);
    assert_eq!(shelf.content("a", 2), b"three");
    assert_eq!(shelf.ids("a"), [2, 1]);
    // What the cut line named belongs to nobody; a damaged line harms no other.
    OpenOptions::new()
        .append(true)
        .open(&index)
        .expect("open")
        .write_all(b"{}\n")
        .expect("written");
    tidy(&StateFolder::at(shelf.at("state")), &shelf.versions).expect("tidied");
    assert_eq!((shelf.ids("a"), shelf.blobs()), (vec![2, 1], 2));
}

#[test]
fn what_is_too_large_or_not_wanted_is_left_out() {
    let mut shelf = Shelf::new();
    shelf.versions.max_file = 4;
    shelf.write("a", b"12345");
    assert_eq!(shelf.keep("a"), None);
    shelf.write("a", b"1234");
    assert!(shelf.keep("a").is_some());
    shelf.versions.enabled = false;
    assert_eq!(shelf.keep("a"), None);
    shelf.versions = VersionRules { max_bytes: 10, ..VersionRules::default() };
    shelf.write("a", b"12345678901");
    assert_eq!(shelf.keep("a"), None);
    nix::unistd::mkfifo(&shelf.at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    assert_eq!(shelf.keep("pipe"), None);
}

#[test]
fn nothing_is_written_where_nothing_is_kept() {
    let shelf = Shelf::new();
    assert!(shelf.ids("a").is_empty());
    assert!(!Path::new(&shelf.at("state/versions")).exists());
}

#[test]
fn many_workers_keep_at_the_same_time() {
    let shelf = Shelf { versions: VersionRules::default(), ..Shelf::new() };
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let shelf = &shelf;
            scope.spawn(move || {
                for number in 0..25u8 {
                    let name = format!("file-{thread}");
                    shelf.write(&name, &[thread, number]);
                    // Each is an operation of its own.
                    let mut worker = shelf.worker(&[]);
                    worker.order.id = OperationId(uuid::Uuid::from_u128(u128::from(thread)));
                    let path = shelf.path(&name);
                    let place = worker.rules.find(&path, LastLink::Keep).expect("found");
                    keep(&mut worker, &place, &path, FileDeed::Overwritten).expect("kept");
                }
            });
        }
    });
    let all = list(&shelf.worker(&[]), &Rules::to_remote(shelf.folder.path()), true);
    let mut ids: Vec<u64> = all.expect("listed").iter().map(|version| version.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}
