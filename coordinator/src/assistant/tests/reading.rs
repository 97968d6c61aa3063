use reeve_protocol::ops::Mode;
use reeve_sdk::api::{
    AuditEntry, JobState, Page, SubtaskState, Task, TaskEventKind, TaskState, VerdictOutcome,
};
use serde_json::json;

use crate::assistant::testing::DF;
use crate::operations::testing::on_each_engine;

#[tokio::test]
async fn question_about_one_machine_is_answered_in_inspect_mode_with_evidence() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("how full are the disks on web-1?", json!({})).await;
        assert_eq!(task.machines, ["web-1"]);
        let asked = agent.play(DF, 0).await;
        assert_eq!(asked.command.mode, Mode::Inspect);
        assert!(asked.command.redact, "a model may read it");
        assert_eq!(asked.command.env.get("PAGER").map(String::as_str), Some("cat"));
        assert_eq!(asked.command.timeout_ms, Some(60_000));
        let task = site.wait_task(task.id, TaskState::Completed).await;
        let step = task.subtasks.first().expect("a step");
        assert_eq!(step.state, SubtaskState::Met);
        let group = step.attempts[0].groups.first().expect("a group");
        let verdict = group.verdict.as_ref().expect("a verdict");
        assert_eq!((verdict.outcome, verdict.by.as_str()), (VerdictOutcome::Met, "rules"));
        assert!(group.excerpt.contains("/dev/sda1"), "{}", group.excerpt);
        let summary = task.summary.expect("a summary");
        assert_eq!(summary.by, "rules");
        assert_eq!(task.planner.as_deref(), Some("builtin"));

        let events = site.task_events(task.id, None).await;
        let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, (1..=task.last_event).collect::<Vec<_>>());
        let job = events.iter().find_map(|event| match &event.what {
            TaskEventKind::Job { job, .. } => Some(*job),
            _ => None,
        });
        assert_eq!(site.job(job.expect("a job")).await.state, JobState::Succeeded);
        let later = site.task_events(task.id, Some(task.last_event - 1)).await;
        assert_eq!(later.len(), 1, "{later:?}");

        let audit: Page<AuditEntry> = site.get("/api/audit?limit=1000").await;
        let created = audit.items.iter().find(|entry| entry.action == "task.create");
        assert_eq!(created.expect("a row").target, format!("task:{}", task.id));
    })
    .await;
}

#[tokio::test]
async fn plan_only_runs_nothing_and_lists_and_aliases_show_it() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("disk usage on web-1", json!({ "plan_only": true })).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert!(task.plan_summary.is_some() && task.summary.is_none());
        assert_eq!(task.subtasks[0].state, SubtaskState::Waiting);
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Request), 0);
        let page: Page<Task> = site.get("/api/tasks/list?state=completed").await;
        assert_eq!(page.items.len(), 1);
        let same: Task = site.get(&format!("/api/tasks/status/{}", task.id)).await;
        assert_eq!(same, task);
    })
    .await;
}

#[tokio::test]
async fn like_outputs_of_many_machines_are_one_group_and_the_one_that_differs_stands_out() {
    on_each_engine(|site| async move {
        let mut agents = Vec::new();
        for name in ["web-1", "web-2", "web-3", "web-4"] {
            agents.push(site.machine(name, true).await);
        }
        let task = site.ask("disk usage", json!({ "selector": "web-*" })).await;
        let full = String::from_utf8_lossy(DF).replace("40%", "97%");
        for (at, agent) in agents.iter_mut().enumerate() {
            agent.play(if at == 2 { full.as_bytes() } else { DF }, 0).await;
        }
        let task = site.wait_task(task.id, TaskState::Completed).await;
        let groups = &task.subtasks[0].attempts[0].groups;
        assert_eq!(groups.len(), 2, "{groups:#?}");
        assert_eq!(groups[0].machines, ["web-1", "web-2", "web-4"]);
        assert_eq!(groups[1].machines, ["web-3"]);
        let summary = task.summary.expect("a summary");
        assert!(summary.text.contains("web-3"), "{}", summary.text);
        assert!(summary.quotes.iter().any(|quote| quote.quote.contains("97%")), "{summary:#?}");
    })
    .await;
}

#[tokio::test]
async fn command_that_fails_is_not_met_and_the_task_fails_with_its_reason() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("df -h /nowhere", json!({ "selector": "web-1" })).await;
        agent.play(b"", 1).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        assert_eq!(task.reason.expect("a reason").code, "step_failed");
        assert_eq!(task.subtasks[0].state, SubtaskState::NotMet);
    })
    .await;
}

#[tokio::test]
async fn same_idempotency_key_is_one_task() {
    on_each_engine(|site| async move {
        let body = json!({ "prompt": "disk usage" });
        let send = |body: serde_json::Value| {
            site.request(reqwest::Method::POST, "/api/tasks")
                .header("idempotency-key", "k-1")
                .json(&body)
                .send()
        };
        let first = send(body.clone()).await.expect("an answer");
        assert_eq!(first.status(), 201);
        let first: Task = crate::testing::good(first).await;
        let again = send(body).await.expect("an answer");
        assert_eq!(again.status(), 200);
        let again: Task = crate::testing::good(again).await;
        assert_eq!(first.id, again.id);
        let other = send(json!({ "prompt": "uptime" })).await.expect("an answer");
        assert_eq!(other.status(), 422);
    })
    .await;
}
