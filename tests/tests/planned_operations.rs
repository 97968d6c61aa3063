//! Operations on files, logs and services as steps of a model's plan.

use std::time::Duration;

use reeve_models::fakes::{Asked, Behaviour, FakeModel};
use reeve_protocol::ops::Effect;
use reeve_sdk::api::{
    Job, ModelRole, OperationRequest, Page, SubtaskState, Task, TaskRequest, TaskState, Wire,
};
use reeve_tests::{Cluster, eventually_some};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// A cluster that asks this model for everything.
fn with_model(runtime: &tokio::runtime::Runtime, cluster: &Cluster) -> FakeModel {
    let fake = runtime.block_on(FakeModel::start()).expect("a fake provider");
    let mut provider = fake.provider("fake", Wire::OpenaiChat);
    provider.retries = Some(0);
    let put = |path: &str, body: &Value| {
        let headers = [("content-type", "application/json")];
        let body = body.to_string().into_bytes();
        let answer = cluster.api.send(reqwest::Method::PUT, path, &headers, body).expect("answer");
        assert!(answer.status < 300, "{answer}");
    };
    put("/api/models/fake", &serde_json::to_value(provider).expect("JSON"));
    for role in ModelRole::ALL {
        let path = format!("/api/models/roles/{}", role.as_str());
        put(&path, &json!({ "models": ["fake/fake-model"] }));
    }
    fake
}

/// Plans one operation, and finds in its output what it looks for.
fn answer(asked: &Asked, (name, parameters, effect): (&str, &str, &str), quote: &str) -> Behaviour {
    let has = |field: &str| {
        let schema = asked.schema.as_ref();
        schema.is_some_and(|schema| schema.pointer(&format!("/properties/{field}")).is_some())
    };
    let evidence = json!({
        "result": "R1", "stream": "stdout", "quote": quote, "from": null, "to": null,
    });
    Behaviour::json(if has("steps") {
        json!({
            "kind": "plan", "summary": "Looks at the file.", "question": null, "reason": null,
            "steps": [{
                "id": 1, "machines": ["web-1"], "argv": null, "shell": null,
                "operation": { "name": name, "parameters": parameters }, "cwd": null,
                "purpose": "looks", "expected": "it says so", "effect": effect,
                "timeout_s": null, "depends_on": [], "undo": null, "polling": false,
            }],
        })
    } else if has("outcome") {
        json!({ "outcome": "met", "evidence": [evidence], "reason": "The output says so." })
    } else {
        let mut quoted = evidence;
        quoted["number"] = json!(1);
        json!({ "text": "It is a file [1].", "quotes": [quoted] })
    })
}

#[test]
fn operation_runs_as_a_step_without_a_shell_and_is_judged_by_its_bytes() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("app.conf");
    std::fs::write(&path, b"listen 80\n").expect("a file");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let fake = with_model(&runtime, &cluster);
    let parameters = json!({ "path": path }).to_string();
    fake.answer_with(move |asked| {
        answer(asked, ("file_stat", &parameters, "read"), "\"kind\":\"file\"")
    });

    let request = TaskRequest {
        prompt: "is there a configuration?".to_owned(),
        selector: Some("web-1".to_owned()),
        ..TaskRequest::default()
    };
    let id = cluster.api.post("/api/tasks", &request).json::<Task>().id;
    let task = eventually_some("the task has ended", LONG, || {
        let task: Task = cluster.api.load(&format!("/api/tasks/{id}"));
        task.state.is_terminal().then_some(task)
    });
    assert_eq!(task.state, TaskState::Completed, "{task:#?}");
    let step = &task.subtasks[0];
    assert_eq!((step.effect, step.state), (Effect::Read, SubtaskState::Met), "{step:#?}");
    // Nobody was asked for a yes, and no command ran.
    let jobs: Page<Job> = cluster.api.load("/api/jobs");
    assert_eq!(jobs.items.len(), 1, "{jobs:#?}");
    let OperationRequest::FileStat(stat) = &jobs.items[0].operation else { panic!("{jobs:#?}") };
    assert_eq!(stat.path.as_bytes(), path.to_str().expect("text").as_bytes());
}

#[test]
fn operation_that_changes_something_waits_for_a_yes_to_exactly_what_it_is() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("old.conf");
    std::fs::write(&path, b"listen 80\n").expect("a file");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let fake = with_model(&runtime, &cluster);
    let new = folder.path().join("kept.conf");
    let parameters = json!({ "from": path, "to": new }).to_string();
    // It calls that harmless, which does not count.
    fake.answer_with(move |asked| answer(asked, ("file_move", &parameters, "read"), "kept.conf"));
    let request = TaskRequest {
        prompt: "give the old configuration another name".to_owned(),
        selector: Some("web-1".to_owned()),
        ..TaskRequest::default()
    };
    let id = cluster.api.post("/api/tasks", &request).json::<Task>().id;
    let waiting = eventually_some("the task waits", LONG, || {
        let task: Task = cluster.api.load(&format!("/api/tasks/{id}"));
        assert!(!task.state.is_terminal(), "{task:#?}");
        (task.state == TaskState::AwaitingApproval).then_some(task)
    });
    assert_eq!(waiting.subtasks[0].effect, Effect::Change, "{waiting:#?}");
    assert!(path.exists(), "it was moved before anybody said yes");
    let id = id.to_string();
    let approved = cluster.reeve(["tasks", "approve", &id, "--yes"]);
    let exactly = format!("file_move {{\"from\":\"{}\"", path.display());
    approved.expect_code(0).expect_says(&exactly);
    eventually_some("the task has ended", LONG, || {
        let task: Task = cluster.api.load(&format!("/api/tasks/{id}"));
        task.state.is_terminal().then_some(())
    });
    assert!(!path.exists() && new.exists(), "it is still there");
}
