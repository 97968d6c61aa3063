//! What is on somebody's screen while connections break and coordinators die.

use std::time::Duration;

use reeve_sdk::api::{OperationState, Page, TerminalSession};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, Person, eventually, on_each_database, processes};

const PATIENCE: Duration = Duration::from_secs(60);

fn only_session(cluster: &Cluster) -> TerminalSession {
    let sessions = cluster.api.load::<Page<TerminalSession>>("/api/sessions?limit=10").items;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.into_iter().next().expect("one")
}

/// A process of this machine that is busy and has a name nobody else has.
struct Busy(std::process::Child, String);

impl Busy {
    fn start() -> Self {
        let marker = processes::marker();
        let line = format!(": {marker}; while :; do :; done");
        let child = std::process::Command::new("sh").args(["-c", &line]).spawn().expect("sh");
        Self(child, marker)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What was drawn between taking the screen and giving it back: moves of the cursor and text, and
/// nothing that went around the drawing.
#[track_caller]
fn expect_clean(screen: &str) {
    let drawn = screen.split_once("\x1b[?1049h").expect("the screen was taken").1;
    let (drawn, behind) = drawn.split_once("\x1b[?1049l").expect("the screen was given back");
    assert!(!drawn.contains(['\n', '\x07']), "something wrote around it: {drawn:?}");
    assert!(!drawn.contains("panicked") && !drawn.contains("\x1b[?1049"), "{drawn:?}");
    assert!(!behind.contains("reeve:"), "{behind:?}");
}

on_each_database! {
    fn top_goes_on_over_a_cut_and_a_killed_coordinator(builder) {
        let mut cluster = builder.start();
        let link = Proxy::to(cluster.coordinator.address());
        let _web = cluster.agent("web-1").dials(&link.url()).start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let words = ["top", "web-1", "--interval", "500ms"];
        let (mut command, _) = cluster.reeve_command(cluster.api.token(), words);
        command.env("REEVE_URL", proxy.url());
        let mut person = Person::start(&command, 160, 130);
        let modes = person.modes();
        person.sees("\x1b[?1049h");
        // What starts now is seen only by samples that are taken from now on.
        let first = Busy::start();
        person.sees(&first.1);

        let before = proxy.connections();
        proxy.cut();
        eventually("it came back", PATIENCE, || proxy.connections() > before);
        let second = Busy::start();
        person.sees(&second.1);

        let before = link.connections();
        link.cut();
        eventually("the machine came back", PATIENCE, || link.connections() > before);
        let third = Busy::start();
        person.sees(&third.1);

        cluster.coordinator.kill9();
        let fourth = Busy::start();
        cluster.coordinator.start();
        person.waits_until("what is new is shown", |screen| {
            screen.windows(fourth.1.len()).any(|part| part == fourth.1.as_bytes())
        });
        person.types("q");
        assert_eq!(person.ends(), 0);
        assert_ne!(modes, "");
        person.sees("\x1b[?1049l");
        expect_clean(&person.text());
    }

    fn recording_over_the_death_of_the_coordinator_has_every_byte_once(builder) {
        let mut cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let line = "n=0; while [ $n -lt 2000 ]; do n=$((n+1)); echo line-$n; \
                    [ $((n % 200)) = 0 ] && sleep 0.1; done; read word; echo got $word";
        let words = ["shell", "web-1", "--", "sh", "-c", line];
        let command = cluster.reeve_command(cluster.api.token(), words).0;
        let mut person = Person::start(&command, 80, 24);
        person.sees("line-300\r\n");
        cluster.coordinator.kill9();
        cluster.coordinator.start();
        person.types("it\r");
        person.sees("got it");
        assert_eq!(person.ends(), 0);
        let id = only_session(&cluster).id.to_string();
        let replayed = cluster.reeve(["sessions", "replay", &id, "--speed", "0"]);
        replayed.expect_code(0);
        let text = replayed.text();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("line-")).collect();
        let expected: Vec<String> = (1..=2000).map(|number| format!("line-{number}")).collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn replay_that_is_cut_in_its_middle_says_so_and_leaves_the_colours_as_they_were() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let line = "printf '\\033[31m'; seq 1 300000; printf '\\033[m'";
    let words = ["run", "-t", "web-1", "--", "sh", "-c", line];
    let command = cluster.reeve_command(cluster.api.token(), words).0;
    let mut person = Person::start(&command, 80, 24);
    assert_eq!(person.ends(), 0);
    let session = only_session(&cluster);
    assert_eq!(session.state, OperationState::Succeeded);
    let id = session.id.to_string();
    let proxy = Proxy::to(cluster.coordinator.address());
    proxy.after(Direction::Down, 400_000, Fault::Reset);
    let words = ["sessions", "replay", &id, "--speed", "0"];
    let run = cluster.spawn_reeve_at(&proxy.url(), words).finish();
    assert_eq!(proxy.faults(), 1, "it was not cut");
    run.expect_code(255);
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    assert!(run.text().contains("1000\r\n") && !run.text().contains("300000"), "{run}");
    assert!(run.stdout.ends_with(b"\x1b[m\x1b[?25h"), "{run}");
    // A file of it is there whole or not at all.
    let file = cluster.folder().join("day.cast");
    proxy.after(Direction::Down, 400_000, Fault::Reset);
    let words = ["sessions", "export", &id, file.to_str().expect("text")];
    let run = cluster.spawn_reeve_at(&proxy.url(), words).finish();
    assert_eq!((proxy.faults(), run.code), (2, 255), "{run}");
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
    let left = std::fs::read_dir(cluster.folder()).expect("read").flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("day.cast"));
    assert_eq!(left.count(), 0);
    // What is no file is written to and stays what it is.
    let fifo = cluster.folder().join("pipe");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let words = ["sessions", "export", &id, fifo.to_str().expect("text")];
    let run = cluster.spawn_reeve(words);
    let mut reader = std::process::Command::new("cat")
        .arg(&fifo)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("cat");
    let mut first = [0; 10];
    use std::io::Read;
    reader.stdout.take().expect("a pipe").read_exact(&mut first).expect("it is written to");
    assert_eq!(first[0], b'{');
    drop(run);
    let _gone = reader.kill();
    let _gone = reader.wait();
    assert!(!std::fs::symlink_metadata(&fifo).expect("there").is_file());
    eventually("nothing is left over", PATIENCE, || !cluster.folder().join("pipe.part").exists());
}
