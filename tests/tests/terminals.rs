//! A person at a terminal of a machine.

use std::time::{Duration, Instant};

use reeve_protocol::OperationId;
use reeve_protocol::ops::OpenTerminal;
use reeve_sdk::api::{
    AuditEntry, JobRequest, NewUser, Operation, OperationState, Page, Role, TerminalSession,
};
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, Person, eventually, eventually_some, on_each_database, processes};

const PATIENCE: Duration = Duration::from_secs(30);

fn plain_shell() -> OpenTerminal {
    OpenTerminal { command: Some(vec!["/bin/sh".to_owned()]), ..OpenTerminal::default() }
}

fn open(cluster: &Cluster, machine: &str, terminal: OpenTerminal) -> Operation {
    let job = cluster.submit(&JobRequest::new(machine, terminal));
    let id = job.single.expect("a job of one").id;
    eventually("the terminal is open", PATIENCE, || {
        let operation: Operation = cluster.api.load(&format!("/api/operations/{id}"));
        operation.state != OperationState::Queued && operation.state != OperationState::Sent
    });
    cluster.api.load(&format!("/api/operations/{id}"))
}

fn get(cluster: &Cluster, path: &str) -> Vec<u8> {
    let answer = cluster.api.send(reqwest::Method::GET, path, &[], Vec::new()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
    answer.body
}

fn shown(cluster: &Cluster, id: OperationId) -> String {
    String::from_utf8(get(cluster, &format!("/api/operations/{id}/output"))).expect("text")
}

fn sessions(cluster: &Cluster) -> Vec<TerminalSession> {
    cluster.api.load::<Page<TerminalSession>>("/api/sessions?limit=1000").items
}

#[track_caller]
fn only_session(cluster: &Cluster) -> TerminalSession {
    let sessions = sessions(cluster);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.into_iter().next().expect("one")
}

/// `reeve` on a terminal of 80 × 24, as the administrator.
fn sit(cluster: &Cluster, arguments: &[&str]) -> Person {
    Person::start(&cluster.reeve_command(cluster.api.token(), arguments).0, 80, 24)
}

/// A shell without the start files of whoever runs the tests.
fn sit_at_shell(cluster: &Cluster) -> Person {
    let mut person = sit(cluster, &["shell", "web-1", "--", "/bin/sh"]);
    // Its own prompt shows that it reads.
    person.types("PS1='ready'\"> \"\r");
    person.sees("ready> ");
    person
}

#[test]
fn shell_is_as_at_the_machine_itself() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut person = sit_at_shell(&cluster);
    let before = person.modes();
    person.types("stty size; tty; echo $TERM; echo $((6 * 7))\r");
    person.sees("24 80\r\n/dev/pts/");
    person.sees("xterm\r\n42\r\n");

    person.resizes(100, 33);
    // A shell that waits for a line looks at its traps behind it.
    person.types(
        "sh -c 'trap \"stty size\" WINCH; echo ar$((0))med; while :; do sleep 0.02; done'\r",
    );
    person.sees("ar0med");
    person.resizes(120, 44);
    person.sees("44 120");
    person.types("\x03");

    // Ctrl-C ends the program in front, and neither the shell nor us.
    person.types("echo begun; sleep 1000\r");
    person.sees("begun\r\n");
    person.types("\x03");
    person.types("echo still $((1 + 1)) here\r");
    person.sees("still 2 here");
    person.types("exit 7\r");
    assert_eq!(person.ends(), 7);
    let after = person.modes();
    assert_ne!(before, after, "it was raw while somebody sat there");
    let cooked = sit(&cluster, &["version"]);
    assert_eq!(after, cooked.modes(), "all as it was");

    let session = only_session(&cluster);
    assert_eq!((session.columns, session.rows), (120, 44));
    assert_eq!((session.exit_code, session.viewers.len()), (Some(7), 0));
}

#[test]
fn full_screen_program_can_be_used() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut person = sit(&cluster, &["run", "-t", "web-1", "--", "top", "-d", "1"]);
    person.sees("PID");
    person.resizes(60, 12);
    person.sees("\x1b[");
    person.types("q");
    assert_eq!(person.ends(), 0);
}

on_each_database! {
    fn cut_of_the_viewers_connection_loses_and_doubles_nothing(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let (mut command, _) = cluster
            .reeve_command(cluster.api.token(), ["shell", "web-1", "--", "sh", "-c", COUNT_AND_READ]);
        command.env("REEVE_URL", proxy.url());
        let mut person = Person::start(&command, 80, 24);
        person.sees("line-500\r\n");
        let before = proxy.passed(Direction::Down);
        proxy.cut();
        // Typed while nothing gets through.
        person.types("word-of-the-cut\r");
        person.sees("line-3000\r\n");
        assert!(proxy.passed(Direction::Down) > before, "it was cut in the middle");
        assert!(proxy.connections() >= 2, "it came back");
        person.sees("got word-of-the-cut.");
        assert_eq!(person.ends(), 0);
        check_lines(&person.text());
        assert_eq!(person.text().matches("got word-of-the-cut.").count(), 1);
    }
}

/// Takes a few seconds, so that a cut falls into it, and reads a line at the end.
const COUNT_AND_READ: &str = "n=0; while [ $n -lt 3000 ]; do n=$((n+1)); echo line-$n; \
    [ $((n % 250)) = 0 ] && sleep 0.15; done; read word; echo got $word.";

#[track_caller]
fn check_lines(text: &str) {
    let numbers: Vec<u32> = text
        .split("line-")
        .skip(1)
        .map(|rest| rest.split("\r\n").next().expect("a line"))
        .map(|number| number.chars().take_while(char::is_ascii_digit).collect::<String>())
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert_eq!(numbers, (1..=3000).collect::<Vec<u32>>());
}

on_each_database! {
    fn cut_of_the_machines_connection_loses_and_doubles_nothing(builder) {
        let cluster = builder.start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let web = cluster.agent("web-1").dials(&proxy.url()).start();
        let mut person = sit(&cluster, &["shell", "web-1", "--", "sh", "-c", COUNT_AND_READ]);
        person.sees("line-500\r\n");
        proxy.cut();
        person.types("typed-in-between\r");
        person.sees("got typed-in-between.");
        assert!(proxy.connections() >= 2, "the agent came back");
        assert_eq!(person.ends(), 0);
        check_lines(&person.text());
        drop(web);
    }
}

on_each_database! {
    fn coordinator_killed_in_the_middle_loses_and_doubles_nothing(builder) {
        let mut cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let mut person = sit(&cluster, &["shell", "web-1", "--", "sh", "-c", COUNT_AND_READ]);
        person.sees("line-500\r\n");
        cluster.coordinator.kill9();
        person.types("said-to-nobody\r");
        cluster.coordinator.start();
        person.sees("got said-to-nobody.");
        assert_eq!(person.ends(), 0);
        check_lines(&person.text());
    }
}

on_each_database! {
    fn killed_viewer_comes_back_from_another_place(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let mut person = sit_at_shell(&cluster);
        person.types("secret=yes; echo mark-$((40 + 2))\r");
        person.sees("mark-42\r\n");
        person.signals(nix::sys::signal::Signal::SIGKILL);
        let _ = person.ends();

        let mut other = sit(&cluster, &["shell", "--attach", "web-1"]);
        other.sees("mark-42\r\n");
        other.types("echo secret is $secret\r");
        other.sees("secret is yes");
        // ~d leaves it open.
        other.types("\r~d");
        assert_eq!(other.ends(), 0);
        other.sees("reeve shell --attach");
        assert_eq!(only_session(&cluster).state, OperationState::Running);

        let mut third = sit(&cluster, &["shell", "--attach"]);
        third.sees("secret is yes");
        third.types("exit 3\r");
        assert_eq!(third.ends(), 3);
    }
}

on_each_database! {
    fn several_type_and_who_only_looks_cannot(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let mut first = sit_at_shell(&cluster);
        let id = only_session(&cluster).id.to_string();
        let mut second = sit(&cluster, &["shell", "--attach", &id]);
        second.sees("ready> ");
        let mut viewer = sit(&cluster, &["shell", "--attach", &id, "--read-only"]);
        viewer.sees("ready> ");
        eventually("all three are listed", PATIENCE, || only_session(&cluster).viewers.len() == 3);
        let types: Vec<bool> = only_session(&cluster).viewers.iter().map(|each| each.types).collect();
        assert_eq!(types.iter().filter(|types| **types).count(), 2);

        // At the same time, a hundred lines each; none is lost or torn.
        for number in 0..50 {
            first.types(format!("echo A-{number}-$((1+1))\r"));
            second.types(format!("echo B-{number}-$((1+1))\r"));
            first.sees(&format!("A-{number}-2"));
            second.sees(&format!("B-{number}-2"));
        }
        viewer.sees("B-49-2");
        viewer.types("echo from-the-viewer\r");
        first.types("echo behind\r");
        viewer.sees("behind\r\n");
        assert!(!first.text().contains("from-the-viewer"));
        viewer.types("\x03");
        assert_eq!(viewer.ends(), 0);

        let audit: Page<AuditEntry> = cluster.api.load("/api/audit?limit=1000");
        let attached = audit.items.iter().filter(|entry| entry.action == "terminal.attach").count();
        assert_eq!(attached, 3, "each who came is in the audit");
        first.types("exit\r");
        assert_eq!((first.ends(), second.ends()), (0, 0));
    }
}

#[test]
fn role_viewer_may_look_and_not_type() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _person = sit_at_shell(&cluster);
    let session = only_session(&cluster);
    let viewer = cluster.guest.with_token(&make_viewer(&cluster));
    let path =
        format!("/api/sessions/{}/input?offset=0&typist={}", session.id, uuid::Uuid::new_v4());
    let answer = viewer.send(reqwest::Method::POST, &path, &[], b"reboot\r".to_vec());
    assert_eq!(answer.expect("an answer").status, 403);
    let attach = serde_json::json!({ "attach": { "operation": session.id, "types": true } });
    let path = format!("/api/jobs/{}/follow", session.job_id);
    assert_eq!(viewer.post(&path, &attach).status, 403);
}

fn make_viewer(cluster: &Cluster) -> String {
    let user = NewUser { name: "vera".to_owned(), role: Role::Viewer, scope: None };
    let created: reeve_sdk::api::UserCreated = cluster.api.post("/api/users", &user).json();
    let setup = reeve_sdk::api::SetupRequest {
        code: created.code,
        password: "correct horse battery".to_owned(),
        name: None,
    };
    let login: reeve_sdk::api::LoginResponse = cluster.guest.post("/api/auth/setup", &setup).json();
    login.token
}

#[test]
fn closing_ends_everything_in_it() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let marker = processes::marker();
    for how in ["key", "sessions"] {
        let mut person = sit_at_shell(&cluster);
        person.types(format!(
            "trap '' TERM; (setsid sh -c \"trap '' HUP TERM; : {marker}; echo de$((1))ep; sleep 1000\" &)\r"
        ));
        person.sees("de1ep");
        let session = sessions(&cluster).remove(0);
        if how == "key" {
            person.types("\r~.");
        } else {
            let id = session.id.to_string();
            cluster.reeve(["sessions", "close", &id]).expect_code(0);
        }
        assert_eq!(person.ends(), 130);
        let mark = format!("REEVE_OPERATION={}", session.id);
        let left = || {
            let all = processes::list();
            all.iter().any(|process| process.environment.contains(&mark) && process.is_alive())
        };
        eventually("nothing of it is left", PATIENCE, || !left());
    }
}

on_each_database! {
    fn recording_is_what_was_shown_when_it_was(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let mut person = sit_at_shell(&cluster);
        person.types("printf 'gr\\303\\274\\303\\237e \\342\\202\\254\\n'\r");
        person.sees("grüße €\r\n");
        person.resizes(90, 30);
        let id = only_session(&cluster).id;
        eventually("the size is known", PATIENCE, || only_session(&cluster).columns == 90);
        person.types("sleep 1; echo later\r");
        person.sees("later\r\n");
        person.types("exit\r");
        assert_eq!(person.ends(), 0);

        let file = cluster.folder().join("day.cast");
        let name = file.to_str().expect("text").to_owned();
        cluster.reeve(["sessions", "export", &id.to_string(), &name]).expect_code(0);
        let text = std::fs::read_to_string(&file).expect("exported");
        let mut lines = text.lines();
        let header: serde_json::Value =
            serde_json::from_str(lines.next().expect("a header")).expect("JSON");
        assert_eq!(
            (&header["version"], &header["width"], &header["height"]),
            (&2.into(), &80.into(), &24.into())
        );
        assert!(header["timestamp"].as_i64().is_some_and(|at| at > 1_700_000_000));
        let events: Vec<(f64, String, String)> =
            lines.map(|line| serde_json::from_str(line).expect("an event")).collect();
        assert!(events.windows(2).all(|pair| pair[0].0 <= pair[1].0), "time goes on");
        let output: String =
            events.iter().filter(|event| event.1 == "o").map(|event| event.2.as_str()).collect();
        assert_eq!(output, shown(&cluster, id), "every byte that was shown");
        assert!(events.iter().any(|event| event.1 == "r" && event.2 == "90x30"), "{events:?}");
        let at = |text: &str| {
            let found = events.iter().rev().find(|event| event.2.contains(text));
            found.unwrap_or_else(|| panic!("{text}: {events:?}")).0
        };
        assert!(at("later") - at("90x30") >= 0.9, "{events:?}");

        // Without pauses, the same bytes.
        let replayed = cluster.reeve(["sessions", "replay", &id.to_string(), "--speed", "0"]);
        replayed.expect_code(0);
        assert_eq!(replayed.text(), output);
        cluster.reeve(["sessions", "list"]).expect_says("web-1").expect_says("90x30");
        cluster.reeve(["sessions", "show", &id.to_string()]).expect_says("recorded");
    }
}

#[test]
fn unrecorded_terminal_has_no_recording() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let terminal = open(&cluster, "web-1", OpenTerminal { record: false, ..plain_shell() });
    let answer = cluster.api.send(
        reqwest::Method::GET,
        &format!("/api/sessions/{}/recording", terminal.id),
        &[],
        Vec::new(),
    );
    assert_eq!(answer.expect("an answer").problem(409).code, "not_recorded");
}

#[test]
fn piped_script_runs_without_a_terminal() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let script = b"test -t 0 || echo no terminal\nexit 9\n".to_vec();
    let run = cluster.reeve_with_input(["shell", "web-1"], script);
    run.expect_code(9).expect_stdout("no terminal\n");
    cluster
        .reeve_with_input(["run", "-t", "web-1", "--", "top"], Vec::new())
        .expect_code(2)
        .expect_says("stdin is no terminal");
}

#[test]
fn sixteen_terminals_are_used_at_once() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut people: Vec<Person> =
        (0..16).map(|_| sit(&cluster, &["shell", "web-1", "--", "/bin/sh"])).collect();
    for (number, person) in people.iter_mut().enumerate() {
        person.types(format!("echo number-$(({number} + 100))\r"));
    }
    for (number, person) in people.iter().enumerate() {
        person.sees(&format!("number-{}", number + 100));
    }
    let open = sessions(&cluster).iter().filter(|each| !each.state.is_terminal()).count();
    assert_eq!(open, 16);
    for person in &mut people {
        person.types("exit\r");
    }
    for person in &mut people {
        assert_eq!(person.ends(), 0);
    }
}

#[test]
fn agent_that_is_killed_leaves_the_terminal_open() {
    let cluster = Cluster::start();
    let mut web = cluster.agent("web-1").start();
    let mut person = sit_at_shell(&cluster);
    person.types("kept=$$\r");
    web.kill9();
    web.restart();
    person.types("[ $kept = $$ ] && echo same $((1 + 1)) shell\r");
    person.sees("same 2 shell");
    person.types("exit\r");
    assert_eq!(person.ends(), 0);
}

#[test]
fn unused_terminal_closes() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let mut person = sit(&cluster, &["shell", "web-1", "--idle-limit", "1s", "--", "/bin/sh"]);
    let before = Instant::now();
    person.sees("closed, because nothing was typed");
    assert_eq!(person.ends(), 124);
    assert!(before.elapsed() < PATIENCE);
}

#[test]
fn machine_whose_owner_allows_no_terminals_opens_none() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy("[allow]\nterminal = false").start();
    let _db = cluster.agent("db-1").policy("[allow]\nexec = \"inspect\"").start();
    for (machine, code) in [("web-1", "policy_terminal"), ("db-1", "policy_exec")] {
        let terminal = open(&cluster, machine, plain_shell());
        assert_eq!(terminal.state, OperationState::Refused);
        assert_eq!(terminal.reason.expect("a reason").code, code);
    }
    let mut person = sit(&cluster, &["shell", "web-1"]);
    person.sees("[allow] terminal");
    assert_eq!(person.ends(), 255);
}

#[test]
fn size_that_makes_no_sense_is_refused() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    for (columns, rows) in [(0, 24), (80, 0), (0, 0), (u16::MAX, 24), (80, u16::MAX), (1001, 24)] {
        let asked = OpenTerminal { columns, rows, ..plain_shell() };
        let answer = cluster.api.post("/api/jobs", &JobRequest::new("web-1", asked));
        let problem = answer.problem(422);
        assert!(problem.detail.contains("from 1 to 1000"), "{problem:?}");
    }
    let terminal = open(&cluster, "web-1", plain_shell());
    let path = format!("/api/operations/{}/resize", terminal.id);
    let nonsense = serde_json::json!({ "columns": 80, "rows": 5000 });
    assert_eq!(cluster.api.post(&path, &nonsense).problem(422).code, "invalid_size");
    let answer = cluster.api.post(&path, &serde_json::json!({ "columns": 70, "rows": 20 }));
    assert_eq!(answer.status, 202, "{answer}");
    let found = eventually_some("the new size is shown", PATIENCE, || {
        let session = only_session(&cluster);
        (session.columns == 70).then_some(session)
    });
    assert_eq!(found.rows, 20);
}
