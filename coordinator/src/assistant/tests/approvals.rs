use reeve_protocol::ops::Mode;
use reeve_sdk::api::{Approval, ApprovalState, Role, SubtaskState, Task, TaskState};
use serde_json::json;

use crate::assistant::testing::{DF, line_of};
use crate::fleet::testing::Agent;
use crate::operations::testing::{Site, eventually, on_each_engine, on_each_engine_with};

/// What each command of the runbook would like to read.
const ACTIVE: &[u8] = b"/lib/systemd/system/nginx.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n";

/// A task that waits for a yes to a restart.
async fn waiting(site: &Site, agent: &mut Agent, more: serde_json::Value) -> Task {
    let task = site.ask("restart nginx on web-1", more).await;
    let looked = agent.play(ACTIVE, 0).await;
    assert_eq!(looked.command.mode, Mode::Inspect);
    site.wait_task(task.id, TaskState::AwaitingApproval).await
}

#[tokio::test]
async fn change_waits_for_a_yes_that_shows_it_and_runs_exactly_that() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = waiting(&site, &mut agent, json!({})).await;
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Request), 0, "it ran without a yes");
        let step = site.wait_step(task.id, 2, "waits", |step| !step.approvals.is_empty()).await;
        assert_eq!(step.state, SubtaskState::AwaitingApproval);
        let approvals = site.approvals_of(task.id).await;
        assert_eq!(approvals.len(), 1);
        assert_eq!(approvals[0].machines[0].name, "web-1");
        assert_eq!(approvals[0].task_id, Some(task.id));
        site.decide_all(&site.admin, task.id, "approve").await;
        let restarted = agent.play(ACTIVE, 0).await;
        let line = line_of(&restarted.command);
        assert!(line.starts_with("systemctl restart nginx"), "{line}");
        assert_eq!(restarted.command.mode, Mode::Normal);
        agent.play(ACTIVE, 0).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert!(task.subtasks.iter().all(|step| step.state == SubtaskState::Met), "{task:#?}");
        let approval: Approval = site.get(&format!("/api/approvals/{}", approvals[0].id)).await;
        assert_eq!(approval.state, ApprovalState::Used);
    })
    .await;
}

#[tokio::test]
async fn no_ends_the_step_and_what_depends_on_it_and_nothing_runs() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = waiting(&site, &mut agent, json!({})).await;
        site.decide_all(&site.admin, task.id, "reject").await;
        let task = site.wait_task(task.id, TaskState::Cancelled).await;
        assert_eq!(task.reason.expect("a reason").code, "approval_rejected");
        assert_eq!(task.subtasks[1].state, SubtaskState::Refused);
        assert_eq!(task.subtasks[2].state, SubtaskState::Skipped);
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Request), 0);
    })
    .await;
}

#[tokio::test]
async fn yes_in_advance_counts_for_changes() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("restart nginx on web-1", json!({ "yes": "change" })).await;
        agent.play(ACTIVE, 0).await;
        agent.play(ACTIVE, 0).await;
        agent.play(ACTIVE, 0).await;
        site.wait_task(task.id, TaskState::Completed).await;
        assert!(site.approvals_of(task.id).await.is_empty(), "somebody was asked");
    })
    .await;
}

#[tokio::test]
async fn machine_that_cannot_inspect_needs_a_yes_even_for_looking() {
    on_each_engine(|site| async move {
        let mut able = site.machine("web-1", true).await;
        let mut unable = site.machine("web-2", false).await;
        let task = site.ask("disk usage", json!({ "selector": "web-*" })).await;
        let looked = able.play(DF, 0).await;
        assert_eq!(looked.command.mode, Mode::Inspect);
        let task = site.wait_task(task.id, TaskState::AwaitingApproval).await;
        let approvals = site.approvals_of(task.id).await;
        let names: Vec<&str> =
            approvals[0].machines.iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(names, ["web-2"]);
        assert!(approvals[0].rule.contains("inspect mode unavailable"), "{}", approvals[0].rule);
        unable.settle().await;
        assert_eq!(unable.kept(&reeve_protocol::Kind::Request), 0);
        site.decide_all(&site.admin, task.id, "approve").await;
        let looked = unable.play(DF, 0).await;
        assert_eq!(looked.command.mode, Mode::Normal);
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.subtasks[0].attempts[0].jobs.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn restart_of_the_coordinator_keeps_waiting_for_the_same_yes() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive_with(&identity, true).await;
        let task = waiting(&site, &mut agent, json!({})).await;
        let before = site.approvals_of(task.id).await;
        let site = site.restart().await;
        let mut agent = site.arrive_with(&identity, true).await;
        let task = site.wait_task(task.id, TaskState::AwaitingApproval).await;
        eventually("the runner", || async {
            let live = site.server.running.state.assistant.is_live(task.id);
            live.then_some(())
        })
        .await;
        assert_eq!(site.approvals_of(task.id).await.len(), before.len(), "asked again");
        site.decide_all(&site.admin, task.id, "approve").await;
        agent.play(ACTIVE, 0).await;
        agent.play(ACTIVE, 0).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.subtasks[1].attempts[0].jobs.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn somebody_elses_approval_is_not_the_tasks_and_nothing_named_is_refused() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let one = waiting(&site, &mut agent, json!({})).await;
        let other = waiting(&site, &mut agent, json!({})).await;
        let foreign = site.approvals_of(other.id).await.remove(0);
        let path = format!("/api/tasks/{}/approve", one.id);
        let body = json!({ "approvals": [{ "id": foreign.id, "digest": foreign.digest }] });
        let request = site.request(reqwest::Method::POST, &path).json(&body);
        crate::testing::refused(request, http::StatusCode::NOT_FOUND, "approval_not_found").await;
        let request = site.request(reqwest::Method::POST, &path).json(&json!({}));
        let status = http::StatusCode::UNPROCESSABLE_ENTITY;
        crate::testing::refused(request, status, "invalid_request").await;
        let viewer = site.add_user("vera", Role::Viewer, "@all").await;
        let request =
            site.server.request_as(&viewer, reqwest::Method::POST, &path).json(&json!({}));
        crate::testing::refused(request, http::StatusCode::FORBIDDEN, "forbidden").await;
    })
    .await;
}

#[tokio::test]
async fn yes_that_does_not_come_in_time_ends_the_step() {
    let soon = |config: &mut crate::config::Config| {
        config.approvals_expire = std::time::Duration::from_secs(1);
    };
    on_each_engine_with(soon, |site| async move {
        let mut agent = site.machine("web-1", false).await;
        let task = site.ask("disk usage", json!({})).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        assert_eq!(task.reason.expect("a reason").code, "approval_expired");
        assert_eq!(task.subtasks[0].state, SubtaskState::Refused);
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Request), 0);
    })
    .await;
}

#[tokio::test]
async fn what_the_policy_denies_is_refused_and_the_task_says_so() {
    let strict = |config: &mut crate::config::Config| {
        let rule = json!({ "match": "@all", "change": "deny" });
        config.policy = vec![serde_json::from_value(rule).expect("a rule")];
    };
    on_each_engine_with(strict, |site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("restart nginx on web-1", json!({ "yes": "all" })).await;
        agent.play(ACTIVE, 0).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        assert_eq!(task.reason.expect("a reason").code, "plan_refused");
        assert_eq!(task.subtasks[1].state, SubtaskState::Refused);
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Request), 0);
    })
    .await;
}
