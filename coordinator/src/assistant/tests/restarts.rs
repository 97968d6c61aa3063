use reeve_protocol::{Outcome, ReportedState, Stream};
use reeve_sdk::api::{SubtaskState, TaskState};
use serde_json::json;

use crate::assistant::testing::DF;
use crate::fleet::testing::{Agent, Script};
use crate::operations::testing::{Site, on_each_engine};

#[tokio::test]
async fn coordinator_that_restarts_while_a_command_runs_goes_on_and_runs_it_once() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive_with(&identity, true).await;
        let task = site.ask("disk usage", json!({})).await;
        let asked = agent.asked().await;
        agent.accept(asked.id).await;
        agent.settle().await;
        let mut script = Script::new(asked.id);
        let site = site.restart().await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![script.report(ReportedState::Running)]).await;
        agent.settle().await;
        agent.write(&mut script, Stream::Stdout, DF).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.subtasks[0].attempts.len(), 1);
        assert_eq!(task.subtasks[0].attempts[0].jobs.len(), 1);
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Request), 0, "something ran again");
        only_job(&site).await;
    })
    .await;
}

#[tokio::test]
async fn coordinator_that_restarts_before_a_command_started_starts_it_once() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive_with(&identity, true).await;
        let task = site.ask("disk usage", json!({})).await;
        let lost = agent.asked().await;
        let site = site.restart().await;
        let mut agent = site.arrive_with(&identity, true).await;
        let asked = agent.asked().await;
        assert_eq!(asked.id, lost.id, "another operation for the same command");
        agent.end(asked.id, DF, 0).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.subtasks[0].state, SubtaskState::Met);
        only_job(&site).await;
    })
    .await;
}

/// There is one job, whatever happened.
async fn only_job(site: &Site) {
    let page: reeve_sdk::api::Page<reeve_sdk::api::Job> = site.get("/api/jobs").await;
    assert_eq!(page.items.len(), 1, "{:?}", page.items);
}
