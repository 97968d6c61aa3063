use reeve_models::fakes::{Asked, Behaviour, FakeModel, Trouble};
use reeve_protocol::ops::Mode;
use reeve_sdk::api::{
    ModelCall, ModelRole, SubtaskState, TaskEventKind, TaskState, VerdictOutcome, Wire,
};
use serde_json::{Value, json};

use crate::assistant::testing::{DF, line_of};
use crate::operations::testing::{Site, on_each_engine, on_each_engine_with};

/// A fake provider that every role asks.
pub async fn with_model(site: &Site) -> FakeModel {
    with_roles(site, &["fake/fake-model"]).await
}

/// A fake provider and the list that every role asks.
pub async fn with_roles(site: &Site, list: &[&str]) -> FakeModel {
    let fake = FakeModel::start().await.expect("a fake provider");
    let mut provider = fake.provider("fake", Wire::OpenaiChat);
    provider.retries = Some(0);
    put(site, "/api/models/fake", &serde_json::to_value(provider).expect("JSON")).await;
    for role in ModelRole::ALL {
        let path = format!("/api/models/roles/{}", role.as_str());
        put(site, &path, &json!({ "models": list })).await;
    }
    fake
}

async fn put(site: &Site, path: &str, body: &Value) {
    let answer = site.request(reqwest::Method::PUT, path).json(body).send().await.expect("answer");
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
}

/// A step of a plan as models write it.
pub fn step(id: u32, machine: &str, line: &str, effect: &str) -> Value {
    json!({
        "id": id, "machines": [machine], "argv": null, "shell": line, "operation": null, "cwd": null,
        "purpose": "looks", "expected": "it says so", "effect": effect, "timeout_s": null,
        "depends_on": [], "undo": null, "polling": false,
    })
}

pub fn plan(kind: &str, steps: Value) -> Value {
    json!({
        "kind": kind, "summary": "Looks at the disks.", "steps": steps, "question": null,
        "reason": null,
    })
}

pub fn verdict(outcome: &str, quote: &str) -> Value {
    let evidence = json!([{
        "result": "R1", "stream": "stdout", "quote": quote, "from": null, "to": null,
    }]);
    json!({ "outcome": outcome, "evidence": evidence, "reason": "The output says so." })
}

pub fn summary(text: &str, quote: &str) -> Value {
    let quotes = json!([{
        "number": 1, "result": "R1", "stream": "stdout", "quote": quote, "from": null, "to": null,
    }]);
    json!({ "text": text, "quotes": quotes })
}

/// Which stage asks, by the schema.
pub fn stage_of(asked: &Asked) -> &'static str {
    let has = |name: &str| {
        let schema = asked.schema.as_ref();
        schema.is_some_and(|schema| schema.pointer(&format!("/properties/{name}")).is_some())
    };
    match () {
        () if has("steps") => "plan",
        () if has("outcome") => "validate",
        () if has("text") => "summary",
        () if has("why") => "alternative",
        () => "other",
    }
}

/// A model that looks at the disks, and says what it saw.
fn sensible(asked: &Asked) -> Behaviour {
    Behaviour::json(match stage_of(asked) {
        "plan" => plan("plan", json!([step(1, "web-1", "df -h", "read")])),
        "validate" => verdict("met", "/dev/sda1"),
        _ => summary("The disk is fine [1].", "/dev/sda1"),
    })
}

#[tokio::test]
async fn model_plans_judges_and_sums_up_and_every_call_is_recorded() {
    on_each_engine(|site| async move {
        let fake = with_model(&site).await;
        fake.answer_with(sensible);
        let mut agent = site.machine("web-1", true).await;
        let mut news = site.server.running.state.events.watch_tasks();
        let task = site.ask("is there enough room?", json!({})).await;
        let asked = agent.play(DF, 0).await;
        assert_eq!(line_of(&asked.command), "df -h");
        assert_eq!(asked.command.mode, Mode::Inspect);
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.planner.as_deref(), Some("fake/fake-model"));
        let verdict = task.subtasks[0].attempts[0].groups[0].verdict.clone().expect("a verdict");
        assert_eq!(
            (verdict.outcome, verdict.by.as_str()),
            (VerdictOutcome::Met, "fake/fake-model")
        );
        assert_eq!(verdict.evidence[0].quote, "/dev/sda1");
        let summary = task.summary.expect("a summary");
        assert_eq!((summary.text.as_str(), summary.quotes.len()), ("The disk is fine [1].", 1));
        let mut streamed = String::new();
        while let Ok(one) = news.try_recv() {
            if let TaskEventKind::PlanDelta { text } = &one.event.what {
                streamed.push_str(text);
            }
        }
        assert!(
            streamed.contains("df -h"),
            "the plan was not shown while it was written: {streamed}"
        );
        let calls: Vec<ModelCall> = site.get(&format!("/api/tasks/{}/calls", task.id)).await;
        let stages: Vec<&str> = calls.iter().map(|call| call.stage.as_str()).collect();
        assert_eq!(stages, ["plan", "validate", "summary"]);
        assert!(calls.iter().all(|call| call.outcome == "ok" && call.cost > 0.0), "{calls:#?}");
        assert_eq!(task.usage.calls, 3);
        assert!(fake.faults().is_empty(), "{:?}", fake.faults());

        // Each can be done again from the record alone, without the model.
        for call in &calls {
            let record = reeve_stages::Record {
                stage: serde_json::from_value(json!(call.stage)).expect("a stage"),
                input: call.request["input"].clone(),
                nonce: serde_json::from_value(call.request["nonce"].clone()).expect("a nonce"),
                answer: call.response.clone().expect("an answer"),
                by: call.model.clone(),
            };
            let again = reeve_stages::replay::ask(&record).expect("the same question");
            assert_eq!(json!(again.messages), call.request["messages"]);
            reeve_stages::replay(&record).expect("the same result");
        }
    })
    .await;
}

#[tokio::test]
async fn model_may_look_around_first_and_only_look() {
    on_each_engine(|site| async move {
        let fake = with_model(&site).await;
        fake.answer_with(|asked| {
            let text: String = asked.messages.iter().map(|(_, text)| text.as_str()).collect();
            Behaviour::json(match stage_of(asked) {
                "plan" if !text.contains("What was looked at") => plan(
                    "explore",
                    json!([
                        step(1, "web-1", "cat /etc/fstab", "read"),
                        step(2, "web-1", "rm -rf /srv/shop", "read"),
                    ]),
                ),
                "plan" => {
                    assert!(text.contains("UUID=abc"), "{text}");
                    assert!(text.contains("not run"), "{text}");
                    plan("plan", json!([step(3, "web-1", "df -h", "read")]))
                }
                "validate" => verdict("met", "/dev/sda1"),
                _ => summary("Fine.", "/dev/sda1"),
            })
        });
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("is there enough room?", json!({})).await;
        let looked = agent.play(b"UUID=abc / ext4\n", 0).await;
        assert_eq!(
            (line_of(&looked.command).as_str(), looked.command.mode),
            ("cat /etc/fstab", Mode::Inspect)
        );
        let ran = agent.play(DF, 0).await;
        assert_eq!(line_of(&ran.command), "df -h");
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.subtasks.len(), 1);
        assert_eq!(task.subtasks[0].number, 1);
    })
    .await;
}

#[tokio::test]
async fn answer_that_is_no_plan_is_asked_for_once_more_and_then_given_up() {
    on_each_engine(|site| async move {
        let fake = with_model(&site).await;
        let _agent = site.machine("web-1", true).await;
        fake.script([
            Behaviour::json(plan("plan", json!([step(1, "prod-db-1", "df -h", "read")]))),
            Behaviour::json(plan("plan", json!([step(1, "web-1", "df -h", "read")]))),
        ]);
        let task = site.ask("is there enough room?", json!({ "plan_only": true })).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.subtasks[0].machines, ["web-1"]);
        assert_eq!(fake.asked().len(), 2);
        fake.answer_with(|_| {
            Behaviour::json(plan("plan", json!([step(1, "prod-db-1", "df -h", "read")])))
        });
        let task = site.ask("is there enough room?", json!({})).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        let reason = task.reason.expect("a reason");
        assert_eq!(reason.code, "plan_unknown_machine", "{}", reason.message);
        assert!(reason.message.contains("prod-db-1"), "{}", reason.message);
    })
    .await;
}

#[tokio::test]
async fn verdict_without_evidence_does_not_count_and_not_met_is_tried_otherwise() {
    on_each_engine(|site| async move {
        let fake = with_model(&site).await;
        fake.answer_with(|asked| {
            let text: String = asked.messages.iter().map(|(_, text)| text.as_str()).collect();
            Behaviour::json(match stage_of(asked) {
                "plan" => plan("plan", json!([step(1, "web-1", "df -h", "read")])),
                "validate" if text.contains("command: df -h") => verdict("not_met", "broken"),
                "validate" => verdict("met", "/dev/sda1"),
                "alternative" => json!({
                    "kind": "try", "argv": null, "shell": "df -P", "cwd": null, "effect": "read",
                    "timeout_s": null, "undo": null, "why": "POSIX output",
                }),
                _ => summary("Fine.", "an invented quote"),
            })
        });
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("is there enough room?", json!({})).await;
        agent.play(b"broken\n", 0).await;
        let second = agent.play(DF, 0).await;
        assert_eq!(line_of(&second.command), "df -P");
        let task = site.wait_task(task.id, TaskState::Completed).await;
        let found = &task.subtasks[0];
        assert_eq!((found.state, found.attempts.len()), (SubtaskState::Met, 2));
        assert_eq!(found.attempts[1].why, "POSIX output");
        assert!(task.summary.expect("a summary").quotes.is_empty(), "an invented quote was cited");

        fake.answer_with(|asked| {
            Behaviour::json(match stage_of(asked) {
                "plan" => plan("plan", json!([step(1, "web-1", "df -h", "read")])),
                "validate" => verdict("met", "all is well"),
                _ => summary("Fine.", "x"),
            })
        });
        let task = site.ask("is there enough room?", json!({})).await;
        agent.play(DF, 0).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        assert_eq!(task.subtasks[0].state, SubtaskState::Inconclusive);
    })
    .await;
}

#[tokio::test]
async fn troubles_of_models_are_named_states_and_an_answer_tries_again() {
    on_each_engine(|site| async move {
        let fake = with_model(&site).await;
        let _agent = site.machine("web-1", true).await;
        for (trouble, code) in [
            (Trouble::BadKey, "model_key"),
            (Trouble::Server(500), "model_failing"),
            (Trouble::Quota, "quota"),
        ] {
            fake.script([Behaviour::Trouble(trouble)]);
            let task = site.ask("is there enough room?", json!({ "plan_only": true })).await;
            let waits = site.wait_task(task.id, TaskState::NeedsAnswer).await;
            let reason = waits.reason.expect("a reason");
            assert_eq!(reason.code, code, "{}", reason.message);
            assert!(reason.message.contains("fake"), "{}", reason.message);
            assert!(!reason.message.contains('\n') && waits.question.is_some());
            fake.answer_with(sensible);
            site.post(&format!("/api/tasks/{}/answer", task.id), json!({ "answer": "again" }))
                .await;
            site.wait_task(task.id, TaskState::Completed).await;
        }
    })
    .await;
}

#[tokio::test]
async fn runbooks_plan_when_the_list_comes_to_builtin() {
    on_each_engine(|site| async move {
        let fake = with_roles(&site, &["fake/fake-model", "builtin"]).await;
        fake.answer_with(|_| Behaviour::Trouble(Trouble::Server(500)));
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("how full are the disks?", json!({})).await;
        agent.play(DF, 0).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.planner.as_deref(), Some("builtin"));
        let events = site.task_events(task.id, None).await;
        let noted = events.iter().any(
            |event| matches!(&event.what, TaskEventKind::Note { code, .. } if code == "builtin"),
        );
        assert!(noted, "{events:#?}");
    })
    .await;
}

#[tokio::test]
async fn budget_that_is_reached_is_a_named_state_before_anything_is_spent() {
    let poor = |config: &mut crate::config::Config| config.assistant.budget_hard = 0.0001;
    on_each_engine_with(poor, |site| async move {
        let fake = with_model(&site).await;
        fake.answer_with(sensible);
        let _agent = site.machine("web-1", true).await;
        let task = site.ask("is there enough room?", json!({})).await;
        let task = site.wait_task(task.id, TaskState::NeedsAnswer).await;
        assert_eq!(task.reason.expect("a reason").code, "budget_reached");
        assert!(fake.asked().is_empty(), "something was sent");
        let unknown = site.ask("x", json!({ "model": "fake/nothing" })).await;
        assert_eq!(unknown.reason.expect("a reason").code, "model_unknown");
        let mine = site.ask("disk usage", json!({ "model": "builtin", "plan_only": true })).await;
        site.wait_task(mine.id, TaskState::Completed).await;
    })
    .await;
}

#[tokio::test]
async fn answer_that_was_recorded_is_not_asked_for_again_after_a_restart() {
    on_each_engine(|site| async move {
        let fake = with_model(&site).await;
        fake.answer_with(sensible);
        let identity = site.join("web-1").await;
        let mut agent = site.arrive_with(&identity, true).await;
        let task = site.ask("is there enough room?", json!({})).await;
        let asked = agent.asked().await;
        assert_eq!(fake.asked().len(), 1);
        agent.accept(asked.id).await;
        agent.settle().await;
        let mut script = crate::fleet::testing::Script::new(asked.id);
        let site = site.restart().await;
        let mut agent = crate::fleet::testing::Agent::connect(&site.server, &identity).await;
        agent.report(vec![script.report(reeve_protocol::ReportedState::Running)]).await;
        agent.settle().await;
        agent.write(&mut script, reeve_protocol::Stream::Stdout, DF).await;
        agent.finish(&script, reeve_protocol::Outcome::Exited { code: 0 }).await;
        site.wait_task(task.id, TaskState::Completed).await;
        let stages: Vec<&str> = fake.asked().iter().map(stage_of).collect();
        assert_eq!(stages, ["plan", "validate", "summary"]);
    })
    .await;
}
