use std::time::Duration;

use reeve_protocol::{Control, Outcome};
use reeve_sdk::api::{
    Approval, ApprovalState, AuditEntry, JobState, Page, SubtaskState, TaskState,
};
use serde_json::json;

use crate::assistant::testing::DF;
use crate::fleet::testing::Script;
use crate::operations::testing::{on_each_engine, on_each_engine_at, on_each_engine_with};
use crate::testing::refused;

#[tokio::test]
async fn cancelling_ends_the_jobs_and_the_task() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("disk usage", json!({})).await;
        let asked = agent.asked().await;
        agent.accept(asked.id).await;
        let path = format!("/api/tasks/{}/cancel", task.id);
        site.post(&path, json!({ "reason": "enough" })).await;
        assert!(matches!(agent.control(asked.id).await, Control::Cancel { .. }));
        let outcome = Outcome::Cancelled { exit_code: None, signal: Some(15) };
        agent.finish(&Script::new(asked.id), outcome).await;
        let task = site.wait_task(task.id, TaskState::Cancelled).await;
        let reason = task.reason.expect("a reason");
        assert!(reason.message.contains("enough"), "{}", reason.message);
        assert_eq!(task.subtasks[0].state, SubtaskState::Cancelled);
        let job = task.subtasks[0].attempts[0].jobs[0];
        assert_eq!(site.job(job).await.state, JobState::Cancelled);
        let request = site.request(reqwest::Method::POST, &path).json(&json!({}));
        refused(request, http::StatusCode::CONFLICT, "task_ended").await;
        let audit: Page<AuditEntry> = site.get("/api/audit?limit=1000").await;
        assert_eq!(audit.items.iter().filter(|entry| entry.action == "task.cancel").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn cancelling_withdraws_what_is_waited_for() {
    on_each_engine(|site| async move {
        let _agent = site.machine("web-1", false).await;
        let task = site.ask("disk usage", json!({})).await;
        site.wait_task(task.id, TaskState::AwaitingApproval).await;
        let approval = site.approvals_of(task.id).await.remove(0);
        site.post(&format!("/api/tasks/{}/cancel", task.id), json!({})).await;
        site.wait_task(task.id, TaskState::Cancelled).await;
        let approval: Approval = site.get(&format!("/api/approvals/{}", approval.id)).await;
        assert_eq!(approval.state, ApprovalState::Withdrawn);
    })
    .await;
}

#[tokio::test]
async fn task_that_asks_something_can_be_cancelled() {
    on_each_engine(|site| async move {
        let _agent = site.machine("web-1", true).await;
        let task = site.ask("write me a poem about ducks", json!({})).await;
        site.wait_task(task.id, TaskState::NeedsAnswer).await;
        site.post(&format!("/api/tasks/{}/cancel", task.id), json!({})).await;
        let task = site.wait_task(task.id, TaskState::Cancelled).await;
        assert!(task.question.is_none() && task.finished.is_some());
    })
    .await;
}

#[tokio::test]
async fn task_that_takes_too_long_ends_with_its_commands() {
    on_each_engine_at(|site, time| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("disk usage", json!({})).await;
        let asked = agent.asked().await;
        agent.accept(asked.id).await;
        let limit = site.server.running.state.config.assistant.time_limit;
        time.go_on(limit + Duration::from_secs(1));
        assert!(matches!(agent.control(asked.id).await, Control::Cancel { .. }));
        let outcome = Outcome::Cancelled { exit_code: None, signal: Some(15) };
        agent.finish(&Script::new(asked.id), outcome).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        assert_eq!(task.reason.expect("a reason").code, "time_limit");
    })
    .await;
}

#[tokio::test]
async fn no_more_tasks_are_at_work_than_may_be_and_the_rest_wait_their_turn() {
    let one = |config: &mut crate::config::Config| config.assistant.max_tasks = 1;
    on_each_engine_with(one, |site| async move {
        let mut agent = site.machine("web-1", true).await;
        let first = site.ask("disk usage", json!({})).await;
        let asked = agent.asked().await;
        let second = site.ask("disk usage", json!({})).await;
        let third = site.ask("disk usage", json!({})).await;
        agent.settle().await;
        assert_eq!(site.task(second.id).await.state, TaskState::Pending);
        site.post(&format!("/api/tasks/{}/cancel", third.id), json!({})).await;
        site.wait_task(third.id, TaskState::Cancelled).await;
        agent.end(asked.id, DF, 0).await;
        site.wait_task(first.id, TaskState::Completed).await;
        agent.play(DF, 0).await;
        site.wait_task(second.id, TaskState::Completed).await;
    })
    .await;
}

#[tokio::test]
async fn old_tasks_are_swept_and_others_stay() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("disk usage", json!({})).await;
        agent.play(DF, 0).await;
        site.wait_task(task.id, TaskState::Completed).await;
        let assistant = &site.server.running.state.assistant;
        assistant.sweep_once(Duration::from_secs(3600)).await.expect("a sweep");
        site.task(task.id).await;
        assistant.sweep_once(Duration::ZERO).await.expect("a sweep");
        let request = site.request(reqwest::Method::GET, &format!("/api/tasks/{}", task.id));
        refused(request, http::StatusCode::NOT_FOUND, "task_not_found").await;
    })
    .await;
}
