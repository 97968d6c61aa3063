use reeve_protocol::{Control, Outcome};
use reeve_sdk::api::{Page, Role, Task, TaskState};
use reqwest::Method;
use serde_json::json;

use crate::assistant::testing::DF;
use crate::fleet::testing::Script;
use crate::operations::testing::on_each_engine;
use crate::testing::refused;

#[tokio::test]
async fn task_exists_for_its_asker_and_for_those_who_see_all_its_machines() {
    on_each_engine(|site| async move {
        let _web = site.machine("web-1", true).await;
        let _db = site.machine("db-1", true).await;
        let web = site.add_user("wilma", Role::Operator, "web-*").await;
        let all = site.add_user("ada", Role::Viewer, "@all").await;
        let task = site.ask("disk usage", json!({ "selector": "@all", "plan_only": true })).await;
        let task = site.wait_task(task.id, TaskState::Completed).await;
        let path = format!("/api/tasks/{}", task.id);
        for what in ["", "/events", "/calls"] {
            let request = site.server.request_as(&web, Method::GET, &format!("{path}{what}"));
            refused(request, http::StatusCode::NOT_FOUND, "task_not_found").await;
        }
        for what in ["cancel", "answer"] {
            let body = json!({});
            let body = if what == "answer" { json!({ "answer": "x" }) } else { body };
            let path = format!("{path}/{what}");
            let request = site.server.request_as(&web, Method::POST, &path).json(&body);
            refused(request, http::StatusCode::NOT_FOUND, "task_not_found").await;
        }
        let page: Page<Task> = site.server.get(&web, "/api/tasks").await;
        assert!(page.items.is_empty());
        let seen: Task = site.server.get(&all, &path).await;
        assert_eq!(seen.id, task.id);
        let request = site.server.request_as(&all, Method::GET, &format!("{path}/calls"));
        refused(request, http::StatusCode::FORBIDDEN, "forbidden").await;

        let outside = site.ask_as(&web, "disk usage", json!({ "selector": "db-1" })).await;
        assert_eq!(outside.reason.expect("a reason").code, "no_machine");
        let mine = site.ask_as(&web, "disk usage", json!({ "plan_only": true })).await;
        assert_eq!(mine.machines, ["web-1"], "the only machine that exists for the asker");
    })
    .await;
}

#[tokio::test]
async fn asker_who_may_no_longer_stops_the_task_before_anything_more_runs() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let token = site.add_user("wilma", Role::Operator, "web-*").await;
        let task = site.ask_as(&token, "disk usage", json!({})).await;
        let first = agent.asked().await;
        agent.accept(first.id).await;
        let change = json!({ "role": "operator", "scope": "db-*" });
        let request =
            site.request(Method::PATCH, "/api/users/wilma").json(&change).send().await.expect("ok");
        assert!(request.status().is_success());
        assert!(matches!(agent.control(first.id).await, Control::Cancel { .. }));
        let outcome = Outcome::Cancelled { exit_code: None, signal: Some(15) };
        agent.finish(&Script::new(first.id), outcome).await;
        let task = site.wait_task(task.id, TaskState::Failed).await;
        let reason = task.reason.expect("a reason");
        assert_eq!(reason.code, "asker", "{}", reason.message);
        assert!(reason.message.contains("scope"), "{}", reason.message);
    })
    .await;
}

#[tokio::test]
async fn logging_out_does_not_stop_a_task_but_removing_the_person_does() {
    on_each_engine(|site| async move {
        let mut agent = site.machine("web-1", true).await;
        let token = site.add_user("wilma", Role::Operator, "@all").await;
        let task = site.ask_as(&token, "disk usage", json!({})).await;
        let first = agent.asked().await;
        site.server
            .request_as(&token, Method::POST, "/api/auth/logout")
            .send()
            .await
            .expect("logged out");
        agent.end(first.id, DF, 0).await;
        site.wait_task(task.id, TaskState::Completed).await;
    })
    .await;
}
