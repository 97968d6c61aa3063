//! Requests in words, answered by the runbooks inside the coordinator: nothing here has a model.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reeve_protocol::TaskId;
use reeve_protocol::ops::{Effect, Mode};
use reeve_sdk::api::{
    Job, OperationRequest, Page, SubtaskState, Task, TaskRequest, TaskState, VerdictOutcome,
};
use reeve_tests::{Cluster, Gate, eventually, eventually_some, on_each_database, require_root};

const LONG: Duration = Duration::from_secs(60);

fn ask(cluster: &Cluster, selector: &str, prompt: &str) -> TaskId {
    let request = TaskRequest {
        prompt: prompt.to_owned(),
        selector: Some(selector.to_owned()),
        ..TaskRequest::default()
    };
    cluster.api.post("/api/tasks", &request).json::<Task>().id
}

fn task(cluster: &Cluster, id: TaskId) -> Task {
    cluster.api.load(&format!("/api/tasks/{id}"))
}

fn wait_for(cluster: &Cluster, id: TaskId, state: TaskState) -> Task {
    eventually_some(&format!("the task is {}", state.as_str()), LONG, || {
        let task = task(cluster, id);
        assert!(task.state == state || !task.state.is_terminal(), "it ended otherwise: {task:#?}");
        (task.state == state).then_some(task)
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

on_each_database! {
    fn question_is_planned_answered_in_inspect_mode_judged_and_summed_up(builder) {
        require_root("inspect mode needs it");
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let asked = cluster.reeve(["ask", "web-1", "how full are the disks?"]);
        asked.expect_code(0).expect_says("Plan by builtin").expect_says("df ").expect_says("Summary");
        let tasks: Page<Task> = cluster.api.load("/api/tasks");
        let task = &tasks.items[0];
        assert_eq!(task.state, TaskState::Completed, "{task:#?}");
        for step in &task.subtasks {
            assert_eq!((step.effect, step.state), (Effect::Read, SubtaskState::Met), "{task:#?}");
            for group in step.attempts.iter().flat_map(|attempt| &attempt.groups) {
                let verdict = group.verdict.as_ref().expect("a verdict");
                assert_eq!(verdict.outcome, VerdictOutcome::Met);
            }
        }
        // What ran, ran where the kernel keeps it from changing anything.
        let jobs: Page<Job> = cluster.api.load("/api/jobs");
        assert!(!jobs.items.is_empty());
        for job in jobs.items {
            let OperationRequest::ExecuteCommand(command) = job.operation else { panic!("{job:?}") };
            assert_eq!(command.mode, Mode::Inspect, "{command:?}");
            assert!(command.redact, "{command:?}");
        }
        let summary = task.summary.as_ref().expect("a summary");
        for quote in &summary.quotes {
            let path = format!("/api/operations/{}/output?stream=stdout&from=0", quote.operation);
            let output = cluster.api.get(&path).body;
            let span = &output[quote.from as usize..quote.to as usize];
            assert_eq!(String::from_utf8_lossy(span), quote.quote, "a quote that stands nowhere");
        }
        cluster.reeve(["tasks", "show", &task.id.to_string()]).expect_code(0).expect_says("Summary");
    }

    fn change_runs_after_a_yes_to_its_exact_bytes_and_not_before(builder) {
        let cluster = builder.start();
        let web = cluster.agent("web-1").start();
        let mark = web.state().with_file_name("mark-change");
        let line = format!("echo once >> {}", mark.display());
        let id = ask(&cluster, "web-1", &line);
        let waiting = wait_for(&cluster, id, TaskState::AwaitingApproval);
        assert_ne!(waiting.subtasks[0].effect, Effect::Read);
        assert!(!mark.exists(), "it ran before anybody said yes");
        let shown = cluster.reeve(["tasks", "approve", &id.to_string(), "--yes"]);
        shown.expect_code(0).expect_says(&line);
        let done = wait_for(&cluster, id, TaskState::Completed);
        assert_eq!(read(&mark), "once\n");
        assert_eq!(done.subtasks[0].state, SubtaskState::Met);
        let audit = String::from_utf8(cluster.api.get("/api/audit?limit=100").body).expect("text");
        for action in ["task.create", "approval.approve"] {
            assert!(audit.contains(action), "{action} is not in {audit}");
        }
    }

    fn coordinator_killed_while_a_step_runs_goes_on_and_repeats_no_command(builder) {
        let mut cluster = builder.start();
        let web = cluster.agent("web-1").start();
        let gate = Gate::in_folder(cluster.folder());
        let mark = web.state().with_file_name("mark-kill");
        let line = format!("echo once >> {}; {}", mark.display(), gate.wait());
        let id = ask(&cluster, "web-1", &line);
        wait_for(&cluster, id, TaskState::AwaitingApproval);
        // Killed while it waits for a yes: the question is still there afterwards.
        cluster.coordinator.kill9();
        cluster.coordinator.start();
        wait_for(&cluster, id, TaskState::AwaitingApproval);
        web.wait_until(reeve_sdk::api::MachineState::Online);
        cluster.reeve(["tasks", "approve", &id.to_string(), "--yes"]).expect_code(0);
        eventually("the command runs", LONG, || gate.has_commands());
        cluster.coordinator.kill9();
        cluster.coordinator.start();
        gate.open();
        wait_for(&cluster, id, TaskState::Completed);
        assert_eq!(read(&mark), "once\n", "it ran twice");
        let jobs: Page<Job> = cluster.api.load("/api/jobs");
        assert_eq!(jobs.items.len(), 1);
    }
}

/// Steps that run at the same time share the task's record, and each other's waiting for the
/// database.
#[test]
fn many_steps_at_once_all_come_to_an_end() {
    require_root("inspect mode needs it");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let words = "show the load, the memory, the uptime, the kernel and the mounts";
    let ids: Vec<TaskId> = (0..8).map(|_| ask(&cluster, "web-1", words)).collect();
    for id in ids {
        let ended = wait_for(&cluster, id, TaskState::Completed);
        assert!(ended.subtasks.len() >= 4, "{:#?}", ended.subtasks);
    }
}

#[test]
fn rejected_change_is_never_run() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let mark = web.state().with_file_name("mark-reject");
    let id = ask(&cluster, "web-1", &format!("echo once >> {}", mark.display()));
    wait_for(&cluster, id, TaskState::AwaitingApproval);
    cluster.reeve(["tasks", "reject", &id.to_string(), "--yes", "--reason", "no"]).expect_code(0);
    let ended = eventually_some("the task has ended", LONG, || {
        let task = task(&cluster, id);
        task.state.is_terminal().then_some(task)
    });
    assert_ne!(ended.state, TaskState::Completed, "{ended:#?}");
    assert!(!mark.exists());
    let jobs: Page<Job> = cluster.api.load("/api/jobs");
    assert!(jobs.items.is_empty(), "something ran");
}

#[test]
fn change_said_yes_to_in_advance_runs_without_a_question() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").start();
    let mark = web.state().with_file_name("mark-advance");
    let line = format!("echo once >> {}", mark.display());
    cluster.reeve(["ask", "web-1", &line, "--yes=change"]).expect_code(0);
    assert_eq!(read(&mark), "once\n");
    // What destroys is not a change.
    let line = format!("rm -rf {}", mark.display());
    let asked = cluster.reeve(["ask", "web-1", &line, "--yes=change"]);
    asked.expect_code(1).expect_says("waits for a yes");
    assert!(mark.exists(), "{asked}");
}

#[test]
fn policy_for_two_people_holds_for_words_and_for_commands() {
    let cluster = Cluster::builder()
        .config("[[policy]]\nmatch = \"env=prod\"\nchange = \"approve:2\"\ndestroy = \"deny\"\n")
        .start();
    let prod = cluster.agent("prod-1").label("env", "prod").start();
    let _lab = cluster.agent("lab-1").start();
    let mark = prod.state().with_file_name("mark-policy");
    let line = format!("echo once >> {}", mark.display());
    // A direct command, too, waits for people; elsewhere it runs at once.
    cluster.reeve(["run", "lab-1", "--shell", &line]).expect_code(0);
    fs::remove_file(&mark).expect("it ran");
    cluster.reeve(["run", "prod-1", "--shell", &line, "--detach"]);
    let id = ask(&cluster, "prod-1", &line);
    wait_for(&cluster, id, TaskState::AwaitingApproval);
    // The asker's own yes does not count.
    let own = cluster.reeve(["tasks", "approve", &id.to_string(), "--yes"]);
    assert_ne!(own.code, 0, "{own}");
    assert!(!mark.exists(), "one person was enough");
    let denied = ask(&cluster, "prod-1", "rm -rf /srv/data");
    let ended = eventually_some("the task has ended", LONG, || {
        let task = task(&cluster, denied);
        task.state.is_terminal().then_some(task)
    });
    assert_eq!(ended.state, TaskState::Failed, "{ended:#?}");
    assert!(!mark.exists());
}

#[test]
fn model_that_cannot_be_asked_is_named_with_the_remedy_and_commands_do_not_care() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let passphrase = cluster.folder().join("passphrase");
    fs::write(&passphrase, "seven horses in the rain\n").expect("written");
    let passphrase = passphrase.to_str().expect("text");
    cluster.reeve(["vault", "init", "--passphrase-file", passphrase]).expect_code(0);
    let key = cluster.folder().join("key");
    fs::write(&key, "sk-example-0123456789abcdefghij\n").expect("written");
    cluster.reeve(["vault", "add", "lab", "--file", key.to_str().expect("text")]).expect_code(0);
    let add = ["models", "add", "lab", "--wire", "openai_chat", "--base-url", "http://127.0.0.1:9"];
    cluster.reeve(add.into_iter().chain(["--key", "lab", "--model", "m"])).expect_code(0);
    cluster.reeve(["models", "use", "planner", "lab/m"]).expect_code(0);
    let words = ["ask", "web-1", "how full are the disks?"];
    cluster.reeve(["vault", "lock"]).expect_code(0);
    cluster.reeve(words).expect_code(255).expect_says("lab").expect_says("vault unlock");
    let status = cluster.reeve(["status"]);
    status.expect_code(0).expect_says("sealed").expect_says("lab");
    cluster.reeve(["vault", "unlock", "--passphrase-file", passphrase]).expect_code(0);
    cluster.reeve(words).expect_code(255).expect_says("cannot reach lab");
    cluster.reeve(["run", "web-1", "--", "echo", "here"]).expect_code(0).expect_stdout("here\n");
    // With the runbooks behind it, the same words are answered.
    cluster.reeve(["models", "use", "planner", "lab/m,builtin"]).expect_code(0);
    cluster.reeve(["ask", "web-1", "how full are the disks?"]).expect_code(0);
}

#[test]
fn what_no_runbook_knows_is_said_with_the_nearest_and_nothing_runs() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let asked = cluster.reeve(["ask", "web-1", "write me a poem about the sea"]);
    asked.expect_code(255).expect_says("model");
    let jobs: Page<Job> = cluster.api.load("/api/jobs");
    assert!(jobs.items.is_empty());
}

#[test]
fn bad_requests_end_in_a_named_state_or_a_clear_line() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    cluster.reeve(["ask", "web-1", " "]).expect_code(2);
    let none = cluster.reeve(["ask", "role=nothing", "how full are the disks?"]);
    none.expect_code(255).expect_says("role=nothing");
    let long = "x ".repeat(20_000);
    let request = TaskRequest { prompt: long, ..TaskRequest::default() };
    let answer = cluster.api.post("/api/tasks", &request);
    let too_long = if answer.status == 201 {
        let id = answer.json::<Task>().id;
        let failed = wait_for(&cluster, id, TaskState::Failed);
        failed.reason.expect("a reason").code
    } else {
        answer.problem(422).code
    };
    assert_eq!(too_long, "prompt_too_long");
    let model = TaskRequest {
        prompt: "how full are the disks?".to_owned(),
        model: Some("nobody/nothing".to_owned()),
        ..TaskRequest::default()
    };
    let id = cluster.api.post("/api/tasks", &model).json::<Task>().id;
    let failed = wait_for(&cluster, id, TaskState::Failed);
    let reason = failed.reason.expect("a reason");
    assert_eq!(reason.code, "model_unknown", "{reason:?}");
    assert!(
        reason.message.contains("nobody") && reason.message.contains("models add"),
        "{reason:?}"
    );
}
