//! Logs where things are not as usual: no journal, other clocks, files and units that vanish.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reeve_tests::{Cluster, eventually, require_root};

const SOON: Duration = Duration::from_secs(60);

fn folder() -> tempfile::TempDir {
    tempfile::TempDir::new().expect("a folder")
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("open a log");
    file.write_all(text.as_bytes()).expect("write to a log");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Lines that do not pack to little: many blocks of the packed file are read.
fn noisy(name: &str, from: i64) -> String {
    (from..from + 20_000)
        .map(|n| format!("{} {name} {n} {:032x}\n", 1_795_250_049 + n, rand::random::<u128>()))
        .collect()
}

#[test]
fn older_files_that_were_packed_are_read_whole_and_broken_ones_named() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    let mut expected = String::new();
    for (number, program) in [(3, "gzip"), (2, "xz"), (1, "zstd")] {
        let file = folder.path().join(format!("app.log.{number}"));
        let text = noisy(program, (3 - number) * 20_000);
        append(&file, &text);
        expected.push_str(&text);
        let packed = Command::new(program).arg("-q").arg(&file).status();
        let packed = packed.unwrap_or_else(|error| panic!("{program} (run: make test): {error}"));
        assert!(packed.success());
        let _gone = fs::remove_file(&file);
    }
    let end = "1795310050 written now\n";
    append(&log, end);
    let words = ["logs", "web-1", "-f", path(&log), "--since", "2026-11-21T00:00:00Z", "-n", "all"];
    let read = cluster.reeve(words);
    read.expect_code(0);
    let expected_all = format!("{expected}{end}");
    assert_eq!(read.stderr, "", "{read}");
    assert!(read.text() == expected_all, "{} of {} bytes", read.stdout.len(), expected_all.len());
    let found = cluster.reeve([&words[..], &["--grep", "xz 39999"]].concat());
    assert_eq!(found.expect_code(0).text().lines().count(), 1, "{found}");
    // One that ends in its middle: the others are shown whole, and it is named.
    let packed = folder.path().join("app.log.1.zst");
    let bytes = fs::read(&packed).expect("packed");
    fs::write(&packed, &bytes[..bytes.len() / 2]).expect("cut");
    let cut = cluster.reeve(words);
    let about = cut.stderr.lines().filter(|line| line.contains("app.log.1.zst")).count();
    assert_eq!((about, cut.stderr.lines().count()), (1, 1), "{cut}");
    let text = cut.text();
    assert!(text.contains("gzip 19999 ") && text.contains("xz 39999 "), "{cut}");
    assert!(text.ends_with(end), "{cut}");
    assert!(!text.contains("zstd 59999 "), "it was not cut");
}

#[test]
fn machine_without_a_journal_says_so() {
    require_root("a program is hidden from the agent in a mount namespace");
    let cluster = Cluster::start();
    // The same programs but for journalctl.
    let programs = folder();
    let hide = format!(
        "cd '{}' && mkdir -p all && mount --bind /usr/bin all && {{ [ -e less ] || \
         {{ mkdir less && cp -rs \"$PWD\"/all/. less/ && rm less/journalctl; }}; }} && \
         mount --bind less /usr/bin && exec \"$0\" \"$@\"",
        path(programs.path())
    );
    let web = cluster.agent("web-1").through(&[
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &hide,
    ]);
    let _web = web.start();
    for words in [&["logs", "web-1"][..], &["logs", "web-1", "-u", "nginx"]] {
        let run = cluster.reeve(words);
        run.expect_code(1).expect_stdout("").expect_says("no journalctl");
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
    }
}

#[test]
fn lines_of_a_machine_whose_clock_is_wrong_are_merged_where_they_belong() {
    let cluster = Cluster::start();
    let folder = folder();
    let wrong: i64 = 300;
    // Both are this machine, so each is let see only its own file.
    let policy =
        |not: &str| format!("[paths]\nblocked = [{:?}]\n", folder.path().join(not).display());
    for name in ["right", "wrong"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    let _right = cluster.agent("web-1").policy(&policy("wrong")).start();
    let late = cluster.agent("web-2").policy(&policy("right")).clock(&format!("+{wrong}s")).start();
    eventually("its clock is known to be wrong", SOON, || {
        late.machine().clock_skew_ms.is_some_and(|skew| (skew - wrong * 1000).abs() < 30_000)
    });
    // They take turns, 200 s apart; each writes what its own clock says.
    let then = 1_795_250_049;
    for turn in 0..20 {
        let (name, clock) = if turn % 2 == 0 { ("right", 0) } else { ("wrong", wrong) };
        let line = format!("{} turn {turn:02}\n", then + turn * 200 + clock);
        append(&folder.path().join(name).join("app.log"), &line);
    }
    let pattern = folder.path().join("*/app.log");
    let merged = cluster.reeve(["logs", "web-*", "-f", path(&pattern), "-n", "all"]);
    merged.expect_code(0);
    let text = merged.text();
    let turns: Vec<&str> = text.lines().filter_map(|line| line.split("turn ").nth(1)).collect();
    let expected: Vec<String> = (0..20).map(|turn| format!("{turn:02}")).collect();
    assert_eq!(turns, expected, "{merged}");
}

#[test]
fn file_that_vanishes_while_it_is_followed_is_followed_again_when_it_is_back() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let log = inner.join("app.log");
    append(&log, "line 0\n");
    let mut follow =
        cluster.spawn_reeve(["logs", "web-1", "-f", path(&log), "--follow", "-n", "all"]);
    follow.wait_for("line 0\n");
    append(&log, "line 1\n");
    follow.wait_for("line 1\n");
    fs::remove_dir_all(&inner).expect("removed");
    fs::create_dir(&inner).expect("a folder");
    append(&log, "line 2\n");
    follow.wait_for("line 2\n");
    append(&log, "line 3\n");
    follow.wait_for("line 3\n");
    let text = String::from_utf8_lossy(&follow.stdout()).into_owned();
    assert_eq!(text, "line 0\nline 1\nline 2\nline 3\n");
}

#[test]
fn messages_of_the_kernel_are_read_and_followed_without_a_journal() {
    require_root("only root may write to the kernel's buffer, to have something known in it");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let marker = format!("reeve-test-{}", uuid::Uuid::new_v4());
    let tell = |text: &str| {
        let mut kernel = OpenOptions::new().write(true).open("/dev/kmsg").expect("open /dev/kmsg");
        // Without its end nobody is shown a message before the next one comes.
        kernel.write_all(format!("<4>{marker} {text}\n").as_bytes()).expect("tell the kernel");
    };
    tell("before");
    let read = cluster.reeve(["logs", "web-1", "-k", "--grep", &marker]);
    read.expect_code(0).expect_says(&format!("kernel: {marker} before\n"));
    assert_eq!(read.text().lines().count(), 1, "{read}");
    let quiet = cluster.reeve(["logs", "web-1", "-k", "--priority", "err", "--grep", &marker]);
    quiet.expect_code(0).expect_stdout("");
    let mut follow = cluster.spawn_reeve(["logs", "web-1", "-k", "--grep", &marker, "--follow"]);
    follow.wait_for("before\n");
    for number in 0..5 {
        tell(&format!("line {number}"));
        follow.wait_for(&format!("line {number}\n"));
    }
    let text = String::from_utf8_lossy(&follow.stdout()).into_owned();
    assert_eq!(text.matches(&marker).count(), 6, "each once: {text}");
}
