//! A person at a terminal of a machine.

use std::time::Duration;

use reeve_protocol::ops::OpenTerminal;
use reeve_sdk::api::{JobRequest, Operation, OperationState};
use reeve_tests::{Cluster, eventually};

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

fn shown(cluster: &Cluster, operation: &Operation) -> String {
    let path = format!("/api/operations/{}/output", operation.id);
    let answer = cluster.api.send(reqwest::Method::GET, &path, &[], Vec::new()).expect("an answer");
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[track_caller]
fn wait_for(cluster: &Cluster, operation: &Operation, text: &str) {
    eventually(&format!("'{text}' is shown"), PATIENCE, || {
        shown(cluster, operation).contains(text)
    });
}

fn type_in(cluster: &Cluster, operation: &Operation, offset: usize, bytes: &[u8]) -> usize {
    let path = format!("/api/operations/{}/input?offset={offset}", operation.id);
    let answer =
        cluster.api.send(reqwest::Method::POST, &path, &[], bytes.to_vec()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer}");
    offset + bytes.len()
}

#[test]
fn what_is_typed_is_shown_and_closing_ends_it() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let asked = OpenTerminal { columns: 91, rows: 31, ..plain_shell() };
    let terminal = open(&cluster, "web-1", asked);
    assert_eq!(terminal.state, OperationState::Running);
    let at = type_in(&cluster, &terminal, 0, b"stty size; echo $((6 * 7))\r");
    wait_for(&cluster, &terminal, "31 91\r\n42\r\n");
    type_in(&cluster, &terminal, at, b"exit 5\r");
    let path = format!("/api/operations/{}", terminal.id);
    eventually("it has ended", PATIENCE, || {
        cluster.api.load::<Operation>(&path).state.is_terminal()
    });
    assert_eq!(cluster.api.load::<Operation>(&path).exit_code, Some(5));
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
}

#[test]
fn size_that_makes_no_sense_is_refused() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    for (columns, rows) in [(0, 24), (80, 0), (u16::MAX, 24)] {
        let asked = OpenTerminal { columns, rows, ..plain_shell() };
        let answer = cluster.api.post("/api/jobs", &JobRequest::new("web-1", asked));
        let problem = answer.problem(422);
        assert!(problem.detail.contains("from 1 to 1000"), "{problem:?}");
    }
}
