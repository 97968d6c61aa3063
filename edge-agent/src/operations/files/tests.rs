//! Bad input and bad luck: one clear error each, and what was there stays as it was.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use reeve_protocol::OperationId;
use reeve_protocol::ops::{
    Failure, FileEntry, FileHistory, FileKind, FileList, FileListLine, FileMkdir, FileMode,
    FileMove, FileRemove, FileRemoved, FileRestore, FileStat, FileVersion, RemotePath,
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::host::paths::Rules;
use crate::operations::worker::{Order, Perform, Worker};
use crate::policy::VersionRules;

mod luck;

/// A machine with a folder that may be touched and one that may not.
struct Machine {
    folder: TempDir,
    state: PathBuf,
}

impl Machine {
    fn new() -> Self {
        Self::within(tempfile::tempdir().expect("a folder"))
    }

    fn within(folder: TempDir) -> Self {
        for name in ["in", "in/sub", "in/blocked", "out", "state"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        for name in ["in/file", "in/sub/inner", "in/blocked/secret", "out/other"] {
            fs::write(folder.path().join(name), name).expect("written");
        }
        let state = folder.path().join("state");
        Self { folder, state }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: impl AsRef<[u8]>) -> RemotePath {
        Rules::to_remote(self.folder.path()).join(name.as_ref())
    }

    fn try_perform(&self, work: impl Perform) -> (Result<(), Failure>, Vec<u8>) {
        let allowed = [self.at("in").to_str().expect("text").to_owned()];
        let blocked = [self.at("in/blocked").to_str().expect("text").to_owned()];
        let rules = Rules::new(&allowed, &blocked, &self.state).expect("rules");
        let order = Order {
            id: OperationId(uuid::Uuid::from_u128(9)),
            name: "test".to_owned(),
            body: Vec::new(),
            allowed: Vec::new(),
            blocked: Vec::new(),
            state: self.state.clone(),
            policy: self.at("policy"),
            versions: VersionRules::default(),
            tunnels: Vec::new(),
        };
        let mut answer = tempfile::tempfile().expect("a file");
        let copy = answer.try_clone().expect("cloned");
        let mut worker = Worker::with_answer(order, rules, copy);
        let done = work.validate().map_err(|error| Failure::new("invalid", error.to_string()));
        let done = done.and_then(|()| work.perform(&mut worker));
        drop(worker);
        let mut bytes = Vec::new();
        answer.rewind().expect("rewound");
        answer.read_to_end(&mut bytes).expect("read");
        (done, bytes)
    }

    #[track_caller]
    fn perform<T: DeserializeOwned>(&self, work: impl Perform) -> T {
        let (done, answer) = self.try_perform(work);
        done.expect("done");
        serde_json::from_slice(&answer).expect("an answer")
    }

    #[track_caller]
    fn lines<T: DeserializeOwned>(&self, work: impl Perform) -> Vec<T> {
        let (done, answer) = self.try_perform(work);
        done.expect("done");
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a line")).collect()
    }

    fn code(&self, work: impl Perform) -> String {
        self.try_perform(work).0.err().map_or_else(String::new, |failure| failure.code)
    }

    fn history(&self, name: impl AsRef<[u8]>) -> Vec<FileVersion> {
        self.lines(FileHistory::new(self.path(name)))
    }

    /// Everything there is but the agent's state, with what it holds.
    fn picture(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.at("in"), self.at("out")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("read") {
                let path = entry.expect("an entry").path();
                let about = fs::symlink_metadata(&path).expect("there");
                let content = if about.is_file() { fs::read(&path).expect("read") } else { vec![] };
                if about.is_dir() {
                    folders.push(path.clone());
                }
                found.push((path, about.mode(), content));
            }
        }
        found.sort();
        found
    }
}

fn stat(path: RemotePath) -> FileStat {
    FileStat { path, follow: true, hash: true }
}

fn moved(from: RemotePath, to: RemotePath) -> FileMove {
    FileMove { replace: true, ..FileMove::new(from, to) }
}

fn removed(path: RemotePath) -> FileRemove {
    FileRemove { recursive: true, ..FileRemove::new(path) }
}

fn mode(path: RemotePath) -> FileMode {
    FileMode { mode: Some(0o600), recursive: true, ..FileMode::new(path) }
}

#[test]
fn what_the_policy_does_not_allow_is_neither_seen_nor_touched() {
    let machine = Machine::new();
    symlink(machine.at("out"), machine.at("in/escape")).expect("linked");
    symlink(machine.at("in/blocked"), machine.at("in/hidden")).expect("linked");
    fs::hard_link(machine.at("in/blocked/secret"), machine.at("in/linked")).expect("linked");
    let before = machine.picture();
    let file = || machine.path("in/file");
    for name in [
        "out/other",
        "out/nothing",
        "in/escape/other",
        "in/blocked/secret",
        "in/blocked/nothing",
        "in/hidden/secret",
        "in/linked",
        "state/journal",
        "in/escape/new",
    ] {
        let path = || machine.path(name);
        let codes = [
            machine.code(stat(path())),
            machine.code(removed(path())),
            machine.code(moved(path(), machine.path("in/new"))),
            machine.code(moved(file(), path())),
            machine.code(mode(path())),
            machine.code(FileHistory::new(path())),
            machine.code(FileRestore::new(path(), 1)),
        ];
        let expected = |at: usize| match name {
            // That it is there is no secret, and it has no version.
            "in/linked" if at == 5 => "",
            "in/linked" if at == 6 => "no_such_version",
            _ => "policy_path",
        };
        for (at, code) in codes.iter().enumerate() {
            assert_eq!(code, expected(at), "{name}, {at}");
        }
    }
    for name in ["out", "in/escape", "in/blocked", "in/hidden"] {
        assert_eq!(machine.code(FileList::new(machine.path(name))), "policy_path", "{name}");
    }
    for name in ["out/new", "in/escape/new", "in/blocked/new", "in/blocked"] {
        let make = FileMkdir { parents: true, ..FileMkdir::new(machine.path(name)) };
        assert_eq!(machine.code(FileMkdir { parents: false, ..make.clone() }), "policy_path");
        assert_eq!(machine.code(make), "policy_path", "{name}");
    }
    // What holds something of it is not taken away as a whole either.
    for work in [removed(machine.path("in")), removed(machine.path("in/"))] {
        assert_eq!(machine.code(work), "policy_path");
    }
    assert_eq!(machine.code(moved(machine.path("in"), machine.path("in2"))), "policy_path");
    assert_eq!(machine.picture(), before);
}

#[test]
fn what_is_no_file_or_no_folder_is_said_so() {
    let machine = Machine::new();
    for name in ["in/pipe", "in/socket"] {
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&machine.at(name), mode).expect("made");
    }
    symlink("nothing", machine.at("in/dangling")).expect("linked");
    let before = machine.picture();
    let path = |name: &str| machine.path(name);
    // Nothing waits for the other end of a pipe.
    assert_eq!(machine.code(stat(path("in/pipe"))), "");
    let hash = Some("0".repeat(64));
    let guarded = FileRemove { if_match: hash.clone(), ..FileRemove::new(path("in/pipe")) };
    assert_eq!(machine.code(guarded), "changed");
    let guarded = FileRemove { if_match: hash.clone(), ..FileRemove::new(path("in/sub")) };
    assert_eq!(machine.code(guarded), "is_a_directory");
    let guarded = FileRemove { if_match: hash, ..FileRemove::new(path("in/file")) };
    assert_eq!(machine.code(guarded), "changed");
    for (code, expected) in [
        (machine.code(FileList::new(path("in/file"))), "not_a_directory"),
        (machine.code(FileList::new(path("in/pipe"))), "not_a_directory"),
        (machine.code(stat(path("in/file/x"))), "not_a_directory"),
        (machine.code(stat(path("in/dangling"))), "not_found"),
        (machine.code(stat(path("in/nothing"))), "not_found"),
        (machine.code(FileRemove::new(path("in/nothing"))), "not_found"),
        (machine.code(FileRemove::new(path("in/sub"))), "not_empty"),
        (machine.code(FileMkdir::new(path("in/file"))), "exists"),
        (machine.code(FileMkdir::new(path("in/dangling"))), "exists"),
        (machine.code(FileMkdir::new(path("in/no/new"))), "not_found"),
        (machine.code(mode(path("in/dangling"))), "symlink"),
        (machine.code(FileMove::new(path("in/sub"), path("in/file"))), "exists"),
        (machine.code(moved(path("in/sub"), path("in/file"))), "not_a_directory"),
        (machine.code(moved(path("in/file"), path("in/sub"))), "is_a_directory"),
        (machine.code(moved(path("in/sub"), path("in/sub/deeper"))), "invalid"),
        (machine.code(moved(path("in/file"), path("in/file"))), "same_file"),
        (machine.code(FileMove::new(path("in/file"), path("in/sub/inner"))), "exists"),
        (machine.code(FileRestore::new(path("in/file"), 7)), "no_such_version"),
        (machine.code(FileMkdir::new(path(&"x".repeat(300)).join(b"y"))), "policy_path"),
        (machine.code(FileMkdir::new(path(&format!("in/{}", "x".repeat(300))))), "name_too_long"),
        (machine.code(stat(RemotePath::from("/a/../b"))), "invalid"),
    ] {
        assert_eq!(code, expected);
    }
    let parents = FileMkdir { parents: true, ..FileMkdir::new(path("in/file/new")) };
    assert_eq!(machine.code(parents), "not_a_directory");
    assert_eq!(machine.picture(), before);
}

#[test]
fn any_name_is_made_listed_moved_and_removed() {
    let machine = Machine::new();
    for name in [&b"new\nline"[..], b"\"quo'ted\"", b"-rf", b"\xff\xfe", b" ", b"$(id)", b"..."] {
        let path = machine.path("in").join(name);
        let made: FileEntry = machine.perform(FileMkdir::new(path.clone()));
        assert_eq!((&made.path, made.kind, made.mode), (&path, FileKind::Directory, 0o755));
        let file = path.join(name);
        fs::write(Rules::to_path(&file), name).expect("written");
        let listed: Vec<FileListLine> = machine.lines(FileList::new(path.clone()));
        let [FileListLine::Entry(entry)] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!(entry.path, file);
        let other = path.join(b"other");
        let entry: FileEntry = machine.perform(FileMove::new(file.clone(), other.clone()));
        assert_eq!(entry.path, other);
        let gone: FileRemoved = machine.perform(removed(path.clone()));
        assert_eq!((gone.files, gone.folders, gone.versions), (1, 1, 1));
        let versions: Vec<FileVersion> = machine.lines(FileHistory::new(other.clone()));
        let restore = FileRestore { parents: true, ..FileRestore::new(other, versions[0].id) };
        let back: FileEntry = machine.perform(restore);
        assert_eq!(fs::read(Rules::to_path(&back.path)).expect("read"), name);
    }
}

#[test]
fn lists_say_that_there_is_more() {
    let machine = Machine::new();
    for number in 0..50 {
        fs::write(machine.at(&format!("in/sub/{number:02}")), "").expect("written");
    }
    let some = FileList { limit: 10, ..FileList::new(machine.path("in/sub")) };
    let lines: Vec<FileListLine> = machine.lines(some);
    assert_eq!(lines.len(), 11);
    assert!(
        matches!(&lines[9], FileListLine::Entry(entry) if entry.path == machine.path("in/sub/09"))
    );
    assert!(matches!(&lines[10], FileListLine::More(more) if more.more_than == 10));
    let all: Vec<FileListLine> =
        machine.lines(FileList { limit: 51, ..FileList::new(machine.path("in/sub")) });
    assert_eq!(all.len(), 51);
    // A tree, without what is blocked.
    let tree = FileList { depth: 5, limit: 3, ..FileList::new(machine.path("in")) };
    let tree: Vec<FileListLine> = machine.lines(tree);
    let names: Vec<_> = tree
        .iter()
        .filter_map(|line| match line {
            FileListLine::Entry(entry) => Some(entry.path.clone()),
            FileListLine::More(_) => None,
        })
        .collect();
    assert_eq!(names, ["in/file", "in/sub", "in/sub/00"].map(|name| machine.path(name)));
}

#[test]
fn what_is_replaced_or_removed_comes_back_as_it_was() {
    let machine = Machine::new();
    let (file, other) = (machine.path("in/file"), machine.path("in/sub/inner"));
    fs::set_permissions(machine.at("in/file"), fs::Permissions::from_mode(0o4750)).expect("set");
    std::os::unix::fs::chown(machine.at("in/file"), Some(7), Some(8)).expect("run as root");
    // The kernel takes it away with the owner.
    fs::set_permissions(machine.at("in/file"), fs::Permissions::from_mode(0o4750)).expect("set");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 7);
    File::options()
        .append(true)
        .open(machine.at("in/file"))
        .and_then(|file| file.set_modified(time))
        .expect("set");
    let _: FileEntry = machine.perform(moved(other.clone(), file.clone()));
    assert_eq!(fs::read(machine.at("in/file")).expect("read"), b"in/sub/inner");
    let kept = machine.history("in/file");
    assert_eq!(kept.len(), 1);
    let wrong = FileRestore { if_match: Some("0".repeat(64)), ..FileRestore::new(file.clone(), 1) };
    assert_eq!(machine.code(wrong), "changed");
    let back: FileEntry = machine.perform(FileRestore::new(file.clone(), kept[0].id));
    assert_eq!((back.mode, back.uid, back.gid, back.size), (0o4750, 7, 8, 7));
    assert_eq!(back.modified_ns, 1_000_000_000_000_000_007);
    assert_eq!(fs::read(machine.at("in/file")).expect("read"), b"in/file");
    // What was there in between is a version too.
    let hashes: Vec<_> = machine.history("in/file").into_iter().map(|it| it.hash).collect();
    assert_eq!(hashes[0], Some(blake3::hash(b"in/sub/inner").to_hex().to_string()));
    let _: FileRemoved = machine.perform(FileRemove::new(file.clone()));
    let newest = machine.history("in/file")[0].id;
    let _: FileEntry = machine.perform(FileRestore::new(file.clone(), newest));
    assert_eq!(fs::read(machine.at("in/file")).expect("read"), b"in/file");
    // Links are kept as links.
    symlink("file", machine.at("in/link")).expect("linked");
    let link = machine.path("in/link");
    let _: FileRemoved = machine.perform(FileRemove::new(link.clone()));
    let id = machine.history("in/link")[0].id;
    let back: FileEntry = machine.perform(FileRestore::new(link, id));
    assert_eq!(back.target, Some(RemotePath::from("file")));
    // A content that was tampered with does not come back.
    let blobs = machine.state.join("versions/blobs");
    for folder in fs::read_dir(blobs).expect("read").flatten() {
        for blob in fs::read_dir(folder.path()).expect("read").flatten() {
            fs::write(blob.path(), b"evil567").expect("written");
        }
    }
    let before = machine.picture();
    assert_eq!(machine.code(FileRestore::new(file, newest)), "version_damaged");
    assert_eq!(machine.picture(), before);
}

#[test]
fn bits_and_owners_change_within_and_never_through_links() {
    let machine = Machine::new();
    symlink(machine.at("out/other"), machine.at("in/sub/link")).expect("linked");
    let change = FileMode {
        clear: 0o777,
        add: 0o640,
        add_search: 0o110,
        user: Some("7".to_owned()),
        group: Some("root".to_owned()),
        recursive: true,
        ..FileMode::new(machine.path("in/sub"))
    };
    machine.perform::<serde_json::Value>(change);
    let about = |name: &str| fs::symlink_metadata(machine.at(name)).expect("there");
    assert_eq!((about("in/sub").mode() & 0o7777, about("in/sub").uid()), (0o750, 7));
    assert_eq!((about("in/sub/inner").mode() & 0o7777, about("in/sub/inner").uid()), (0o640, 7));
    assert_eq!((about("in/sub/link").uid(), about("out/other").uid()), (7, 0));
    assert_eq!(about("out/other").mode() & 0o7777, 0o644);
    let nobody =
        FileMode { user: Some("no-such-user".to_owned()), ..FileMode::new(machine.path("in")) };
    assert_eq!(machine.code(nobody), "unknown_user");
    // What is blocked on the way is told of and left as it is.
    assert_eq!(machine.code(mode(machine.path("in"))), "incomplete");
    assert_eq!(about("in/blocked").mode() & 0o7777, 0o755);
}
