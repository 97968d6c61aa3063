//! Copies that meet bad luck: who may not, what is no file, and somebody who works against them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use reeve_tests::{Cluster, Finished, require_root};

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("reeve-luck-").tempdir().expect("a folder")
}

fn at(machine: &str, path: &Path) -> String {
    format!("{machine}:{}", path.display())
}

fn cp(cluster: &Cluster, words: &[&str]) -> Finished {
    cluster.reeve([&["cp"][..], words].concat())
}

/// Everything below a folder that has no name of its own yet.
fn temporary(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        if entry.file_name().to_string_lossy().starts_with(".reeve-") {
            found.push(entry.path());
        }
        if entry.file_type().expect("a type").is_dir() {
            found.extend(temporary(&entry.path()));
        }
    }
    found
}

/// One line of failure, nothing done.
#[track_caller]
fn expect_refusal(run: &Finished, code: i32, says: &str) {
    run.expect_code(code).expect_says(says).expect_stdout("");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
}

/// Tells the other thread to end, whatever becomes of this one.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two names change hands as fast as they can, until it is over. Their number.
fn swap(one: &Path, other: &Path, over: &AtomicBool) -> u64 {
    let mut swaps = 0;
    while !over.load(Ordering::Relaxed) {
        // One may be away for a moment.
        let done = renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE);
        swaps += u64::from(done.is_ok());
    }
    swaps
}

#[test]
fn links_that_are_swapped_under_a_copy_lead_nothing_out_of_the_policy() {
    let cluster = Cluster::start();
    let folder = folder();
    let at_ = |name: &str| folder.path().join(name);
    for name in ["in", "in/sub", "out"] {
        fs::create_dir(at_(name)).expect("a folder");
    }
    fs::write(at_("out/file"), "outside").expect("a file");
    fs::write(at_("in/file"), "inside").expect("a file");
    symlink(at_("out"), at_("in/way")).expect("a link");
    symlink(at_("out/file"), at_("in/link")).expect("a link");
    let policy = format!("[paths]\nallowed = [{:?}]\n", at_("in").display());
    let _web = cluster.agent("web-1").policy(&policy).start();
    let tree = at_("tree");
    fs::create_dir(&tree).expect("a folder");
    for number in 0..40 {
        fs::write(tree.join(format!("{number:02}")), "from a tree").expect("a file");
    }
    fs::create_dir(tree.join("deep")).expect("a folder");
    fs::write(tree.join("deep/file"), "from a tree").expect("a file");
    let new = at_("new");
    fs::write(&new, "new").expect("a file");
    let (inode, over) =
        (fs::metadata(at_("out/file")).expect("there").ino(), AtomicBool::new(false));
    let (mut done, mut refused) = (0, 0);
    let swaps = std::thread::scope(|scope| {
        let folders = scope.spawn(|| swap(&at_("in/sub"), &at_("in/way"), &over));
        let files = scope.spawn(|| swap(&at_("in/file"), &at_("in/link"), &over));
        let ends = Ends(&over);
        let near = new.display().to_string();
        let slash = format!("{}/", tree.display());
        let far = |name: &str| at("web-1", &at_(name));
        for _ in 0..12 {
            for words in [
                vec![near.clone(), far("in/sub/file")],
                vec![near.clone(), far("in/file")],
                vec!["--links".into(), "follow".into(), near.clone(), far("in/file")],
                vec!["--links".into(), "replace".into(), near.clone(), far("in/sub/file")],
                vec!["--parents".into(), near.clone(), far("in/sub/a/b/file")],
                vec!["-r".into(), slash.clone(), far("in/sub")],
            ] {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let run = cp(&cluster, &words);
                assert!([0, 1].contains(&run.code), "{run}");
                if run.code == 0 { done += 1 } else { refused += 1 }
            }
        }
        drop(ends);
        [folders.join().expect("it ran"), files.join().expect("it ran")]
    });
    let outside: Vec<_> = fs::read_dir(at_("out")).expect("read").flatten().collect();
    assert_eq!(outside.len(), 1, "{outside:?}");
    assert_eq!(fs::read(at_("out/file")).expect("there"), b"outside");
    assert_eq!(fs::metadata(at_("out/file")).expect("there").ino(), inode);
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused: nothing was shown");
    assert!(swaps.iter().all(|count| *count > 1000), "{swaps:?}: nobody worked against it");
    assert_eq!(temporary(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn owners_are_as_asked_for_or_nothing_is_written() {
    require_root("only root may give files away");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let (near, far) = (folder.path().join("near"), folder.path().join("far"));
    fs::write(&near, "content").expect("a file");
    fs::set_permissions(&near, fs::Permissions::from_mode(0o4750)).expect("a mode");
    chown(&near, Some(12345), Some(23456)).expect("given away");
    fs::set_permissions(&near, fs::Permissions::from_mode(0o4750)).expect("a mode");
    let (from, to) = (near.display().to_string(), at("web-1", &far));
    let about = || {
        let about = fs::metadata(&far).expect("there");
        (about.uid(), about.gid(), about.mode() & 0o7777)
    };
    cp(&cluster, &[&from, &to]).expect_code(0);
    assert_eq!(about(), (0, 0, 0o750), "whose it was says nothing, unless asked for");
    fs::remove_file(&far).expect("removed");
    cp(&cluster, &["-p", &from, &to]).expect_code(0);
    assert_eq!(about(), (12345, 23456, 0o4750));
    cp(&cluster, &["--owner", "nobody:4711", &from, &to]).expect_code(0);
    // It keeps the mode of what it takes the place of, but for what went with its owner.
    let (uid, gid, _) = about();
    assert_eq!((uid, gid), (65534, 4711));
    cp(&cluster, &["--owner", "4712", "--mode", "600", &from, &to]).expect_code(0);
    assert_eq!(about(), (4712, 4711, 0o600));
    fs::write(&near, "other").expect("a file");
    for owner in ["no-such-user", "root:no-such-group", ":no-such-group"] {
        let run = cp(&cluster, &["--owner", owner, &from, &to]);
        expect_refusal(&run, 1, owner.rsplit(':').next().expect("a name"));
        assert_eq!(fs::read(&far).expect("there"), b"content");
        assert_eq!(temporary(folder.path()), Vec::<PathBuf>::new());
    }
    let down = cp(&cluster, &["--owner", "root", &to, &from]);
    expect_refusal(&down, 2, "--owner is for what goes to machines");
    assert_eq!(fs::read(&near).expect("there"), b"other");
}

#[test]
fn agent_of_an_ordinary_user_does_what_that_user_may() {
    let cluster = Cluster::start();
    let user = 65_534;
    let _web = cluster.agent("web-1").user(user).start();
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let mode = |name: &str, mode| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    for name in ["theirs", "closed"] {
        fs::create_dir(path(name)).expect("a folder");
    }
    chown(path("theirs"), Some(user), Some(user)).expect("given away");
    fs::write(path("near"), "content").expect("a file");
    for name in ["theirs/roots", "secret", "closed/inner"] {
        fs::write(path(name), "before").expect("a file");
    }
    mode("secret", 0o600);
    mode("closed", 0o700);
    mode("near", 0o4755);
    let near = path("near").display().to_string();
    let far = |name: &str| at("web-1", &path(name));
    let out = path("out").display().to_string();
    for words in [
        vec![far("secret"), out.clone()],
        vec![far("closed/inner"), out.clone()],
        vec![near.clone(), far("new")],
        vec![near.clone(), far("secret")],
        vec![near.clone(), far("closed/inner")],
        vec!["--owner".into(), "root".into(), near.clone(), far("theirs/given")],
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        expect_refusal(&cp(&cluster, &words), 1, "ermi");
    }
    assert_eq!(fs::read(path("secret")).expect("there"), b"before");
    assert!(!path("new").exists() && !path("out").exists() && !path("theirs/given").exists());
    // What is theirs is theirs, also where a file of somebody else is in the way.
    cp(&cluster, &["-p", &near, &far("theirs/new")]).expect_code(0);
    let about = fs::metadata(path("theirs/new")).expect("there");
    assert_eq!((about.uid(), about.mode() & 0o7777), (user, 0o755), "not as root's");
    cp(&cluster, &[&near, &far("theirs/roots")]).expect_code(0);
    assert_eq!(fs::read(path("theirs/roots")).expect("there"), b"content");
    // In a folder with everything in it, what may not be read is left out and named.
    mode("closed", 0o755);
    mode("closed/inner", 0o600);
    fs::write(path("closed/open"), "open").expect("a file");
    let run = cp(&cluster, &["-r", &far("closed"), &out]);
    run.expect_code(1).expect_says("inner").expect_says("1 left out");
    assert_eq!(fs::read(path("out/open")).expect("there"), b"open");
    assert!(!path("out/inner").exists());
    assert_eq!(temporary(folder.path()), Vec::<PathBuf>::new());
    for verb in ["cat", "rm"] {
        let run = cluster.reeve(["files", verb, &far("secret")]);
        expect_refusal(&run, 1, "ermi");
    }
    assert!(path("secret").exists());
}

#[test]
fn what_is_no_file_is_neither_read_nor_replaced_on_either_side() {
    require_root("only root may make devices");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let all = Mode::from_bits_truncate(0o666);
    nix::unistd::mkfifo(&path("fifo"), all).expect("a FIFO");
    let _socket = UnixListener::bind(path("socket")).expect("a socket");
    mknod(&path("null"), SFlag::S_IFCHR, all, makedev(1, 3)).expect("a device");
    mknod(&path("disk"), SFlag::S_IFBLK, all, makedev(7, 250)).expect("a device");
    fs::write(path("file"), "content").expect("a file");
    fs::write(path("kept"), "kept").expect("a file");
    symlink(path("kept"), path("link")).expect("a link");
    fs::create_dir(path("folder")).expect("a folder");
    let here = |name: &str| path(name).display().to_string();
    let far = |name: &str| at("web-1", &path(name));
    let kinds = || {
        ["fifo", "socket", "null", "disk", "link"]
            .map(|name| fs::symlink_metadata(path(name)).expect("there").ino())
    };
    let before = kinds();
    for (name, kind) in
        [("fifo", "FIFO"), ("socket", "socket"), ("null", "device"), ("disk", "device")]
    {
        // Nobody writes to the FIFO and nobody accepts on the socket: whoever opened one would wait.
        expect_refusal(&cp(&cluster, &[&far(name), &here("out")]), 1, kind);
        expect_refusal(&cp(&cluster, &[&here(name), &far("out")]), 255, "neither a file nor");
        expect_refusal(&cp(&cluster, &[&here("file"), &far(name)]), 1, kind);
        expect_refusal(&cp(&cluster, &[&far("file"), &here(name)]), 255, "neither a file nor");
        let cat = cluster.reeve(["files", "cat", &far(name)]);
        expect_refusal(&cat, 1, kind);
        let stat = cluster.reeve(["files", "stat", "--hash", &far(name)]);
        assert!([0, 1].contains(&stat.code), "{stat}");
    }
    expect_refusal(&cp(&cluster, &[&far("file"), &here("link")]), 255, "symbolic link");
    assert_eq!(kinds(), before);
    assert!(!path("out").exists());
    assert_eq!(fs::read(path("kept")).expect("there"), b"kept");
    cp(&cluster, &["--links", "follow", &far("file"), &here("link")]).expect_code(0);
    assert_eq!(fs::read(path("kept")).expect("there"), b"content");
    assert_eq!(kinds(), before);
    cp(&cluster, &["--links", "replace", &far("file"), &here("link")]).expect_code(0);
    assert!(path("link").is_file() && !path("link").is_symlink());
    // In a folder they are left out by name, also where one is in the way of a file.
    fs::create_dir(path("from")).expect("a folder");
    for name in ["a", "b"] {
        fs::write(path("from").join(name), "content").expect("a file");
    }
    nix::unistd::mkfifo(&path("from/pipe"), all).expect("a FIFO");
    for (target, up) in [("up", true), ("down", false)] {
        fs::create_dir(path(target)).expect("a folder");
        nix::unistd::mkfifo(&path(target).join("a"), all).expect("a FIFO");
        let (slash, whole) = (format!("{}/", here("from")), here(target));
        let run = if up {
            cp(&cluster, &["-r", &slash, &format!("web-1:{whole}")])
        } else {
            cp(&cluster, &["-r", &format!("web-1:{slash}"), &whole])
        };
        run.expect_code(1).expect_says("2 left out").expect_says("pipe").expect_says("a is a");
        assert_eq!(fs::read(path(target).join("b")).expect("there"), b"content");
        assert!(!fs::symlink_metadata(path(target).join("a")).expect("there").is_file());
    }
    assert_eq!(temporary(folder.path()), Vec::<PathBuf>::new());
}
