use std::time::Duration;

use reeve_protocol::ops::{ExplainOperation, Findings};
use reeve_protocol::{Control, Outcome, Stream, decode};
use reeve_sdk::api::{StallAdvice, TaskEventKind, TaskState};
use serde_json::json;

use crate::assistant::testing::DF;
use crate::fleet::testing::{Agent, Script};
use crate::operations::testing::on_each_engine_with;

/// The machine says what a command waits for.
async fn explain(agent: &mut Agent, about: &Script, findings: &Findings) {
    let (id, request) = agent.request().await;
    let asked: ExplainOperation = decode(&request.body).expect("a question");
    assert_eq!(asked.operation, about.id);
    agent.accept(id).await;
    let mut script = Script::new(id);
    let text = serde_json::to_vec(findings).expect("JSON");
    agent.write(&mut script, Stream::Stdout, &text).await;
    agent.finish(&script, Outcome::Exited { code: 0 }).await;
}

#[tokio::test]
async fn silent_command_is_looked_into_and_its_user_is_told_why_it_hangs() {
    let soon = |config: &mut crate::config::Config| {
        config.assistant.stall_after = Duration::from_millis(200);
    };
    on_each_engine_with(soon, |site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("disk usage", json!({})).await;
        let asked = agent.asked().await;
        agent.accept(asked.id).await;
        let mut script = Script::new(asked.id);
        explain(&mut agent, &script, &Findings { silent_ms: 200, ..Findings::default() }).await;
        let step = site
            .wait_step(task.id, 1, "with a stall", |step| !step.attempts[0].stalls.is_empty())
            .await;
        let stall = &step.attempts[0].stalls[0];
        assert_eq!((stall.operation, stall.by.as_str()), (asked.id, "rules"));
        assert_eq!(stall.advice, StallAdvice::Wait);
        agent.write(&mut script, Stream::Stdout, DF).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        let events = site.task_events(task.id, None).await;
        let told = events.iter().any(|event| matches!(event.what, TaskEventKind::Stall(_)));
        assert!(told, "{events:#?}");
    })
    .await;
}

#[tokio::test]
async fn command_that_will_not_end_is_ended_only_where_the_setting_says_so() {
    let kill = |config: &mut crate::config::Config| {
        config.assistant.stall_after = Duration::from_millis(200);
        config.assistant.stall_kill = true;
    };
    on_each_engine_with(kill, |site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("disk usage", json!({})).await;
        let asked = agent.asked().await;
        agent.accept(asked.id).await;
        let script = Script::new(asked.id);
        let frozen = Findings { silent_ms: 200, is_frozen: true, ..Findings::default() };
        let diagnosis = reeve_stages::stall::diagnose(&frozen);
        explain(&mut agent, &script, &frozen).await;
        let step = site
            .wait_step(task.id, 1, "with a stall", |step| !step.attempts[0].stalls.is_empty())
            .await;
        assert_eq!(step.attempts[0].stalls[0].advice, diagnosis.advice);
        if diagnosis.advice == StallAdvice::Kill {
            assert!(matches!(agent.control(asked.id).await, Control::Cancel { .. }));
        } else {
            site.post(&format!("/api/tasks/{}/cancel", task.id), json!({})).await;
            assert!(matches!(agent.control(asked.id).await, Control::Cancel { .. }));
        }
    })
    .await;
}
