//! Folders with everything in them, up and down, and what is refused on the way.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_tests::{Cluster, Finished, eventually, require_root};

/// Everything in a folder: path, kind and mode, time, content or target.
fn listing(root: &Path) -> Vec<(Vec<u8>, u32, i64, Vec<u8>)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(Vec<u8>, u32, i64, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let about = std::fs::symlink_metadata(&path).expect("there");
            let inner = path.strip_prefix(root).expect("inside").as_os_str().as_bytes().to_vec();
            let content = if about.is_symlink() {
                std::fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec()
            } else if about.is_file() {
                std::fs::read(&path).expect("a file")
            } else {
                Vec::new()
            };
            // A link's time cannot be set everywhere.
            let time = if about.is_symlink() { 0 } else { about.mtime() };
            found.push((inner, about.mode(), time, content));
            if about.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// Names and contents alone.
fn listing_of_files(root: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    listing(root).into_iter().map(|(name, _, _, content)| (name, content)).collect()
}

fn make_odd_tree(root: &Path) {
    let write = |name: &[u8], content: &[u8]| {
        std::fs::write(root.join(OsStr::from_bytes(name)), content).expect("a file");
    };
    std::fs::create_dir_all(root.join("inner/deeper")).expect("folders");
    write(b"plain", b"text");
    write(b"new\nline", b"1");
    write(b"-rf", b"2");
    write(b"quo\"te'", b"3");
    write(b"invalid\xff\xfe", b"4");
    write(b"inner/empty", b"");
    write(b"inner/deeper/last", &b"compressible ".repeat(100_000));
    symlink("../plain", root.join("inner/link")).expect("a link");
    symlink("nowhere", root.join("dangling")).expect("a link");
    let mode = |name: &str, mode: u32| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(root.join(name), permissions).expect("a mode");
    };
    mode("plain", 0o640);
    mode("-rf", 0o755);
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["plain", "inner/deeper/last", "inner"] {
        let file = std::fs::File::open(root.join(name)).expect("there");
        file.set_times(std::fs::FileTimes::new().set_modified(old)).expect("a time");
    }
    mode("inner/deeper", 0o555);
}

fn at(machine: &str, path: &Path) -> String {
    format!("{machine}:{}", path.display())
}

fn cp(cluster: &Cluster, words: &[&str]) -> Finished {
    cluster.reeve([&["cp"][..], words].concat())
}

fn leftovers(folder: &Path) -> Vec<Vec<u8>> {
    listing(folder)
        .into_iter()
        .map(|entry| entry.0)
        .filter(|name| name.windows(7).any(|part| part == b".reeve-"))
        .collect()
}

#[test]
fn folders_arrive_as_they_were_with_odd_names_modes_times_and_links() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let (source, far, back) =
        (folder.path().join("source"), folder.path().join("far"), folder.path().join("back"));
    make_odd_tree(&source);
    let text = source.display().to_string();
    cp(&cluster, &["-r", "-p", &text, &at("web-1", &far)]).expect_code(0);
    assert_eq!(listing(&far), listing(&source));
    cp(&cluster, &["-r", "-p", &at("web-1", &far), &back.display().to_string()]).expect_code(0);
    assert_eq!(listing(&back), listing(&source));
    // Into a folder that is there, under its name; with a slash behind it, what is in it.
    cp(&cluster, &["-r", &text, &at("web-1", &far)]).expect_code(0);
    assert!(far.join("source/inner/link").is_symlink());
    let with_slash = format!("{text}/");
    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    cp(&cluster, &["-r", &with_slash, &at("web-1", &other)]).expect_code(0);
    assert!(other.join("plain").is_file() && !other.join("source").exists());
    assert_eq!(leftovers(folder.path()), Vec::<Vec<u8>>::new());
    cp(&cluster, &[&text, &at("web-1", &other)]).expect_code(2).expect_says("-r");
    cp(&cluster, &[&at("web-1", &far), &text]).expect_says("is a directory");
}

#[test]
fn ten_thousand_small_files_arrive_both_ways() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    for number in 0..10_000 {
        let inner = source.join(format!("{}", number % 100));
        std::fs::create_dir_all(&inner).expect("a folder");
        std::fs::write(inner.join(format!("{number}")), format!("file {number}")).expect("a file");
    }
    let (far, back) = (folder.path().join("far"), folder.path().join("back"));
    cp(&cluster, &["-rp", &source.display().to_string(), &at("web-1", &far)]).expect_code(0);
    cp(&cluster, &["-rp", &at("web-1", &far), &back.display().to_string()]).expect_code(0);
    assert!(listing(&back) == listing(&source));
    assert!(listing(&far) == listing(&source));
}

#[test]
fn folder_whose_copy_was_killed_goes_on_behind_what_came() {
    let cluster = Cluster::start();
    let proxy = reeve_tests::proxy::Proxy::to(cluster.coordinator.address());
    proxy.throttle(Some(8 * 1024 * 1024));
    let _web = cluster.agent("web-1").dials(&proxy.url()).start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    std::fs::create_dir(&source).expect("a folder");
    let mut bytes = vec![0; 512 * 1024];
    for number in 0..64 {
        rand::fill(&mut bytes[..]);
        std::fs::write(source.join(format!("{number:02}")), &bytes).expect("a file");
    }
    for up in [true, false] {
        let near = source.display().to_string();
        let (from, to) = if up {
            (near, at("web-1", &folder.path().join("far")))
        } else {
            (at("web-1", &source), folder.path().join("back").display().to_string())
        };
        let target = folder.path().join(if up { "far" } else { "back" });
        let words = ["cp", "-r", "-o", "json", &from, &to];
        let run = cluster.spawn_reeve(words);
        eventually("some files have come", Duration::from_secs(60), || target.join("20").exists());
        assert!(!target.join("63").exists(), "the kill comes too late");
        run.signal(Signal::SIGKILL);
        run.finish();
        let run = cluster.reeve(words);
        run.expect_code(0);
        let summary: serde_json::Value = run.json();
        let sent = summary["copied"][0]["sent"].as_u64().expect("a number");
        assert!(listing_of_files(&target) == listing_of_files(&source));
        assert!(sent < 64 * 512 * 1024, "{sent}: everything was sent again");
    }
}

#[test]
fn links_that_lead_out_are_left_out_and_nothing_is_written_through_links() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let source = folder.path().join("source");
    std::fs::create_dir(&source).expect("a folder");
    symlink("/etc/passwd", source.join("absolute")).expect("a link");
    symlink("../../elsewhere", source.join("up")).expect("a link");
    std::fs::write(source.join("file"), b"file").expect("a file");
    let near = folder.path().join("near");
    let run = cp(&cluster, &["-r", &at("web-1", &source), &near.display().to_string()]);
    run.expect_code(1).expect_says("absolute").expect_says("leads out");
    assert!(near.join("file").is_file() && !near.join("absolute").is_symlink());

    // A link that is here where a folder comes: what it leads to stays as it is.
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    std::fs::create_dir(source.join("folder")).expect("a folder");
    std::fs::write(source.join("folder/inner"), b"inner").expect("a file");
    for (target, machine) in [(folder.path().join("a"), None), (folder.path().join("b"), Some(()))]
    {
        std::fs::create_dir(&target).expect("a folder");
        symlink(&outside, target.join("folder")).expect("a link");
        let slash = format!("{}/", source.display());
        let run = match machine {
            None => cp(&cluster, &["-r", &format!("web-1:{slash}"), &target.display().to_string()]),
            Some(()) => cp(&cluster, &["-r", &slash, &at("web-1", &target)]),
        };
        assert_ne!(run.code, 0, "{run}");
        assert_eq!(listing(&outside), Vec::new(), "{run}");
    }
}

#[test]
fn what_cannot_be_copied_is_told_in_one_line_and_nothing_is_touched() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy("[paths]\nblocked = [\"/blocked\"]\n").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"content").expect("a file");
    let near = file.display().to_string();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let kept = folder.path().join("kept");
    std::fs::write(&kept, b"kept").expect("a file");
    let link = folder.path().join("link");
    symlink(&kept, &link).expect("a link");
    let far = |path: &Path| at("web-1", path);
    let missing = folder.path().join("no/such");
    let out = folder.path().join("out").display().to_string();
    let hash = "0".repeat(64);
    for (words, says) in [
        (vec![far(&fifo), out.clone()], "FIFO"),
        (vec![far(Path::new("/dev/null")), out.clone()], "device"),
        (vec![far(Path::new("/no/such")), out.clone()], "not there"),
        (vec![near.clone(), far(&fifo)], "FIFO"),
        (vec![near.clone(), far(&missing)], "not there"),
        (vec![near.clone(), far(&link)], "symbolic link"),
        (vec![near.clone(), format!("{}/", far(&kept))], "no directory"),
        (vec!["--if-match".to_owned(), hash, near.clone(), far(&kept)], "changed"),
        (vec![near.clone(), "web-1:/blocked/x".to_owned()], "policy"),
        (vec![near.clone(), out.clone()], "neither side is a machine"),
        (vec!["--owner".to_owned(), "no-such-user".to_owned(), near, far(&kept)], "no-such-user"),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let run = cp(&cluster, &words);
        assert_ne!(run.code, 0, "{run}");
        run.expect_says(says);
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
    }
    assert_eq!(std::fs::read(&kept).expect("the file"), b"kept");
    assert!(link.is_symlink());
    assert_eq!(leftovers(folder.path()), Vec::<Vec<u8>>::new());
    cp(&cluster, &["--links", "follow", &file.display().to_string(), &far(&link)]).expect_code(0);
    assert_eq!(std::fs::read(&kept).expect("the file"), b"content");
    assert!(link.is_symlink());
}

#[test]
fn sparse_files_stay_sparse_and_pipes_work_both_ways() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let sparse = folder.path().join("sparse");
    let file = std::fs::File::create(&sparse).expect("a file");
    file.set_len(64 * 1024 * 1024).expect("a length");
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 30_000_000).expect("bytes");
    let (far, back) = (folder.path().join("far"), folder.path().join("back"));
    cp(&cluster, &[&sparse.display().to_string(), &at("web-1", &far)]).expect_code(0);
    cp(&cluster, &[&at("web-1", &far), &back.display().to_string()]).expect_code(0);
    for path in [&far, &back] {
        let about = std::fs::metadata(path).expect("there");
        assert_eq!(about.len(), 64 * 1024 * 1024);
        assert!(about.blocks() * 512 < 1024 * 1024, "{} blocks", about.blocks());
        assert!(std::fs::read(path).expect("read") == std::fs::read(&sparse).expect("read"));
    }
    let piped = at("web-1", &folder.path().join("piped"));
    cluster.reeve_with_input(["cp", "-", &piped], b"from a pipe".to_vec()).expect_code(0);
    cp(&cluster, &[&piped, "-"]).expect_code(0).expect_stdout("from a pipe");
}

#[test]
fn dry_run_says_what_would_be_done_and_does_nothing() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let (near, far) = (folder.path().join("near"), folder.path().join("far"));
    for (root, content) in [(&near, "new"), (&far, "old")] {
        std::fs::create_dir(root).expect("a folder");
        std::fs::write(root.join("same"), "same").expect("a file");
        std::fs::write(root.join("other"), content).expect("a file");
    }
    std::fs::write(near.join("fresh"), "fresh").expect("a file");
    let before = listing(&far);
    let slash = format!("{}/", near.display());
    let run = cp(&cluster, &["-r", "--dry-run", &slash, &at("web-1", &far)]);
    run.expect_code(0).expect_says("same: is the same already");
    run.expect_says("other: would be overwritten").expect_says("fresh: would be new");
    assert_eq!(listing(&far), before);
    let file = near.join("fresh").display().to_string();
    cp(&cluster, &["--dry-run", &file, &at("web-1", &far)]).expect_says("would be new");
    assert_eq!(listing(&far), before);
}

#[test]
fn full_disk_is_told_before_and_leaves_nothing() {
    require_root("to mount a small file system");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let small = folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
        .arg(&small)
        .status();
    assert!(mounted.expect("mount").success());
    let big = folder.path().join("big");
    std::fs::write(&big, vec![7; 32 * 1024 * 1024]).expect("a file");
    std::fs::write(small.join("big"), b"before").expect("a file");
    let run = cp(&cluster, &[&big.display().to_string(), &at("web-1", &small)]);
    // Of a pipe nobody knows how long it is: that it is full is met on the way.
    let target = at("web-1", &small.join("big"));
    let piped = cluster.reeve_with_input(["cp", "-", &target], vec![7; 32 * 1024 * 1024]);
    let (kept, left) = (std::fs::read(small.join("big")), leftovers(&small));
    let unmounted = std::process::Command::new("umount").arg(&small).status();
    assert!(unmounted.expect("umount").success());
    run.expect_code(1).expect_says("free");
    piped.expect_code(1).expect_says("no space");
    assert_eq!(kept.expect("the file"), b"before");
    assert_eq!(left, Vec::<Vec<u8>>::new());
}

#[test]
fn file_goes_to_many_machines_and_comes_from_each() {
    let cluster = Cluster::start();
    let _machines: Vec<_> = ["web-1", "web-2"]
        .map(|name| cluster.agent(name).label("role", "web").start())
        .into_iter()
        .collect();
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"for all").expect("a file");
    let far = folder.path().join("far");
    let target = format!("role=web:{}", far.display());
    cp(&cluster, &[&file.display().to_string(), &target]).expect_code(0).expect_says("2 of 2");
    assert_eq!(std::fs::read(&far).expect("there"), b"for all");
    let near = folder.path().join("near");
    std::fs::create_dir(&near).expect("a folder");
    cp(&cluster, &[&target, &near.display().to_string()]).expect_code(0);
    for name in ["web-1", "web-2"] {
        assert_eq!(std::fs::read(near.join(name).join("far")).expect("there"), b"for all");
    }
}

#[test]
fn machine_to_machine_goes_past_this_side_and_goes_on_after_a_kill() {
    let cluster = Cluster::start();
    let proxy = reeve_tests::proxy::Proxy::to(cluster.coordinator.address());
    proxy.throttle(Some(24 * 1024 * 1024));
    let _web = cluster.agent("web-1").start();
    let db = cluster.agent("db-1").dials(&proxy.url()).start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let mut bytes = vec![0; 48 * 1024 * 1024];
    rand::fill(&mut bytes[..]);
    std::fs::write(&from, &bytes).expect("a file");
    let words = ["cp".to_owned(), at("web-1", &from), at("db-1", &to)];
    let run = cluster.spawn_reeve(&words);
    let partial = || {
        let entries = std::fs::read_dir(folder.path()).expect("a folder");
        let mut found = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().as_bytes().starts_with(b".reeve-copy-"));
        found.next().map_or(0, |entry| entry.metadata().map_or(0, |about| about.len()))
    };
    eventually("a part has come", Duration::from_secs(60), || partial() > 8 * 1024 * 1024);
    assert!(!to.exists(), "the kill comes too late");
    db.keeper().signal(Signal::SIGKILL);
    run.finish().expect_code(0);
    assert!(std::fs::read(&to).expect("there") == bytes);
    let (tree, copy) = (folder.path().join("tree"), folder.path().join("copy"));
    make_odd_tree(&tree);
    cp(&cluster, &["-rp", &at("web-1", &tree), &at("db-1", &copy)]).expect_code(0);
    assert_eq!(listing(&copy), listing(&tree));
}
