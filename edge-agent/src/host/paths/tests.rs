//! What holds, tried by who wants to get round it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use reeve_protocol::OperationId;
use tempfile::TempDir;

use super::*;

/// A folder with `in` (allowed), `out` (not) and `in/blocked`.
struct Ground {
    folder: TempDir,
    rules: Rules,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path();
        for name in ["in", "in/deep", "in/blocked", "in/blocked/deep", "out", "state"] {
            fs::create_dir(base.join(name)).expect("made");
        }
        for name in ["in/file", "in/deep/file", "in/blocked/secret", "in/one-secret", "out/other"] {
            fs::write(base.join(name), name).expect("written");
        }
        let text = |name: &str| base.join(name).to_str().expect("text").to_owned();
        let blocked = [text("in/blocked"), text("in/one-secret"), text("in/to-come")];
        let rules = Rules::new(&[text("in")], &blocked, &base.join("state")).expect("rules");
        Self { folder, rules }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> RemotePath {
        RemotePath::new(self.at(name).as_os_str().as_bytes())
    }

    fn link(&self, target: &str, name: &str) {
        let target = target.strip_prefix('/').map_or_else(|| target.into(), |inner| self.at(inner));
        symlink(target, self.at(name)).expect("linked");
    }

    fn code(&self, name: &str) -> String {
        code_of(self.rules.find(&self.path(name), LastLink::Follow))
    }

    /// With the kernel's way and with ours.
    fn codes(&self, name: &str) -> String {
        let code = self.code(name);
        let rules = Rules { without_openat2: true, ..self.rules.clone() };
        let by_steps = code_of(rules.find(&self.path(name), LastLink::Follow));
        assert_eq!(code, by_steps, "{name}");
        code
    }
}

fn code_of<T>(result: Result<T, Failure>) -> String {
    result.err().map_or_else(String::new, |failure| failure.code)
}

#[test]
fn only_what_is_allowed_and_not_blocked_is_found_by_either_way() {
    let ground = Ground::new();
    ground.link("deep/file", "in/near");
    ground.link("/in/deep", "in/far");
    ground.link("../in/deep/../file", "in/about");
    ground.link("/out/other", "in/escape");
    ground.link("/out", "in/escape-folder");
    ground.link("../out", "in/escape-up");
    ground.link("/in/blocked/secret", "in/to-secret");
    ground.link("blocked", "in/to-blocked");
    ground.link("round", "in/round");
    ground.link("nowhere", "in/dangling");
    ground.link("/out/nowhere", "in/dangling-out");
    for name in ["in", "in/", "in/file", "in/near", "in/far/file", "in/about", "in//deep/./file"] {
        assert_eq!(ground.codes(name), "", "{name}");
    }
    for name in [
        "out",
        "out/other",
        "out/nothing-there",
        "in/escape",
        "in/escape-folder/other",
        "in/escape-folder/nothing-there",
        "in/escape-up/other",
        "in/dangling-out",
        "in/blocked",
        "in/blocked/",
        "in/blocked/secret",
        "in/blocked/nothing-there",
        "in/blocked/deep",
        "in/one-secret",
        "in/to-secret",
        "in/to-blocked/secret",
        "in/to-blocked/nothing-there",
        "in/to-come",
        "state",
    ] {
        assert_eq!(ground.codes(name), "policy_path", "{name}");
    }
    assert_eq!(ground.codes("in/nothing"), "not_found");
    assert_eq!(ground.codes("in/dangling"), "not_found");
    assert_eq!(ground.codes("in/round"), "link_loop");
    assert_eq!(ground.codes("in/file/x"), "not_a_directory");
    assert_eq!(ground.codes("in/file/"), "not_a_directory");
}

#[test]
fn links_of_the_kernels_own_are_not_followed() {
    let rules = Rules::new(&["/".to_owned()], &[], Path::new("/no/state")).expect("rules");
    for without_openat2 in [false, true] {
        let rules = Rules { without_openat2, ..rules.clone() };
        let find = |path: &str| rules.find(&RemotePath::from(path), LastLink::Follow);
        assert_eq!(code_of(find("/proc/self/root/etc/passwd")), "link_loop");
        assert_eq!(code_of(find("/proc/self/cwd")), "link_loop");
        assert_eq!(code_of(find("/proc/self/fd/0")), "link_loop");
        assert_eq!(code_of(find("/proc/self/status")), "");
        assert_eq!(code_of(find("/proc/mounts")), "");
    }
}

#[test]
fn other_names_of_what_is_blocked_are_blocked() {
    let ground = Ground::new();
    fs::hard_link(ground.at("in/one-secret"), ground.at("in/linked")).expect("linked");
    fs::hard_link(ground.at("in/blocked/secret"), ground.at("in/inner")).expect("linked");
    fs::hard_link(ground.at("in/file"), ground.at("in/harmless")).expect("linked");
    assert_eq!(ground.codes("in/linked"), "policy_path");
    assert_eq!(ground.codes("in/inner"), "policy_path");
    assert_eq!(ground.codes("in/harmless"), "");
    assert_eq!(
        code_of(ground.rules.find_spot(&ground.path("in/inner")).unwrap().look()),
        "policy_path"
    );
}

#[test]
fn bind_mounts_of_what_is_blocked_are_blocked() {
    use nix::mount::{MsFlags, mount};
    let ground = Ground::new();
    // In a view of its own, which ends with the thread.
    let tried = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("run the tests as root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        fs::create_dir(ground.at("in/bound")).expect("made");
        let bind = |from: &str| {
            let (from, to) = (ground.at(from), ground.at("in/bound"));
            mount(Some(&from), &to, none, MsFlags::MS_BIND, none).expect("bound");
        };
        // The whole, and a part of it whose own inode is in no list.
        bind("in/blocked");
        assert_eq!(ground.codes("in/bound/secret"), "policy_path");
        assert_eq!(ground.codes("in/bound"), "policy_path");
        bind("in/blocked/deep");
        assert_eq!(ground.codes("in/bound"), "policy_path");
        let walked = names(&ground, "in", WalkOptions::default());
        assert!(walked.contains(&"bound policy_path".to_owned()), "{walked:?}");
        assert!(!walked.iter().any(|name| name.starts_with("bound/")), "{walked:?}");
        bind("in/deep");
        assert_eq!(ground.codes("in/bound/file"), "");
        let walked = names(&ground, "in", WalkOptions::default());
        assert!(walked.contains(&"bound/file".to_owned()), "{walked:?}");
        assert_eq!(
            code_of(ground.rules.check_tree(&ground.at("in/bound"), &ground.path("in/bound"))),
            "mount_point"
        );
    });
    tried.join().expect("it ran");
}

#[test]
fn nothing_waits_for_a_pipe_or_a_device() {
    let ground = Ground::new();
    let pipe = ground.at("in/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let path = ground.path("in/pipe");
    let place = ground.rules.find(&path, LastLink::Keep).expect("found");
    assert_eq!(code_of(place.open_file(&path)), "not_a_file");
    let folder = ground.rules.find(&ground.path("in/deep"), LastLink::Keep).expect("found");
    assert_eq!(code_of(folder.open_file(&path)), "is_a_directory");
    let everywhere = Rules::new(&["/".to_owned()], &[], Path::new("/no/state")).expect("rules");
    let null = RemotePath::from("/dev/null");
    let device = everywhere.find(&null, LastLink::Keep).expect("found");
    assert_eq!(code_of(device.open_file(&null)), "not_a_file");
    assert_eq!(code_of(ground.rules.find_spot(&path).unwrap().open_own()), "not_a_file");
}

#[test]
fn names_are_taken_where_the_policy_lets_them() {
    let ground = Ground::new();
    ground.link("/out", "in/escape");
    let spot = |name: &str| ground.rules.find_spot(&ground.path(name));
    for name in ["out/new", "in/blocked/new", "in/to-come", "in/escape/new", "in/one-secret", "in"]
    {
        assert_eq!(code_of(spot(name)), "policy_path", "{name}");
    }
    assert_eq!(code_of(spot("in/file/new")), "not_a_directory");
    assert_eq!(code_of(spot("in/nothing/new")), "not_found");
    assert_eq!(code_of(ground.rules.find_spot(&RemotePath::from("/"))), "invalid");
    assert_eq!(code_of(ground.rules.find_spot(&RemotePath::from("//"))), "invalid");
    let made = spot("in/new/").expect("found").make_folder(0o2751).expect("made");
    assert_eq!(made.metadata().expect("there").permissions().mode() & 0o7777, 0o2751);
    assert_eq!(code_of(spot("in/new").expect("found").make_folder(0o755)), "exists");
    // What a link's name is given up for is the link, never what it leads to.
    let escape = spot("in/escape").expect("found");
    escape.remove_file().expect("removed");
    assert!(ground.at("out/other").exists() && !ground.at("in/escape").exists());
    let rules = ground.rules.clone().keeping(&ground.at("in/file"));
    assert_eq!(code_of(rules.find_spot(&ground.path("in/file"))), "policy_path");
    assert_eq!(code_of(rules.find(&ground.path("in/file"), LastLink::Keep)), "");
    // By a link too: neither it nor what it leads to.
    ground.link("deep/file", "in/policy");
    let rules = ground.rules.clone().keeping(&ground.at("in/policy"));
    for name in ["in/policy", "in/deep/file"] {
        assert_eq!(code_of(rules.find_spot(&ground.path(name))), "policy_path", "{name}");
    }
    assert_eq!(
        code_of(rules.check_tree(&ground.at("in/deep"), &ground.path("in/deep"))),
        "policy_path"
    );
    // Gone for good, and merely called so.
    fs::write(ground.at("in/x (deleted)"), "").expect("written");
    assert_eq!(ground.codes("in/x (deleted)"), "");
}

#[test]
fn whole_folders_with_something_protected_in_them_are_not_touched() {
    let ground = Ground::new();
    let code = |name: &str| code_of(ground.rules.check_tree(&ground.at(name), &ground.path(name)));
    assert_eq!(code("in/deep"), "");
    assert_eq!(code("in"), "policy_path");
    assert_eq!(code("in/blocked"), "policy_path");
    fs::create_dir_all(ground.at("in/home/.ssh")).expect("made");
    let base = ground.at("in");
    let base = base.to_str().expect("text").to_owned();
    let blocked = [format!("{base}/home/.ssh")];
    let rules = Rules::new(&[base], &blocked, Path::new("/no/state")).expect("rules");
    assert_eq!(
        code_of(rules.check_tree(&ground.at("in/home"), &ground.path("in/home"))),
        "policy_path"
    );
}

#[test]
fn draft_has_its_name_when_it_is_whole_and_leaves_nothing() {
    let ground = Ground::new();
    let count = || fs::read_dir(ground.at("in/deep")).expect("read").count();
    let spot = ground.rules.find_spot(&ground.path("in/deep/file")).expect("found");
    let operation = OperationId(uuid::Uuid::from_u128(7));
    for unnamed in [true, false] {
        let draft = || {
            let mut draft = spot.draft(operation).expect("made");
            if !unnamed {
                draft = Draft::named(&spot, operation).expect("made");
            }
            std::io::Write::write_all(&mut draft.file, b"new").expect("written");
            draft
        };
        drop(draft());
        assert_eq!(count(), 1, "{unnamed}");
        fs::write(ground.at("in/deep/file"), "old").expect("written");
        assert_eq!(code_of(draft().publish(&spot, Replace::Never)), "exists");
        assert_eq!(fs::read(ground.at("in/deep/file")).expect("read"), b"old");
        draft().publish(&spot, Replace::Allowed).expect("published");
        assert_eq!(fs::read(ground.at("in/deep/file")).expect("read"), b"new");
        assert_eq!(count(), 1, "{unnamed}");
        // A folder does not give up its name.
        let folder = ground.rules.find_spot(&ground.path("in/deep")).expect("found");
        let mut over = folder.draft(operation).expect("made");
        std::io::Write::write_all(&mut over.file, b"new").expect("written");
        assert_eq!(code_of(over.publish(&folder, Replace::Allowed)), "is_a_directory");
        assert_eq!(count(), 1);
    }
}

fn names(ground: &Ground, folder: &str, options: WalkOptions) -> Vec<String> {
    let path = ground.path(folder);
    let place = ground.rules.find(&path, LastLink::Follow).expect("found");
    let walk = ground.rules.walk(&place, &path, options).expect("walks");
    let name = |path: &RemotePath| {
        let bytes = path.as_bytes().get(ground.path(folder).as_bytes().len() + 1..);
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    };
    walk.map(|step| match step {
        Step::Found(visit) => name(&visit.path),
        Step::Left(visit) => format!("{} ends", name(&visit.path)),
        Step::Skipped(failure) => {
            format!("{} {}", name(&failure.path.expect("a path")), failure.code)
        }
    })
    .collect()
}

#[test]
fn walk_tells_everything_in_order_and_enters_nothing_blocked() {
    let ground = Ground::new();
    ground.link("/out", "in/escape");
    fs::write(ground.at("in/deep/.hidden"), "").expect("written");
    fs::write(ground.folder.path().join(OsStr::from_bytes(b"in/\xff\n")), "").expect("written");
    let all = names(&ground, "in", WalkOptions::default());
    let expected = [
        "blocked policy_path",
        "deep",
        "deep/.hidden",
        "deep/file",
        "deep ends",
        "escape",
        "file",
        "one-secret policy_path",
        "\u{fffd}\n",
    ];
    assert_eq!(all, expected);
    let flat = WalkOptions { depth: 1, skip_hidden: true, ..WalkOptions::default() };
    assert_eq!(names(&ground, "in/deep", flat), ["file"]);
    let first = WalkOptions { most_names: 1, ..WalkOptions::default() };
    assert_eq!(names(&ground, "in/deep", first), [" too_many", ".hidden"]);
}

#[test]
fn deep_and_wide_trees_take_few_descriptors() {
    let ground = Ground::new();
    for number in 0..10_000 {
        fs::write(ground.at(&format!("in/deep/{number:05}")), "").expect("written");
    }
    let mut folder = ground.at("in/down");
    for _ in 0..300 {
        folder.push("d");
    }
    fs::create_dir_all(&folder).expect("made");
    let open = || fs::read_dir("/proc/self/fd").expect("read").count();
    let before = open();
    let path = ground.path("in");
    let place = ground.rules.find(&path, LastLink::Follow).expect("found");
    let (mut most, mut found, mut too_deep) = (0, 0, 0);
    for step in ground.rules.walk(&place, &path, WalkOptions::default()).expect("walks") {
        match step {
            Step::Found(_) => found += 1,
            Step::Skipped(failure) if failure.code == "too_deep" => too_deep += 1,
            _ => {}
        }
        if found % 100 == 0 {
            most = most.max(open());
        }
    }
    assert!(found > 10_000 && too_deep == 1, "{found} {too_deep}");
    assert!(most - before < 700, "{most} descriptors");
}

/// Tells the other thread to end, whatever becomes of this one.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One thread swaps a folder for a link to where nothing may happen, as fast as it can; whatever is
/// asked meanwhile stays within.
#[test]
fn whoever_swaps_links_gets_nothing_done_outside() {
    let ground = Ground::new();
    fs::create_dir(ground.at("in/swap")).expect("made");
    fs::write(ground.at("in/swap/other"), "inside").expect("written");
    ground.link("/out", "in/link");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (swap, link) = (ground.at("in/swap"), ground.at("in/link"));
            while !over.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, &swap, cwd, &link, exchange).expect("swapped");
            }
        });
        let _ends = Ends(&over);
        let path = ground.path("in/swap/other");
        let (mut inside, mut refused) = (0, 0);
        let mut round = 0;
        while round < 1000 || inside == 0 || refused == 0 {
            round += 1;
            let rules = Rules { without_openat2: round % 2 == 0, ..ground.rules.clone() };
            let found = rules.find(&path, LastLink::Keep);
            // What was checked stays what is opened, however long that takes.
            std::thread::yield_now();
            match found.and_then(|place| place.open_file(&path)) {
                Ok(file) => {
                    let text = std::io::read_to_string(file).expect("read");
                    assert_eq!(text, "inside");
                    inside += 1;
                }
                Err(failure) => {
                    assert!(
                        matches!(
                            failure.code.as_str(),
                            "policy_path" | "not_found" | "not_a_directory" | "link_loop"
                        ),
                        "{failure:?}"
                    );
                    refused += 1;
                }
            }
            let new = ground.path("in/swap/new");
            if let Ok(spot) = rules.find_spot(&new) {
                spot.make_folder(0o700).expect("made where it was checked");
                spot.remove_folder().expect("removed there too");
            }
        }
        println!("{inside} inside, {refused} refused");
    });
    let left: Vec<_> = fs::read_dir(ground.at("out")).expect("read").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read(ground.at("out/other")).expect("read"), b"out/other");
}
