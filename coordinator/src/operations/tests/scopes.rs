//! Machines outside somebody's scope do not exist for them, and neither does what runs there.

use futures_util::StreamExt;
use reeve_protocol::{Outcome, Stream};
use reeve_sdk::api::{Job, Operation, Page, Role, Ticket};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::testing::{Events, on_each_engine, output_of, shell, with};
use crate::fleet::testing::Agent;
use crate::testing::refused;

#[tokio::test]
async fn viewer_of_some_machines_sees_nothing_of_the_others() {
    on_each_engine(|site| async move {
        let web = site.join_as("web-1", &[("role", "web")]).await;
        let mut web = site.arrive(&web).await;
        let mut db = site.online("db-1").await;
        let viewer = site.add_user("ada", Role::Operator, "role=web").await;

        let hidden = site.submit(&shell("db-1")).await;
        let hidden_operation = hidden.single.as_ref().expect("one").id;
        let script = db.start().await;
        db.finish(&script, Outcome::Exited { code: 0 }).await;
        let mixed = site.submit(&shell("web-1,db-1")).await;
        for (agent, text) in [(&mut web, b"web"), (&mut db, b"db!")] {
            let mut script = agent.start().await;
            agent.write(&mut script, Stream::Stdout, text).await;
            agent.finish(&script, Outcome::Exited { code: 0 }).await;
        }

        for path in [format!("jobs/{}", hidden.id), format!("jobs/{}/operations", hidden.id)] {
            let request = site.server.request_as(&viewer, Method::GET, &format!("/api/{path}"));
            refused(request, StatusCode::NOT_FOUND, "job_not_found").await;
        }
        for path in ["", "/output", "/events"] {
            let path = format!("/api/operations/{hidden_operation}{path}");
            let request = site.server.request_as(&viewer, Method::GET, &path);
            refused(request, StatusCode::NOT_FOUND, "operation_not_found").await;
        }
        for path in ["follow", "cancel"] {
            let path = format!("/api/jobs/{}/{path}", hidden.id);
            let request = site.server.request_as(&viewer, Method::POST, &path).json(&json!({}));
            refused(request, StatusCode::NOT_FOUND, "job_not_found").await;
        }
        let request = site.server.request_as(&viewer, Method::POST, "/api/jobs");
        let problem =
            refused(request.json(&shell("db-1")), StatusCode::NOT_FOUND, "machine_not_found").await;
        assert!(!problem.nearest.iter().any(|name| name == "db-1"), "{problem:?}");
        let jobs: Page<Job> = site.server.get(&viewer, "/api/jobs").await;
        assert_eq!(jobs.items.iter().map(|job| job.id).collect::<Vec<_>>(), [mixed.id]);

        let path = format!("/api/jobs/{}/operations", mixed.id);
        let seen: Page<Operation> = site.server.get(&viewer, &path).await;
        assert_eq!(seen.items.len(), 1);
        let request = site.server.request_as(
            &viewer,
            Method::POST,
            &format!("/api/jobs/{}/cancel", mixed.id),
        );
        refused(request.json(&json!({})), StatusCode::FORBIDDEN, "forbidden").await;

        let frames = site.follow(&viewer, mixed.id, &json!({})).await.all().await;
        assert_eq!(output_of(&frames), b"web");
        let path = format!("/api/jobs/{}/events", mixed.id);
        for event in Events::open(&site, &viewer, &path, None).await.all().await {
            let machine = event.data.get("machine").and_then(Value::as_str).unwrap_or("web-1");
            assert_eq!(machine, "web-1", "{event:?}");
        }
        let request = with(shell("@all"), json!({ "dry_run": true }));
        let preview: Value = site.server.post(&viewer, "/api/jobs", &request).await;
        assert_eq!(preview["targets"].as_array().expect("targets").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn live_events_of_other_machines_reach_nobody_they_should_not() {
    on_each_engine(|site| async move {
        let web = site.join_as("web-1", &[("role", "web")]).await;
        let mut web = site.arrive(&web).await;
        let mut db = site.online("db-1").await;
        let viewer = site.add_user("ada", Role::Viewer, "role=web").await;
        let mixed = site.submit(&shell("web-1,db-1")).await;
        let path = format!("/api/jobs/{}/events", mixed.id);
        let mut events = Events::open(&site, &viewer, &path, None).await;
        let mut follower = site.follow(&viewer, mixed.id, &json!({})).await;

        let ticket: Ticket = site.server.post(&viewer, "/api/auth/ticket", &json!({})).await;
        let url = format!("/ws/frontend?ticket={}", ticket.ticket);
        let mut frontend = Agent::websocket(&site.server, &url, None).await;
        site.submit(&shell("db-1")).await;
        for agent in [&mut db, &mut web] {
            let mut script = agent.start().await;
            agent.write(&mut script, Stream::Stdout, b"bytes").await;
            agent.finish(&script, Outcome::Exited { code: 0 }).await;
        }
        let script = db.start().await;
        db.finish(&script, Outcome::Exited { code: 0 }).await;
        // The last thing to happen is visible, so whatever came before it has been sent.
        let last = site.run("web-1").await;
        let script = web.start().await;
        web.finish(&script, Outcome::Exited { code: 0 }).await;
        let mut heard = Vec::new();
        loop {
            let next = tokio::time::timeout(crate::fleet::testing::LIMIT, frontend.next()).await;
            let message = next.expect("an event in time").expect("no end").expect("a message");
            let Ok(text) = message.into_text() else { continue };
            let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
            let operation = &event["operation"];
            if event["event"] == "command_result" && operation["id"] == last.to_string() {
                break;
            }
            heard.push(event);
        }
        assert!(heard.iter().any(|event| event["operation"]["machine"] == "web-1"), "{heard:?}");
        for event in &heard {
            assert_ne!(event["operation"]["machine"], "db-1", "{event}");
            if let Some(job) = event["job_id"].as_str() {
                assert_eq!(job, mixed.id.to_string(), "{event}");
            }
        }
        for event in events.all().await {
            assert_ne!(event.data["machine"], "db-1", "{event:?}");
            if event.name == "output" {
                let web_operation = &site.operations(mixed.id).await[1];
                assert_eq!(web_operation.machine, "web-1");
                assert_eq!(event.data["id"], web_operation.id.to_string());
            }
        }
        assert_eq!(output_of(&follower.all().await), b"bytes");
        // A ticket is good once, and nothing else opens the door.
        for url in [url.as_str(), "/ws/frontend?ticket=x", "/ws/frontend"] {
            let refused = Agent::try_websocket(&site.server, url, None).await.err();
            assert!(refused.is_some_and(|status| status.is_client_error()), "{url} {refused:?}");
        }
    })
    .await;
}
