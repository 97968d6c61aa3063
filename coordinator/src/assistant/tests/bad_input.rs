use reeve_sdk::api::TaskState;
use serde_json::json;

use crate::operations::testing::on_each_engine;
use crate::testing::refused;

#[tokio::test]
async fn what_makes_no_sense_is_a_named_state_with_one_clear_line() {
    on_each_engine(|site| async move {
        let _web = site.machine("web-1", true).await;
        let _db = site.machine("db-1", true).await;
        let long = "x".repeat(17 * 1024);
        for (words, more, state, code, part) in [
            ("  ", json!({}), TaskState::Failed, "prompt_empty", "no words"),
            (long.as_str(), json!({}), TaskState::Failed, "prompt_too_long", "16384"),
            ("uptime", json!({ "selector": "web-9" }), TaskState::Failed, "no_machine", "web-1"),
            (
                "uptime",
                json!({ "selector": "cache-*" }),
                TaskState::Failed,
                "no_machine",
                "cache-*",
            ),
            ("uptime", json!({ "selector": "a=b,c" }), TaskState::Failed, "no_machine", "c"),
            ("how long is it up", json!({}), TaskState::NeedsAnswer, "no_machine", "names no"),
            ("disk usage on web-7", json!({}), TaskState::Failed, "no_machine", "web-7"),
        ] {
            let task = site.ask(words, more).await;
            assert_eq!(task.state, state, "{words:.20}: {task:?}");
            let reason = task.reason.expect("a reason");
            assert_eq!(reason.code, code);
            assert!(reason.message.contains(part), "{}", reason.message);
            assert!(!reason.message.contains('\n'));
            assert!(task.prompt.len() < 1000);
        }
        let path = "/api/tasks/0190b5f2-0000-7000-8000-000000000000";
        let request = site.request(reqwest::Method::GET, path);
        refused(request, http::StatusCode::NOT_FOUND, "task_not_found").await;
    })
    .await;
}

#[tokio::test]
async fn unknown_intent_says_so_and_an_answer_in_other_words_is_planned_anew() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let task = site.ask("write me a poem about ducks", json!({})).await;
        let task = site.wait_task(task.id, TaskState::NeedsAnswer).await;
        let reason = task.reason.expect("a reason");
        assert_eq!(reason.code, "unknown_intent");
        assert!(reason.message.contains("configure a model"), "{}", reason.message);
        assert!(task.question.is_some());
        let events = site.task_events(task.id, None).await;
        assert!(!events.is_empty());
        let path = format!("/api/tasks/{}/answer", task.id);
        site.post(&path, json!({ "answer": "how full are the disks?" })).await;
        agent.play(crate::assistant::testing::DF, 0).await;
        site.wait_task(task.id, TaskState::Completed).await;
        let request = site.request(reqwest::Method::POST, &path).json(&json!({ "answer": "more" }));
        refused(request, http::StatusCode::CONFLICT, "no_question").await;
    })
    .await;
}

#[tokio::test]
async fn machine_that_was_not_named_can_be_named_in_the_answer() {
    on_each_engine(|site| async move {
        let _web = site.machine("web-1", true).await;
        let mut db = site.machine("db-1", true).await;
        let task = site.ask("how full are the disks?", json!({})).await;
        assert_eq!(task.state, TaskState::NeedsAnswer);
        let path = format!("/api/tasks/{}/answer", task.id);
        let nobody = site.request(reqwest::Method::POST, &path).json(&json!({ "answer": "hm" }));
        refused(nobody, http::StatusCode::UNPROCESSABLE_ENTITY, "no_machine").await;
        site.post(&path, json!({ "answer": "on db-1" })).await;
        db.play(crate::assistant::testing::DF, 0).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        assert_eq!(task.machines, ["db-1"]);
    })
    .await;
}
