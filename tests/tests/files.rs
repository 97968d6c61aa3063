//! Files on machines: looked at, changed, removed and brought back, and what is never touched.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use reeve_protocol::ops::{
    FileDeed, FileEntry, FileHistory, FileKind, FileList, FileListLine, FileMkdir, FileMode,
    FileMove, FileRemove, FileRemoved, FileRestore, FileStat, FileVersion, RemotePath,
};
use reeve_sdk::Answered;
use reeve_sdk::api::OperationRequest;
use reeve_tests::Cluster;
use serde::de::DeserializeOwned;

fn remote(path: &Path) -> RemotePath {
    RemotePath::new(path.as_os_str().as_encoded_bytes())
}

fn perform(cluster: &Cluster, work: impl Into<OperationRequest>) -> Answered {
    let mut answers = cluster.perform("web-1", work);
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[track_caller]
fn ask<T: DeserializeOwned>(cluster: &Cluster, work: impl Into<OperationRequest>) -> T {
    let answer = perform(cluster, work);
    assert!(answer.failure.is_none(), "{answer:?}");
    serde_json::from_slice(&answer.stdout).expect("an answer")
}

#[track_caller]
fn lines<T: DeserializeOwned>(cluster: &Cluster, work: impl Into<OperationRequest>) -> Vec<T> {
    let answer = perform(cluster, work);
    assert!(answer.failure.is_none(), "{answer:?}");
    let lines = answer.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line")).collect()
}

#[track_caller]
fn code(cluster: &Cluster, work: impl Into<OperationRequest>) -> String {
    perform(cluster, work).failure.expect("a failure").code
}

fn stat(path: &RemotePath) -> FileStat {
    FileStat { path: path.clone(), follow: false, hash: true }
}

#[test]
fn stat_tells_what_is_at_a_path() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("odd \"name\"\n");
    fs::write(&path, b"content").expect("a file");
    let path = remote(&path);
    let entry: FileEntry = ask(&cluster, stat(&path));
    assert_eq!((&entry.path, entry.kind, entry.size), (&path, FileKind::File, 7));
    // b3sum(1) says so.
    let hash = blake3::hash(b"content").to_hex().to_string();
    assert_eq!(entry.hash, Some(hash));
    assert_eq!(code(&cluster, stat(&RemotePath::from("/no/such"))), "not_found");
}

#[test]
fn what_is_made_moved_and_removed_comes_back_from_history() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    // Any bytes are a name.
    let base = remote(folder.path()).join(b"\xff new\nfolder");
    let make = FileMkdir { parents: true, mode: Some(0o711), ..FileMkdir::new(base.join(b"-rf")) };
    let made: FileEntry = ask(&cluster, make);
    assert_eq!((made.kind, made.mode), (FileKind::Directory, 0o711));
    let local = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff new\nfolder/-rf"));
    fs::write(local.join("old.conf"), "old").expect("written");
    fs::write(local.join("new.conf"), "new").expect("written");

    let whole = base.join(b"-rf");
    let listed: Vec<FileListLine> =
        lines(&cluster, FileList { depth: 3, ..FileList::new(base.clone()) });
    let paths: Vec<_> = listed
        .iter()
        .map(|line| match line {
            FileListLine::Entry(entry) => entry.path.clone(),
            FileListLine::More(_) => panic!("{listed:?}"),
        })
        .collect();
    let (old, new) = (whole.join(b"old.conf"), whole.join(b"new.conf"));
    assert_eq!(paths, [whole.clone(), new.clone(), old.clone()]);

    assert_eq!(code(&cluster, FileMove::new(new.clone(), old.clone())), "exists");
    let over = FileMove { replace: true, ..FileMove::new(new, old.clone()) };
    let _: FileEntry = ask(&cluster, over);
    let guarded = FileRemove { if_match: Some("0".repeat(64)), ..FileRemove::new(old.clone()) };
    assert_eq!(code(&cluster, guarded), "changed");
    assert_eq!(code(&cluster, FileRemove::new(base.clone())), "not_empty");
    let all = FileRemove { recursive: true, ..FileRemove::new(base.clone()) };
    let removed: FileRemoved = ask(&cluster, all);
    assert_eq!((removed.files, removed.folders, removed.versions), (1, 2, 1));
    assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0);

    let versions: Vec<FileVersion> = lines(&cluster, FileHistory::new(old.clone()));
    let deeds: Vec<_> = versions.iter().map(|version| version.deed).collect();
    assert_eq!(deeds, [FileDeed::Removed, FileDeed::MovedOver]);
    let restore = FileRestore { parents: true, ..FileRestore::new(old.clone(), versions[1].id) };
    let back: FileEntry = ask(&cluster, restore);
    assert_eq!(back.hash, Some(blake3::hash(b"old").to_hex().to_string()));
    assert_eq!(fs::read(local.join("old.conf")).expect("read"), b"old");
    let of_all = FileHistory { beneath: true, ..FileHistory::new(remote(folder.path())) };
    assert_eq!(lines::<FileVersion>(&cluster, of_all).len(), 2);
}

#[test]
fn policy_of_the_machine_holds_whatever_the_coordinator_asks() {
    let cluster = Cluster::start();
    let folder = tempfile::TempDir::new().expect("a folder");
    for name in ["srv", "srv/keys", "other"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    fs::write(folder.path().join("srv/keys/id"), "secret").expect("written");
    fs::write(folder.path().join("other/file"), "other").expect("written");
    symlink("../other", folder.path().join("srv/out")).expect("linked");
    let policy = format!(
        "[paths]\nallowed = [\"{0}/srv\"]\nblocked = [\"{0}/srv/keys\"]\n",
        folder.path().display()
    );
    let _web = cluster.agent("web-1").policy(&policy).start();
    let at = |name: &str| remote(&folder.path().join(name));
    for name in ["other/file", "srv/out/file", "srv/out/nothing", "srv/keys/id", "srv/keys/no"] {
        assert_eq!(code(&cluster, stat(&at(name))), "policy_path", "{name}");
    }
    assert_eq!(code(&cluster, FileList::new(at("srv/out"))), "policy_path");
    assert_eq!(
        code(&cluster, FileRemove { recursive: true, ..FileRemove::new(at("srv")) }),
        "policy_path"
    );
    assert_eq!(code(&cluster, FileMove::new(at("srv/keys"), at("srv/open"))), "policy_path");
    assert_eq!(code(&cluster, FileMkdir::new(at("srv/out/new"))), "policy_path");
    let listed: Vec<FileListLine> =
        lines(&cluster, FileList { depth: 9, ..FileList::new(at("srv")) });
    assert!(matches!(&listed[..], [FileListLine::Entry(link)] if link.kind == FileKind::Symlink));
    // The link goes, what it leads to stays.
    let _: FileRemoved = ask(&cluster, FileRemove::new(at("srv/out")));
    assert!(folder.path().join("other/file").exists());
}

#[test]
fn agent_protects_itself_and_the_machines_keys_where_the_owner_says_nothing() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let state = remote(web.state());
    for path in [state.clone(), state.join(b"key"), state.join(b"identity.json")] {
        assert_eq!(code(&cluster, stat(&path)), "policy_path");
        assert_eq!(code(&cluster, FileRemove::new(path)), "policy_path");
    }
    let above = remote(web.state().parent().expect("a folder"));
    assert_eq!(
        code(&cluster, FileRemove { recursive: true, ..FileRemove::new(above.clone()) }),
        "policy_path"
    );
    // What the owner decides can be read and not changed.
    let policy = above.join(b"agent.toml");
    let _: FileEntry = ask(&cluster, stat(&policy));
    assert_eq!(code(&cluster, FileRemove::new(policy.clone())), "policy_path");
    assert_eq!(
        code(&cluster, FileMode { mode: Some(0o666), ..FileMode::new(policy) }),
        "policy_path"
    );
    for path in ["/etc/shadow", "/root/.ssh", "/root/.ssh/authorized_keys"] {
        assert_eq!(code(&cluster, stat(&RemotePath::from(path))), "policy_path", "{path}");
    }
    // Commands that look are bound by the same list.
    let looked = cluster.reeve(["run", "web-1", "--inspect", "--", "cat", "/etc/shadow"]);
    assert_ne!(looked.code, 0, "{looked:?}");
}

#[test]
fn machine_that_lets_files_be_read_only_changes_none() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy("[allow]\nfiles = \"read\"\n").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = remote(&folder.path().join("file"));
    fs::write(folder.path().join("file"), "x").expect("written");
    let _: FileEntry = ask(&cluster, stat(&path));
    assert!(lines::<FileVersion>(&cluster, FileHistory::new(path.clone())).is_empty());
    assert_eq!(code(&cluster, FileRemove::new(path.clone())), "policy_files");
    assert_eq!(code(&cluster, FileMkdir::new(path.join(b"x"))), "policy_files");
    assert_eq!(code(&cluster, FileRestore::new(path.clone(), 1)), "policy_files");
    let mode = FileMode { add: 0o111, ..FileMode::new(path) };
    assert_eq!(code(&cluster, mode), "policy_files");
    let left = fs::metadata(folder.path().join("file")).expect("there");
    assert_eq!(left.permissions().mode() & 0o111, 0);
}
