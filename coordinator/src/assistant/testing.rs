//! A coordinator, scripted agents and tasks: what tests of the assistant begin with.

use reeve_protocol::ops::ExecuteCommand;
use reeve_protocol::{Facts, InspectFact, OperationId, Outcome, Stream, TaskId, decode};
use reeve_sdk::api::{
    Approval, ApprovalChoice, Machine, Subtask, Task, TaskDecision, TaskEvent, TaskEventKind,
    TaskState,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fleet::testing::{Agent, Identity, Script};
use crate::operations::testing::{Events, Site, eventually};

/// A line of `df` that no rule minds.
pub const DF: &[u8] =
    b"Filesystem Type Size Used Avail Use% Mounted on\n/dev/sda1 ext4 20G 8G 12G 40% /\n";

/// What a machine says of itself.
pub fn facts(inspect: bool) -> Facts {
    Facts {
        hostname: "host.example.org".to_owned(),
        os_id: "debian".to_owned(),
        os_version: "12".to_owned(),
        init: "systemd".to_owned(),
        package_manager: "apt".to_owned(),
        inspect: Some(InspectFact {
            available: inspect,
            reason: if inspect { String::new() } else { "no user namespaces".to_owned() },
            walls: vec![],
        }),
        ..Facts::default()
    }
}

impl Site {
    /// A machine that is here and can (or cannot) keep commands from changing anything.
    pub async fn machine(&self, name: &str, inspect: bool) -> Agent {
        let identity = self.join(name).await;
        self.arrive_with(&identity, inspect).await
    }

    /// A machine's agent connects and says what it can.
    pub async fn arrive_with(&self, identity: &Identity, inspect: bool) -> Agent {
        let mut agent = Agent::connect(&self.server, identity).await;
        agent.say(&facts(inspect)).await;
        agent.report(vec![]).await;
        agent.settle().await;
        let path = format!("/api/machines/{}", identity.name);
        eventually("the machine's facts", || async {
            let machine: Machine = self.get(&path).await;
            machine.facts.inspect.filter(|fact| fact.available == inspect)
        })
        .await;
        agent
    }

    /// Asks in words.
    pub async fn ask(&self, words: &str, more: Value) -> Task {
        self.ask_as(&self.admin, words, more).await
    }

    pub async fn ask_as(&self, token: &str, words: &str, more: Value) -> Task {
        let body = crate::operations::testing::with(json!({ "prompt": words }), more);
        self.server.post(token, "/api/tasks", &body).await
    }

    pub async fn task(&self, id: TaskId) -> Task {
        self.get(&format!("/api/tasks/{id}")).await
    }

    /// Waits for a state, which must come.
    pub async fn wait_task(&self, id: TaskId, state: TaskState) -> Task {
        eventually(&format!("task {}", state.as_str()), || async {
            let task = self.task(id).await;
            let wrong = task.state.is_terminal() && task.state != state;
            assert!(!wrong, "wanted {}: {task:#?}", state.as_str());
            (task.state == state).then_some(task)
        })
        .await
    }

    /// Waits until a step looks like this.
    pub async fn wait_step(
        &self,
        id: TaskId,
        number: u32,
        what: &str,
        looks: impl Fn(&Subtask) -> bool,
    ) -> Subtask {
        eventually(&format!("step {number} {what}"), || async {
            let task = self.task(id).await;
            task.subtasks.into_iter().find(|step| step.number == number && looks(step))
        })
        .await
    }

    /// Every event of a task that has come to its end or a question.
    pub async fn task_events(&self, id: TaskId, last: Option<u64>) -> Vec<TaskEvent> {
        let last = last.map(|last| last.to_string());
        let path = format!("/api/tasks/{id}/events");
        let mut events = Events::open(self, &self.admin, &path, last.as_deref()).await;
        let mut seen = Vec::new();
        loop {
            let event = events.next().await.expect("an event `end`");
            if event.name == "end" {
                return seen;
            }
            let parsed: TaskEvent = serde_json::from_value(event.data).expect("an event");
            if parsed.sequence > 0 {
                assert_eq!(event.id.as_deref(), Some(parsed.sequence.to_string().as_str()));
            }
            seen.push(parsed);
        }
    }

    /// What a task waits for now, from its events.
    pub async fn approvals_of(&self, id: TaskId) -> Vec<Approval> {
        let conn = &mut *self.server.running.state.db.reader().await.expect("a reader");
        let events = super::store::list_events(conn, id, 0, 10_000).await.expect("events");
        events
            .into_iter()
            .filter_map(|event| match event.what {
                TaskEventKind::Approval(approval) => Some(*approval),
                _ => None,
            })
            .collect()
    }

    /// Says yes or no to everything a task has asked for.
    pub async fn decide_all(&self, token: &str, id: TaskId, word: &str) -> Task {
        let approvals = self.approvals_of(id).await;
        let choices = approvals
            .into_iter()
            .map(|one| ApprovalChoice { id: one.id, digest: one.digest })
            .collect();
        let decision = TaskDecision { approvals: choices, ..TaskDecision::default() };
        self.server.post(token, &format!("/api/tasks/{id}/{word}"), &decision).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.server.post(&self.admin, path, &body).await
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.server.request_as(&self.admin, method, path)
    }
}

/// A command that an agent was asked to run.
pub struct Asked {
    pub id: OperationId,
    pub command: ExecuteCommand,
}

impl Agent {
    /// The next command, not started.
    pub async fn asked(&mut self) -> Asked {
        let (id, request) = self.request().await;
        Asked { id, command: decode(&request.body).expect("a command") }
    }

    /// Runs the next command to its end.
    pub async fn play(&mut self, stdout: &[u8], code: i32) -> Asked {
        let asked = self.asked().await;
        self.end(asked.id, stdout, code).await;
        asked
    }

    /// Runs a command to its end.
    pub async fn end(&mut self, id: OperationId, stdout: &[u8], code: i32) {
        self.accept(id).await;
        let mut script = Script::new(id);
        if !stdout.is_empty() {
            self.write(&mut script, Stream::Stdout, stdout).await;
        }
        self.finish(&script, Outcome::Exited { code }).await;
    }
}

/// A command as a line.
pub fn line_of(command: &ExecuteCommand) -> String {
    match &command.command {
        reeve_protocol::ops::Command::Argv(argv) => argv.join(" "),
        reeve_protocol::ops::Command::Shell(line) => line.clone(),
    }
}

impl super::Assistant {
    /// Whether a task has a runner.
    pub fn is_live(&self, id: TaskId) -> bool {
        self.live().contains_key(&id)
    }
}
