//! Bad luck: no rights, no space, very much, and somebody who works against us.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::{MsFlags, mount};
use reeve_protocol::ops::{
    FileHistory, FileList, FileListLine, FileMkdir, FileMode, FileMove, FileRemove, FileRemoved,
    FileRestore, FileVersion,
};

use super::{Machine, mode, moved, removed, stat};
use crate::host::paths::Rules;

/// The rights of a user who owns nothing, for one thread.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::unistd::setfsgid(nix::unistd::Gid::from_raw(65_534));
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            work()
        });
        thread.join().expect("it ran")
    })
}

#[test]
fn what_the_agents_user_may_not_do_is_said_so() {
    let machine = Machine::new();
    let open = |name: &str, mode| {
        fs::set_permissions(machine.at(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    open("", 0o755);
    open("in/sub", 0o700);
    fs::write(machine.at("in/secret"), "x").expect("written");
    open("in/secret", 0o600);
    let before = machine.picture();
    let path = |name: &str| machine.path(name);
    let codes = as_nobody(|| {
        [
            machine.code(stat(path("in/secret"))),
            machine.code(stat(path("in/sub/inner"))),
            machine.code(FileList::new(path("in/sub"))),
            machine.code(FileMkdir::new(path("in/new"))),
            machine.code(FileRemove { no_version: true, ..FileRemove::new(path("in/file")) }),
            machine.code(FileRemove { no_version: true, ..removed(path("in/sub")) }),
            machine.code(FileMove::new(path("in/file"), path("in/new"))),
            machine.code(FileMode { recursive: false, ..mode(path("in/file")) }),
        ]
    });
    assert_eq!(codes, [const { "not_permitted" }; 8]);
    // A version that cannot be kept keeps the file.
    let code = as_nobody(|| machine.code(FileRemove::new(path("in/file"))));
    assert_eq!(code, "version_not_kept");
    assert_eq!(machine.picture(), before);
}

/// A small file system at a path, in a view of the files that ends with the thread.
fn with_small_disk(point: &Path, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
                .expect("run the tests as root");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            let size = Some("size=256k");
            mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::empty(), size).expect("mounted");
            work();
        });
        thread.join().expect("it ran");
    });
}

#[test]
fn full_disk_leaves_everything_as_it_was() {
    let machine = Machine::new();
    fs::write(machine.at("in/file"), vec![7; 512 * 1024]).expect("written");
    let _: FileRemoved = machine.perform(FileRemove::new(machine.path("in/file")));
    let id = machine.history("in/file")[0].id;
    // Back to where there is no space.
    with_small_disk(&machine.at("in"), || {
        fs::write(machine.at("in/file"), "new").expect("written");
        let before = machine.picture();
        assert_eq!(machine.code(FileRestore::new(machine.path("in/file"), id)), "disk_full");
        assert_eq!(machine.picture(), before);
        // Another file system is no place to move to.
        fs::write(machine.at("in/here"), "x").expect("written");
        let there = tempfile::tempdir_in(machine.at("in")).expect("a folder");
        let none: Option<&str> = None;
        mount(Some("tmpfs"), there.path(), Some("tmpfs"), MsFlags::empty(), none).expect("mounted");
        let to = Rules::to_remote(there.path()).join(b"there");
        assert_eq!(machine.code(FileMove::new(machine.path("in/here"), to)), "other_file_system");
        let point = Rules::to_remote(there.path());
        assert_eq!(machine.code(removed(point)), "mount_point");
        // A list that stays on its file system shows where another one begins, and no more.
        fs::write(there.path().join("inner"), "x").expect("written");
        for (one_file_system, count) in [(true, 3), (false, 4)] {
            let list = FileList { depth: 3, one_file_system, ..FileList::new(machine.path("in")) };
            assert_eq!(machine.lines::<FileListLine>(list).len(), count, "{one_file_system}");
        }
        nix::mount::umount(there.path()).expect("unmounted");
    });
    // No space for the version.
    fs::write(machine.at("in/file"), vec![8; 512 * 1024]).expect("written");
    let before = machine.picture();
    with_small_disk(&machine.state, || {
        let remove = FileRemove::new(machine.path("in/file"));
        assert_eq!(machine.code(remove.clone()), "version_not_kept");
        assert_eq!(machine.code(removed(machine.path("in/sub"))), "version_not_kept");
        assert_eq!(machine.picture(), before);
        assert_eq!(machine.code(FileRemove { no_version: true, ..remove }), "");
    });
}

#[test]
fn ten_thousand_files_go_with_a_version_each() {
    // In memory: how long a disk takes to write what others have for it says nothing.
    let machine = Machine::within(tempfile::tempdir_in("/dev/shm").expect("a folder"));
    for number in 0..10_000 {
        fs::write(machine.at(&format!("in/sub/{number}")), format!("{number}")).expect("written");
    }
    let gone: FileRemoved = machine.perform(removed(machine.path("in/sub")));
    assert_eq!((gone.files, gone.folders, gone.versions), (10_001, 1, 10_001));
    assert!(!machine.at("in/sub").exists());
    let all = FileHistory { beneath: true, ..FileHistory::new(machine.path("in/sub")) };
    assert_eq!(machine.lines::<FileVersion>(all).len(), 10_001);
}

/// Tells the other thread to end, whatever becomes of this one.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody swaps folders for links to what is outside while they are worked on.
#[test]
fn swapped_links_never_lead_a_change_outside() {
    let machine = Machine::new();
    symlink(machine.at("out"), machine.at("in/link")).expect("linked");
    fs::set_permissions(machine.at("out/other"), fs::Permissions::from_mode(0o644)).expect("set");
    let inode = || fs::symlink_metadata(machine.at("out/other")).expect("there").ino();
    let before = inode();
    let over = AtomicBool::new(false);
    let mut changed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (sub, link) = (machine.at("in/sub"), machine.at("in/link"));
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !over.load(Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                // It may be gone for a moment, when it was moved or removed.
                let _ = rustix::fs::renameat_with(cwd, &sub, cwd, &link, exchange);
            }
        });
        let _ends = Ends(&over);
        for round in 0..200 {
            let path = |name: &str| machine.path(name);
            let inner = machine.at("in/sub/other");
            let _ = fs::create_dir(machine.at("in/sub"));
            let _ = (round % 4 == 0).then(|| fs::write(&inner, "inside"));
            let codes = [
                machine.code(mode(path("in/sub/other"))),
                machine.code(FileMode { recursive: true, ..mode(path("in/sub")) }),
                machine.code(moved(path("in/file"), path("in/sub/other"))),
                machine.code(moved(path("in/sub/other"), path("in/file"))),
                machine
                    .code(FileRemove { no_version: true, ..FileRemove::new(path("in/sub/other")) }),
                machine.code(FileMkdir::new(path("in/sub/new"))),
                machine.code(FileRemove { no_version: true, ..removed(path("in/sub/new")) }),
            ];
            changed += codes.iter().filter(|code| code.is_empty()).count();
            let _ = fs::write(machine.at("in/file"), "inside");
        }
    });
    assert!(changed > 0);
    let outside: Vec<_> = fs::read_dir(machine.at("out")).expect("read").flatten().collect();
    assert_eq!((outside.len(), inode()), (1, before), "{outside:?}");
    assert_eq!(fs::symlink_metadata(machine.at("out/other")).expect("there").mode() & 0o777, 0o644);
    let drafts = fs::read_dir(machine.at("in")).expect("read").flatten();
    let left = drafts.filter(|entry| entry.file_name().as_bytes().starts_with(b".reeve")).count();
    assert_eq!(left, 0);
}
