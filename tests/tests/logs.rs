//! Logs of machines: read, searched, followed over rotation, cuts and kills, merged, put in groups.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reeve_protocol::ops::{LogRead, LogRecord, RemotePath};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, Running, eventually};

/// How long anything may take to get from a log to a screen.
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

/// What a worker answers, as records.
fn read(cluster: &Cluster, request: LogRead) -> Vec<LogRecord> {
    let answers = cluster.perform("web-1", request);
    assert!(answers[0].failure.is_none(), "{:?}", answers[0].failure);
    answers[0]
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a record"))
        .collect()
}

fn texts(records: &[LogRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.bytes()).into_owned()).collect()
}

fn failure(cluster: &Cluster, request: LogRead) -> String {
    let answers = cluster.perform("web-1", request);
    answers[0].failure.as_ref().map(|failure| failure.code.clone()).unwrap_or_default()
}

fn files(pattern: &Path) -> LogRead {
    LogRead { files: vec![RemotePath::from(path(pattern))], ..LogRead::default() }
}

/// Lines numbered from one on, each of a known length so that a cut can be placed.
fn numbered(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("line {n:06}\n")).collect()
}

/// Checks that the lines up to `to` have come, each once, in order.
#[track_caller]
fn expect_each_once(running: &Running, to: u32) {
    let text = String::from_utf8_lossy(&running.stdout()).into_owned();
    let got: Vec<&str> = text.lines().filter(|line| line.contains("line ")).collect();
    let expected: Vec<String> = (0..to).map(|n| format!("line {n:06}")).collect();
    assert_eq!(got.len(), expected.len(), "{}", running.stderr());
    for (got, expected) in got.iter().zip(&expected) {
        assert!(got.ends_with(expected.as_str()), "{got} is not {expected}");
    }
}

/// Waits for a line that is the last of what was written.
fn wait_for_line(running: &mut Running, n: u32) {
    running.wait_for(&format!("line {n:06}\n"));
}

/// Journal files with these entries, made by systemd's own program.
struct Journal {
    folder: tempfile::TempDir,
    entries: u32,
}

impl Journal {
    fn new() -> Self {
        Self { folder: folder(), entries: 0 }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a file of the journal. Each entry: microseconds since 1970, unit, priority, message.
    fn add(&mut self, entries: &[(i64, &str, u8, &[u8])]) {
        let mut export = Vec::new();
        for (time, unit, priority, message) in entries {
            self.entries += 1;
            let n = self.entries;
            let transport = if unit.is_empty() { "kernel" } else { "journal" };
            write!(
                export,
                "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={n}000\n\
                 _BOOT_ID=0123456789abcdef0123456789abcdef\n_TRANSPORT={transport}\n\
                 PRIORITY={priority}\n_PID={}\n_HOSTNAME=web\n",
                100 + n
            )
            .expect("written");
            if !unit.is_empty() {
                writeln!(export, "_SYSTEMD_UNIT={unit}").expect("written");
            }
            export.extend_from_slice(b"MESSAGE\n");
            export.extend_from_slice(&(message.len() as u64).to_le_bytes());
            export.extend_from_slice(message);
            export.extend_from_slice(b"\n\n");
        }
        let input = self.path().join("input");
        fs::write(&input, export).expect("write the export");
        let file = self.path().join(format!("part-{}.journal", self.entries));
        let done = Command::new("/lib/systemd/systemd-journal-remote")
            .arg("-o")
            .args([&file, &input])
            .output()
            .expect("systemd-journal-remote (run: make install-prerequisites)");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::remove_file(&input).expect("remove the export");
    }

    fn request(&self) -> LogRead {
        LogRead {
            journal_directory: Some(RemotePath::from(path(self.path()))),
            ..LogRead::default()
        }
    }
}

/// 2026-11-21 08:34:09 UTC.
const THEN: i64 = 1_795_250_049_000_000;

fn second(n: i64) -> i64 {
    THEN + n * 1_000_000
}

#[test]
fn lines_of_files_are_found_on_the_machine_with_their_times() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    append(&log, "2026-11-21T08:34:09Z INFO start\n2026-11-21T08:34:10Z ERROR boom\n  at x\n");
    append(&log, "2026-11-21T08:34:11Z WARN odd\n");
    fs::write(folder.path().join("other.log"), b"2026-11-21T08:34:10.5Z raw \xff\n")
        .expect("write");

    let all = read(&cluster, files(&folder.path().join("*.log")));
    let times: Vec<i64> = all.iter().map(|record| record.time_us).collect();
    assert_eq!(times, [second(0), second(1), second(1), second(1) + 500_000, second(2)]);
    assert_eq!(all[3].bytes(), b"2026-11-21T08:34:10.5Z raw \xff");
    assert!(all[3].text.is_none() && all[3].hex.is_some());
    assert_eq!(all[2].text.as_deref(), Some("  at x"));
    assert_eq!(all[1].priority, Some(3));
    assert_eq!(all[0].source, path(&log));

    let found = read(&cluster, LogRead { grep: Some("boom|odd".into()), ..files(&log) });
    assert_eq!(texts(&found).len(), 2);
    let found = read(&cluster, LogRead { priority: Some(3), ..files(&log) });
    assert_eq!(texts(&found), ["2026-11-21T08:34:10Z ERROR boom", "  at x"]);
    let last = read(&cluster, LogRead { lines: Some(1), ..files(&log) });
    assert_eq!(texts(&last), ["2026-11-21T08:34:11Z WARN odd"]);
    let timed = LogRead { since_us: Some(second(1)), until_us: Some(second(1)), ..files(&log) };
    assert_eq!(read(&cluster, timed).len(), 2);
}

#[test]
fn rotated_and_packed_files_are_read_when_a_time_reaches_into_them() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    let write = |name: &str, n: i64, at: i64| {
        let file = folder.path().join(name);
        fs::write(&file, format!("1795250{:03} line {n:06}\n", 49 + n)).expect("write");
        let modified = std::time::UNIX_EPOCH + Duration::from_micros(at.cast_unsigned());
        File::options()
            .append(true)
            .open(&file)
            .expect("open")
            .set_modified(modified)
            .expect("touch");
    };
    write("app.log.4", 0, second(0));
    write("app.log.3", 1, second(1));
    write("app.log.2", 2, second(2));
    write("app.log.1", 3, second(3));
    write("app.log", 4, second(4));
    let pack = |program: &str, file: &str| {
        let done = Command::new(program).arg(folder.path().join(file)).output().expect(program);
        assert!(done.status.success(), "{program}: {done:?}");
    };
    pack("gzip", "app.log.3");
    pack("xz", "app.log.2");
    let got = read(&cluster, LogRead { since_us: Some(second(1)), ..files(&log) });
    let numbers: Vec<String> = texts(&got)
        .iter()
        .map(|text| text.split_once(' ').expect("two words").1.to_owned())
        .collect();
    assert_eq!(numbers, ["line 000001", "line 000002", "line 000003", "line 000004"]);
    let last = LogRead { since_us: Some(second(0)), lines: Some(3), ..files(&log) };
    assert_eq!(read(&cluster, last).len(), 3);
    assert_eq!(read(&cluster, files(&log)).len(), 1, "without a time only what is written now");
}

#[test]
fn follow_over_rename_copytruncate_and_truncation_tells_each_line_once() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    append(&log, &numbered(0, 10));
    let pattern = folder.path().join("*.log");
    let mut follow =
        cluster.spawn_reeve(["logs", "web-1", "-f", path(&pattern), "--follow", "-n", "all"]);
    wait_for_line(&mut follow, 9);

    // Renamed; the program writes on into the old file before it opens the new one.
    let mut old = OpenOptions::new().append(true).open(&log).expect("open");
    fs::rename(&log, folder.path().join("app.log.1")).expect("rename");
    old.write_all(numbered(10, 15).as_bytes()).expect("write");
    wait_for_line(&mut follow, 14);
    append(&log, &numbered(15, 20));
    wait_for_line(&mut follow, 19);

    // Copied and emptied, with lines that only the copy has.
    append(&log, &numbered(20, 25));
    fs::copy(&log, folder.path().join("app.log.2")).expect("copy");
    OpenOptions::new().write(true).open(&log).expect("open").set_len(0).expect("empty");
    append(&log, &numbered(25, 30));
    wait_for_line(&mut follow, 29);

    // Emptied without a copy, and rewritten.
    File::create(&log).expect("empty");
    append(&log, "xxx other content\n");
    follow.wait_for("xxx other content\n");
    append(&log, &numbered(30, 35));
    wait_for_line(&mut follow, 34);

    // A file that appears later; a line that is not whole yet.
    append(&folder.path().join("second.log"), &numbered(35, 40));
    wait_for_line(&mut follow, 39);
    append(&log, "line 0000");
    append(&log, "40\nline 000041\n");
    wait_for_line(&mut follow, 41);
    expect_each_once(&follow, 42);
}

#[test]
fn follow_survives_a_cut_and_the_deaths_of_agent_and_coordinator() {
    let mut cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.url().trim_start_matches("https://"));
    let mut web = cluster.agent("web-1").dials(&proxy.url()).start();
    let folder = folder();
    let log = folder.path().join("app.log");
    append(&log, &numbered(0, 100));
    let mut follow =
        cluster.spawn_reeve(["logs", "web-1", "-f", path(&log), "--follow", "-n", "all"]);
    wait_for_line(&mut follow, 99);

    // In the middle of what is sent: so many bytes pass, then the connection is reset.
    let passed = proxy.passed(Direction::Up);
    proxy.after(Direction::Up, 200_000, Fault::Reset);
    append(&log, &numbered(100, 50_000));
    wait_for_line(&mut follow, 49_999);
    assert_eq!(proxy.faults(), 1, "the cut has to have happened");
    assert!(proxy.passed(Direction::Up) > passed + 200_000, "and in the middle");

    web.kill9();
    append(&log, &numbered(50_000, 51_000));
    web.restart();
    append(&log, &numbered(51_000, 52_000));
    wait_for_line(&mut follow, 51_999);

    cluster.coordinator.kill9();
    append(&log, &numbered(52_000, 53_000));
    // Rotated while nobody looks.
    fs::rename(&log, folder.path().join("app.log.1")).expect("rename");
    append(&log, &numbered(53_000, 54_000));
    cluster.coordinator.start();
    wait_for_line(&mut follow, 53_999);
    append(&log, &numbered(54_000, 55_000));
    wait_for_line(&mut follow, 54_999);
    expect_each_once(&follow, 55_000);
    assert!(follow.stderr().contains("going on"), "{}", follow.stderr());
}

#[test]
fn end_of_the_client_ends_the_follow_on_the_machine() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    append(&log, &numbered(0, 3));
    let mut follow = cluster.spawn_reeve(["logs", "web-1", "-f", path(&log), "--follow"]);
    wait_for_line(&mut follow, 2);
    assert_eq!(web.keepers().len(), 1);
    follow.signal(nix::sys::signal::Signal::SIGINT);
    let ended = follow.finish();
    ended.expect_code(0);
    eventually("the worker has ended", SOON, || web.keepers().is_empty());
}

#[test]
fn machines_are_merged_in_order_of_time_and_one_that_fails_is_named() {
    let cluster = Cluster::start();
    let folder = folder();
    let mut agents = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        agents.push(cluster.agent(name).start());
    }
    // All three are this machine, so each looks at the same three files; which is whose is in the name.
    for (index, name) in ["a", "b", "c"].iter().enumerate() {
        let mut text = String::new();
        for n in 0..200 {
            let time = 1_795_250_049 + n * 3 + index as i64;
            text.push_str(&format!("{time} {name}{n}\n"));
        }
        fs::write(folder.path().join(format!("{name}.log")), text).expect("write");
    }
    let pattern = folder.path().join("*.log");
    let merged = cluster.reeve(["logs", "web-*", "-f", path(&pattern), "-n", "all", "-o", "jsonl"]);
    merged.expect_code(0);
    let times: Vec<i64> = merged
        .text()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["corrected_us"].as_i64()
        })
        .map(|time| time.expect("a time"))
        .collect();
    assert_eq!(times.len(), 1800);
    // Their clocks are one clock, measured thrice: off by what the measuring is.
    let orderly = times.windows(2).all(|pair| pair[0] <= pair[1]);
    assert!(orderly, "in order of the corrected time");

    let prefixed = cluster.reeve(["logs", "web-1,web-2", "-f", path(&pattern), "-n", "1"]);
    prefixed.expect_code(0).expect_says("web-1  1795250646 a199\n");
    fs::write(folder.path().join("a.log"), "").expect("empty");
    agents.pop();
    let some = cluster.reeve(["logs", "web-*", "-f", path(&pattern), "-n", "1"]);
    some.expect_code(1).expect_says("web-3:");
    some.expect_says("web-1  ");
}

#[test]
fn the_journal_is_read_by_unit_priority_time_and_cursor() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut journal = Journal::new();
    journal.add(&[
        (second(0), "nginx.service", 6, b"started"),
        (second(1), "ssh.service", 6, b"login"),
        (second(2), "nginx.service", 3, b"upstream failed"),
        (second(3), "", 4, b"eth0: link is down"),
        (second(4), "nginx.service", 6, b"two\nlines \xff"),
        (second(5), "nginx.service", 6, b"ERROR in the text"),
    ]);
    let all = read(&cluster, journal.request());
    assert_eq!(all.len(), 6);
    assert_eq!((all[0].time_us, all[0].priority, all[0].pid), (second(0), Some(6), Some(101)));
    assert_eq!(all[3].source, "kernel");
    assert_eq!(all[4].bytes(), b"two\nlines \xff");
    let unit = LogRead { units: vec!["nginx".into()], ..journal.request() };
    assert_eq!(read(&cluster, unit.clone()).len(), 4);
    let kernel = LogRead { kernel: true, ..journal.request() };
    assert_eq!(texts(&read(&cluster, kernel)), ["eth0: link is down"]);
    let urgent = LogRead { priority: Some(3), ..journal.request() };
    assert_eq!(texts(&read(&cluster, urgent.clone())), ["upstream failed"]);
    let in_text = LogRead { levels_in_text: true, ..urgent };
    assert_eq!(texts(&read(&cluster, in_text)), ["upstream failed", "ERROR in the text"]);
    let timed =
        LogRead { since_us: Some(second(1)), until_us: Some(second(2)), ..journal.request() };
    assert_eq!(texts(&read(&cluster, timed)), ["login", "upstream failed"]);
    let last = LogRead { lines: Some(2), grep: Some("t".into()), ..unit };
    assert_eq!(texts(&read(&cluster, last.clone())).len(), 2);
    let found = LogRead { lines: Some(1), grep: Some("^started$".into()), ..last };
    assert_eq!(texts(&read(&cluster, found)), ["started"]);

    let cursors = read(&cluster, LogRead { cursors: true, ..journal.request() });
    let (place, cursor) = (cursors[2].place.clone(), cursors[2].cursor.clone());
    let after = [(place.expect("a place"), cursor.expect("a cursor"))].into();
    let rest = read(&cluster, LogRead { after, ..journal.request() });
    assert_eq!(texts(&rest)[0], "eth0: link is down");
    assert_eq!(rest.len(), 3);
}

#[test]
fn follow_of_the_journal_goes_on_behind_what_was_seen() {
    let mut cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut journal = Journal::new();
    journal.add(&[
        (second(0), "a.service", 6, b"line 000000"),
        (second(1), "a.service", 6, b"line 000001"),
    ]);
    let mut follow = cluster.spawn_reeve([
        "logs",
        "web-1",
        "-u",
        "a",
        "--journal-directory",
        path(journal.path()),
        "--follow",
    ]);
    wait_for_line(&mut follow, 1);
    journal
        .add(&[(second(2), "a.service", 6, b"line 000002"), (second(3), "b.service", 6, b"other")]);
    wait_for_line(&mut follow, 2);
    cluster.coordinator.kill9();
    journal.add(&[(second(4), "a.service", 6, b"line 000003")]);
    cluster.coordinator.start();
    wait_for_line(&mut follow, 3);
    expect_each_once(&follow, 4);
    assert!(!String::from_utf8_lossy(&follow.stdout()).contains("other"));
}

#[test]
fn what_cannot_be_read_is_said_in_one_line() {
    let cluster = Cluster::start();
    let folder = folder();
    let secret = folder.path().join("secret");
    fs::create_dir(&secret).expect("a folder");
    append(&secret.join("x.log"), "secret\n");
    append(&folder.path().join("open.log"), "open\n");
    let policy = format!("[paths]\nblocked = [\"{}\"]\n", path(&secret));
    let _web = cluster.agent("web-1").policy(&policy).start();
    let at = |name: &str| files(&folder.path().join(name));
    assert_eq!(failure(&cluster, at("nothing.log")), "not_found");
    assert_eq!(failure(&cluster, at("no*thing")), "not_found");
    assert_eq!(failure(&cluster, at("secret/x.log")), "policy_path");
    assert_eq!(failure(&cluster, at("secret/*")), "policy_path");
    assert_eq!(failure(&cluster, at("")), "is_a_directory");
    std::os::unix::fs::symlink(secret.join("x.log"), folder.path().join("link.log")).expect("link");
    assert_eq!(failure(&cluster, at("link.log")), "policy_path");
    let got = read(&cluster, at("*.log"));
    assert_eq!(texts(&got), ["open"], "what is blocked is left out");
    nix::unistd::mkfifo(&folder.path().join("pipe.log"), nix::sys::stat::Mode::S_IRWXU)
        .expect("FIFO");
    assert_eq!(failure(&cluster, at("pipe.log")), "not_a_file");
    assert_eq!(failure(&cluster, LogRead { grep: Some("(".into()), ..at("open.log") }), "invalid");

    let mut journal = Journal::new();
    assert_eq!(failure(&cluster, journal.request()), "no_journal");
    journal.add(&[(second(0), "nginx.service", 6, b"x")]);
    let unknown = LogRead { units: vec!["nginxx".into()], ..journal.request() };
    assert_eq!(failure(&cluster, unknown), "unknown_unit");
    let said = cluster.reeve([
        "logs",
        "web-1",
        "-u",
        "nginxx",
        "--journal-directory",
        path(journal.path()),
    ]);
    said.expect_code(1).expect_says(
        "web-1: no entries from unit nginxx; units with entries that look alike: nginx.service",
    );
    let _silent = cluster.agent("web-2").policy("[allow]\nlogs = false\n").start();
    let refused = cluster.reeve(["logs", "web-2", "-f", path(&folder.path().join("open.log"))]);
    assert_ne!(refused.code, 0);
    refused.expect_says("logs = false");
}

#[test]
fn line_of_a_hundred_megabytes_is_cut_and_the_next_is_whole() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("big.log");
    let mut file = File::create(&log).expect("a file");
    file.write_all(b"before\n").expect("write");
    for _ in 0..100 {
        file.write_all(&vec![b'x'; 1_000_000]).expect("write");
    }
    file.write_all(b"\nafter\n").expect("write");
    let got = read(&cluster, files(&log));
    assert_eq!(got.len(), 3);
    assert_eq!(got[1].length, Some(100_000_000));
    assert!(got[1].bytes().len() <= 1024 * 1024);
    assert_eq!(got[2].text.as_deref(), Some("after"));
    let last = read(&cluster, LogRead { lines: Some(2), ..files(&log) });
    assert_eq!(last.len(), 2);
}

#[test]
fn errors_are_put_in_groups_over_machines_with_the_new_ones_first() {
    let cluster = Cluster::start();
    let _one = cluster.agent("web-1").start();
    let _two = cluster.agent("web-2").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    for n in 0..40 {
        append(&log, &format!("{} ERROR timeout after {n} ms on 10.0.0.{n}\n", 1_795_250_049 + n));
        append(&log, &format!("{} INFO request {n}\n", 1_795_250_049 + n));
    }
    append(&log, "1795250088 ERROR disk /dev/sda1 is full\n");
    let groups = cluster.reeve(["logs", "web-*", "-f", path(&log), "--errors", "-o", "json"]);
    groups.expect_code(0);
    let groups: Vec<serde_json::Value> = groups.json();
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!((&groups[0]["new"], &groups[0]["count"]), (&true.into(), &2.into()));
    assert!(groups[0]["example"].as_str().expect("text").contains("disk"));
    assert_eq!((&groups[1]["new"], &groups[1]["count"]), (&false.into(), &80.into()));
    assert_eq!(groups[1]["machines"].as_array().expect("machines").len(), 2);
}

#[test]
fn reader_that_wants_no_more_ends_it_quietly() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = folder();
    let log = folder.path().join("app.log");
    append(&log, &numbered(0, 200_000));
    let (mut command, _) = cluster
        .reeve_command(cluster.api.token(), ["logs", "web-1", "-f", path(&log), "-n", "all"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("reeve");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("its end");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn what_a_service_logged_can_be_sifted() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut journal = Journal::new();
    journal.add(&[
        (second(0), "nginx.service", 6, b"upstream timed out"),
        (second(1), "nginx.service", 6, b"GET / 200"),
        (second(2), "cron.service", 6, b"upstream of cron"),
    ]);
    let of_journal = ["--journal-directory", path(journal.path())];
    let sifted = ["services", "logs", "web-1", "nginx", "--grep", "upstream", "--since", "10y"];
    let run = cluster.reeve(sifted.iter().chain(&of_journal).copied());
    run.expect_code(0);
    let shown = run.text();
    assert!(shown.contains("upstream timed out"), "{run}");
    assert_eq!(shown.lines().count(), 1, "{run}");
}
