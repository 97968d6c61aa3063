//! Names that shells, terminals and careless programs stumble over, in every verb that takes one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reeve_tests::{Cluster, Finished};

/// A name, and why it is odd.
const NAMES: [(&[u8], &str); 9] = [
    (b"two\nlines", "a newline"),
    (b"quo\"te's", "quotes"),
    (b"-rf", "a leading dash"),
    (b"invalid\xff\xfe", "no UTF-8"),
    (b"red\x1b[31m\x07", "drives a terminal"),
    (b"$(touch pwned);`id` & *?[a]", "means something to a shell"),
    (b" blank ", "blanks at its ends"),
    (b"a:b", "a colon"),
    (b"~", "somebody's home"),
];

fn on(machine: &str, path: &Path) -> OsString {
    OsString::from_vec([machine.as_bytes(), b":", path.as_os_str().as_bytes()].concat())
}

/// Somebody at `reeve`, whose terminal is not to be driven by names.
struct Story<'c> {
    cluster: &'c Cluster,
    why: &'c str,
}

impl Story<'_> {
    #[track_caller]
    fn run(&self, line: &str, places: &[OsString]) -> Finished {
        let words = line.split(' ').map(OsString::from);
        let run = self.cluster.reeve(words.chain(places.iter().cloned()));
        self.check(run)
    }

    #[track_caller]
    fn check(&self, run: Finished) -> Finished {
        assert!(!run.all().contains(['\x1b', '\x07']), "{}: {run}", self.why);
        run
    }

    #[track_caller]
    fn succeed(&self, line: &str, places: &[OsString]) -> Finished {
        let run = self.run(line, places);
        assert_eq!(run.code, 0, "{}: {run}", self.why);
        run
    }

    /// One thing, so one line.
    #[track_caller]
    fn one_line(&self, line: &str, places: &[OsString]) {
        let run = self.succeed(line, places);
        assert_eq!(run.text().lines().count(), 1, "{}: {run}", self.why);
    }
}

#[test]
fn odd_names_go_through_every_verb_as_they_are() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _db = cluster.agent("db-1").start();
    for (name, why) in NAMES {
        let story = Story { cluster: &cluster, why };
        let folder = tempfile::TempDir::new().expect("a folder");
        let name = OsStr::from_bytes(name);
        let near = folder.path().join("near");
        fs::create_dir(&near).expect("a folder");
        let local = near.join(name);
        fs::write(&local, "needle one\n").expect("a file");
        let far = folder.path().join("far").join(name);
        let file = far.join(name);
        let (there, here) = (on("web-1", &file), local.clone().into_os_string());
        let content = || fs::read_to_string(&file).unwrap_or_else(|error| panic!("{why}: {error}"));

        story.succeed("files mkdir -p", &[on("web-1", &far)]);
        let into = OsString::from_vec([on("web-1", &far).as_bytes(), b"/"].concat());
        story.succeed("cp", &[here.clone(), into]);
        assert_eq!(content(), "needle one\n");

        story.one_line("files ls", &[on("web-1", &far)]);
        story.one_line("files ls -l", std::slice::from_ref(&there));
        story.one_line("files find -k f", &[on("web-1", &far)]);
        story.one_line("files grep needle", &[on("web-1", &far)]);
        story.one_line("files grep -l needle", std::slice::from_ref(&there));
        story.succeed("files tree", &[on("web-1", &far)]);
        let found = cluster.reeve(
            ["files", "find", "-k", "f", "-0"]
                .map(OsString::from)
                .into_iter()
                .chain([on("web-1", &far)]),
        );
        assert_eq!(found.stdout, [file.as_os_str().as_bytes(), b"\0"].concat(), "{why}: {found}");
        let stat = story.succeed("files stat -o jsonl", std::slice::from_ref(&there));
        assert_eq!(stat.json::<serde_json::Value>()["size"], 11, "{why}: {stat}");
        let cat = story.succeed("files cat", std::slice::from_ref(&there));
        assert_eq!(cat.text(), "needle one\n", "{why}");
        story.succeed("files chmod 604", std::slice::from_ref(&there));
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o604);

        let mut other = name.to_owned();
        other.push(".moved");
        let other = far.join(other);
        story.succeed("files mv", &[there.clone(), other.clone().into_os_string()]);
        assert!(other.is_file() && !file.exists(), "{why}");
        story.succeed("files mv", &[on("web-1", &other), file.clone().into_os_string()]);

        fs::write(&local, "needle two\n").expect("a file");
        let would = story.succeed("cp --dry-run", &[here.clone(), there.clone()]);
        assert_eq!(would.stderr.lines().count(), 1, "{why}: {would}");
        story.succeed("cp", &[here.clone(), there.clone()]);
        let diff = story.run("files diff", std::slice::from_ref(&there));
        diff.expect_code(1).expect_says("-needle one\n+needle two\n");
        let history = story.succeed("files history -o json", std::slice::from_ref(&there));
        assert_eq!(history.json::<serde_json::Value>().as_array().map(Vec::len), Some(1), "{why}");
        story.succeed("files rm", std::slice::from_ref(&there));
        assert!(!file.exists(), "{why}");
        let gone = story.run("files cat", std::slice::from_ref(&there));
        gone.expect_code(1);
        assert_eq!(gone.stderr.lines().count(), 1, "{why}: {gone}");
        story.succeed("files restore --yes", std::slice::from_ref(&there));
        assert_eq!(content(), "needle two\n", "{why}");

        let back = folder.path().join("back");
        fs::create_dir(&back).expect("a folder");
        story.succeed("cp", &[there.clone(), back.clone().into_os_string()]);
        assert_eq!(fs::read(back.join(name)).expect(why), b"needle two\n");
        story.succeed("cp -r", &[on("web-1", &far), back.join("tree").into_os_string()]);
        assert_eq!(fs::read(back.join("tree").join(name)).expect(why), b"needle two\n");
        let across = back.join("across");
        story.succeed("cp -r", &[on("web-1", &far), on("db-1", &across)]);
        assert_eq!(fs::read(across.join(name)).expect(why), b"needle two\n");

        let editor = cluster.folder().join("editor.sh");
        fs::write(&editor, "sed -i s/two/three/ \"$1\"\n").expect("written");
        let words = ["files", "edit", "--yes"].map(OsString::from).into_iter().chain([there]);
        let (mut command, _) = cluster.reeve_command(cluster.api.token(), words);
        command.env("EDITOR", format!("sh {}", editor.display()));
        let edited = story.check(cluster.finish(command));
        edited.expect_code(0);
        assert_eq!(content(), "needle three\n", "{why}");

        story.succeed("files rm -r --yes", &[on("web-1", &far)]);
        assert!(!far.exists(), "{why}");
        assert!(!Path::new("pwned").exists() && !far.with_file_name("pwned").exists());
    }
}

#[test]
fn names_that_cannot_be_are_refused_before_anything_is_asked() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let long = folder.path().join("x".repeat(300));
    let deep = folder.path().join("d/".repeat(3000));
    let near = folder.path().join("near");
    fs::write(&near, "x").expect("a file");
    for (path, most_lines) in [(&long, 1), (&deep, 3)] {
        let there = on("web-1", path);
        for verb in ["stat", "cat", "mkdir", "rm"] {
            let words = ["files".into(), verb.into(), there.clone()];
            let run = cluster.reeve::<OsString>(words);
            assert_ne!(run.code, 0, "{run}");
            assert!(run.stderr.lines().count() <= most_lines, "{run}");
        }
        let run = cluster.reeve::<OsString>(["cp".into(), near.clone().into(), there]);
        assert_ne!(run.code, 0, "{run}");
        assert!(run.stderr.lines().count() <= most_lines, "{run}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
}
