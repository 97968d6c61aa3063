//! The network between the coordinator and a model: slow, cut in the middle of a reply, half closed,
//! silent. A task goes on with what stands behind that model in the list, and nothing runs
//! twice.

use std::time::Duration;

use reeve_models::fakes::{Asked, Behaviour, FakeModel};
use reeve_sdk::api::{Job, ModelRole, Page, Task, TaskRequest, TaskState, Wire};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, eventually_some};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(90);

/// A cluster with a model behind a proxy.
struct Scene {
    cluster: Cluster,
    _web: reeve_tests::Agent,
    fake: FakeModel,
    proxy: Proxy,
    _runtime: Runtime,
    providers: u32,
}

impl Scene {
    fn new() -> Self {
        let cluster = Cluster::start();
        let web = cluster.agent("web-1").start();
        let runtime = Runtime::new().expect("a runtime");
        let fake = runtime.block_on(FakeModel::start()).expect("a fake provider");
        fake.answer_with(answer);
        let proxy = Proxy::to(&fake.address().to_string());
        Self { cluster, _web: web, fake, proxy, _runtime: runtime, providers: 0 }
    }

    fn put(&self, path: &str, body: &Value) {
        let headers = [("content-type", "application/json")];
        let body = body.to_string().into_bytes();
        let answer = self.cluster.api.send(reqwest::Method::PUT, path, &headers, body);
        let answer = answer.expect("an answer");
        assert!(answer.status < 300, "{answer}");
    }

    /// A provider that nobody has had trouble with yet, behind the proxy; it is asked first, and then
    /// these are.
    fn provide(&mut self, behind: &[&str]) {
        self.providers += 1;
        let name = format!("fake{}", self.providers);
        let mut provider = self.fake.provider(&name, Wire::OpenaiChat);
        let direct = self.fake.address().to_string();
        provider.base_url =
            provider.base_url.map(|url| url.replace(&direct, &self.proxy.address().to_string()));
        provider.retries = Some(0);
        provider.connect_timeout_ms = Some(2000);
        provider.first_byte_timeout_ms = Some(2000);
        provider.idle_timeout_ms = Some(2000);
        self.put(&format!("/api/models/{name}"), &serde_json::to_value(provider).expect("JSON"));
        let first = format!("{name}/fake-model");
        let models: Vec<&str> = std::iter::once(first.as_str()).chain(behind.to_vec()).collect();
        for role in ModelRole::ALL {
            let path = format!("/api/models/roles/{}", role.as_str());
            self.put(&path, &json!({ "models": models }));
        }
    }

    fn ask(&self) -> Task {
        let request = TaskRequest {
            prompt: "how full are the disks?".to_owned(),
            selector: Some("web-1".to_owned()),
            ..TaskRequest::default()
        };
        let id = self.cluster.api.post("/api/tasks", &request).json::<Task>().id;
        eventually_some("the task has ended", LIMIT, || {
            let task: Task = self.cluster.api.load(&format!("/api/tasks/{id}"));
            task.state.is_terminal().then_some(task)
        })
    }

    fn count_jobs(&self) -> usize {
        self.cluster.api.load::<Page<Job>>("/api/jobs?limit=200").items.len()
    }
}

/// A plan of one step, its verdict, its summary.
fn answer(asked: &Asked) -> Behaviour {
    let has = |field: &str| {
        let schema = asked.schema.as_ref();
        schema.is_some_and(|schema| schema.pointer(&format!("/properties/{field}")).is_some())
    };
    let evidence = json!({
        "result": "R1", "stream": "stdout", "quote": "Filesystem", "from": null, "to": null,
    });
    Behaviour::json(if has("steps") {
        json!({
            "kind": "plan", "summary": "Looks at the disks.", "question": null, "reason": null,
            "steps": [{
                "id": 1, "machines": ["web-1"], "argv": ["df", "-P"], "shell": null,
                "operation": null, "cwd": null, "purpose": "looks", "expected": "it says so",
                "effect": "read", "timeout_s": null, "depends_on": [], "undo": null,
                "polling": false,
            }],
        })
    } else if has("outcome") {
        json!({ "outcome": "met", "evidence": [evidence], "reason": "The output says so." })
    } else {
        let mut quoted = evidence;
        quoted["number"] = json!(1);
        json!({ "text": "There are disks [1].", "quotes": [quoted] })
    })
}

/// Where in what the model says the fault comes: before, in the head, in the stream.
const PLACES: [u64; 4] = [0, 20, 200, 600];

#[test]
fn task_goes_on_behind_a_model_whose_connection_fails_anywhere() {
    let mut scene = Scene::new();
    for fault in [Fault::Reset, Fault::Close, Fault::HalfClose, Fault::BlackHole] {
        for place in PLACES {
            scene.provide(&["builtin"]);
            let (faults, jobs) = (scene.proxy.faults(), scene.count_jobs());
            scene.proxy.after(Direction::Down, place, fault);
            let task = scene.ask();
            let told = format!("{fault:?} at byte {place} of a reply: {task:#?}");
            assert_eq!(scene.proxy.faults(), faults + 1, "{told}");
            assert_eq!(task.state, TaskState::Completed, "{told}");
            // Each step ran once, whoever planned it.
            let steps: usize = task
                .subtasks
                .iter()
                .flat_map(|step| &step.attempts)
                .map(|attempt| attempt.jobs.len())
                .sum();
            assert_eq!(scene.count_jobs() - jobs, steps, "{told}");
            scene.proxy.cut();
            scene.proxy.calm();
        }
    }
}

#[test]
fn slow_model_is_waited_for_and_a_silent_one_is_not() {
    let mut scene = Scene::new();
    scene.provide(&["builtin"]);
    scene.proxy.delay(Duration::from_millis(300));
    let asked = scene.fake.asked().len();
    let task = scene.ask();
    assert_eq!(task.state, TaskState::Completed, "{task:#?}");
    assert!(scene.fake.asked().len() >= asked + 3, "plan, verdict, summary: {task:#?}");
    scene.proxy.calm();

    // Connections are taken, and nothing is ever heard on them.
    scene.provide(&["builtin"]);
    scene.proxy.freeze();
    let task = scene.ask();
    assert_eq!(task.state, TaskState::Completed, "{task:#?}");

    scene.proxy.cut();
    scene.proxy.calm();

    // And back again, without help.
    scene.provide(&[]);
    let task = scene.ask();
    assert_eq!(task.state, TaskState::Completed, "{task:#?}");
}
