//! Operations that read a file kept at the coordinator.

use reeve_protocol::{Control, Credit, Kind, OperationId, Outcome, ReportedState, UploadId};
use reeve_sdk::api::{AuditEntry, JobState, OperationState, Page, Upload};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::keeping::{append, create};
use crate::fleet::testing::Agent;
use crate::operations::testing::{Site, on_each_engine, on_each_engine_with, sent};
use crate::testing::refused;

fn cat(selector: &str, upload: UploadId) -> Value {
    json!({
        "selector": selector, "input": { "upload": upload },
        "operation": { "execute_command": { "shell": "cat", "stdin": true } },
    })
}

/// Everything up to `end`, from `from` on, and what was said then.
async fn hear(agent: &mut Agent, id: OperationId, from: u64, end: u64) -> Vec<u8> {
    let mut all = Vec::new();
    while from + (all.len() as u64) < end {
        match agent.control(id).await {
            Control::Input { offset, bytes } => {
                assert_eq!(offset, from + all.len() as u64, "a repeated or missing piece");
                all.extend_from_slice(&bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

async fn take(agent: &mut Agent, id: OperationId, received: u64) {
    let until = received + 256 * 1024;
    agent.say_about(id, &Credit::Stdin { received, until, closed: false }).await;
}

#[tokio::test]
async fn many_machines_read_one_file_while_it_is_still_coming() {
    on_each_engine(|site| async move {
        let mut one = site.online("web-1").await;
        let mut two = site.online("web-2").await;
        let content: Vec<u8> = (0..400_000_u32).map(|n| (n % 253) as u8).collect();
        let size = content.len() as u64;
        let id = create(&site, &site.admin, json!({ "size": size })).await.id;
        let _: Upload = sent(append(&site, &site.admin, id, 0, &content[..100_000])).await;
        let job = site.submit(&cat("web-*", id)).await;
        assert_eq!(job.input.map(|input| input.upload), Some(id));
        let (first, second) = (one.start().await, two.start().await);
        assert_eq!(hear(&mut one, first.id, 0, 100_000).await, &content[..100_000]);
        take(&mut one, first.id, 100_000).await;
        one.settle().await;
        assert_eq!(one.kept(&Kind::Control), 0, "more than there is");
        // In use: it cannot be taken away.
        let path = format!("/api/uploads/{id}");
        let delete = site.server.request_as(&site.admin, Method::DELETE, &path);
        refused(delete, StatusCode::CONFLICT, "upload_in_use").await;
        let rest: Upload = sent(append(&site, &site.admin, id, 100_000, &content[100_000..])).await;
        // The second has taken nothing so far, and holds nobody up.
        let window = 100_000 + 256 * 1024;
        let mut got = hear(&mut one, first.id, 100_000, window).await;
        take(&mut one, first.id, window).await;
        got.extend(hear(&mut one, first.id, window, size).await);
        assert!(got == content[100_000..], "other bytes");
        assert_eq!(one.control(first.id).await, Control::CloseInput { offset: size });
        take(&mut one, first.id, size).await;
        one.finish(&first, Outcome::Exited { code: 0 }).await;
        let mut got = hear(&mut two, second.id, 0, 256 * 1024).await;
        take(&mut two, second.id, 256 * 1024).await;
        got.extend(hear(&mut two, second.id, 256 * 1024, size).await);
        assert!(got == content, "other bytes");
        assert_eq!(two.control(second.id).await, Control::CloseInput { offset: size });
        two.finish(&second, Outcome::Exited { code: 0 }).await;
        site.wait_job(job.id, JobState::Succeeded).await;
        let audit: Page<AuditEntry> = site.get("/api/audit?limit=1000").await;
        let said = audit.items.iter().find(|entry| entry.action == "job.create").expect("audited");
        assert_eq!(said.detail["input"]["size"], size);
        assert_eq!(said.detail["input"]["upload"], id.to_string());
        assert!(rest.blake3.is_some());
    })
    .await;
}

#[tokio::test]
async fn cut_links_and_a_restart_go_on_from_where_each_machine_is() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 249) as u8).collect();
        let size = content.len() as u64;
        let upload = create(&site, &site.admin, json!({ "size": size })).await.id;
        let _: Upload = sent(append(&site, &site.admin, upload, 0, &content)).await;
        site.submit(&cat("web-1", upload)).await;
        let script = agent.start().await;
        let id = script.id;
        hear(&mut agent, id, 0, size).await;
        drop(agent);
        site.wait_until_gone(&identity).await;
        let back = |received| {
            let mut report = script.report(ReportedState::Running);
            report.stdin_received = received;
            report
        };
        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![back(70_000)]).await;
        assert!(hear(&mut agent, id, 70_000, size).await == content[70_000..]);
        drop(agent);
        site.wait_until_gone(&identity).await;
        let site = site.restart().await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![back(150_000)]).await;
        assert!(hear(&mut agent, id, 150_000, size).await == content[150_000..]);
        assert_eq!(agent.control(id).await, Control::CloseInput { offset: size });
        take(&mut agent, id, size).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        site.wait_operation(id, OperationState::Succeeded).await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_turns_out_wrong_ends_what_reads_it_and_is_never_taken_for_whole() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let hash = blake3::hash(b"good").to_hex().to_string();
        let upload = create(&site, &site.admin, json!({ "size": 4, "blake3": hash })).await.id;
        let _: Upload = sent(append(&site, &site.admin, upload, 0, b"ba")).await;
        site.submit(&cat("web-1", upload)).await;
        let script = agent.start().await;
        assert_eq!(hear(&mut agent, script.id, 0, 2).await, b"ba");
        let wrong = append(&site, &site.admin, upload, 2, b"d!");
        refused(wrong, StatusCode::UNPROCESSABLE_ENTITY, "hash_mismatch").await;
        loop {
            match agent.control(script.id).await {
                Control::Input { .. } => {}
                Control::Cancel { reason } => {
                    assert!(reason.contains("not what was announced"), "{reason}");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        agent.finish(&script, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
        site.wait_operation(script.id, OperationState::Cancelled).await;
        let again = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
        let again = again.json(&cat("web-1", upload));
        refused(again, StatusCode::CONFLICT, "upload_broken").await;
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_not_continued_ends_what_waits_for_it() {
    on_each_engine_with(
        |config| config.limits.uploads_keep = std::time::Duration::from_millis(300),
        |site| async move {
            let mut agent = site.online("web-1").await;
            let upload = create(&site, &site.admin, json!({ "size": 4 })).await.id;
            site.submit(&cat("web-1", upload)).await;
            let script = agent.start().await;
            let uploads = &site.server.running.state.uploads;
            crate::operations::testing::eventually("the upload is given up", || async {
                uploads.sweep_once().await.expect("swept");
                let shown: Upload = site.get(&format!("/api/uploads/{upload}")).await;
                (shown.state == reeve_sdk::api::UploadState::Broken).then_some(())
            })
            .await;
            assert!(matches!(agent.control(script.id).await, Control::Cancel { .. }));
            agent.finish(&script, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
            site.wait_operation(script.id, OperationState::Cancelled).await;
        },
    )
    .await;
}

#[tokio::test]
async fn an_input_is_for_operations_that_read_one() {
    on_each_engine(|site: Site| async move {
        site.join("web-1").await;
        let upload = create(&site, &site.admin, json!({ "size": 4 })).await.id;
        let mut job = cat("web-1", upload);
        job["operation"]["execute_command"]["stdin"] = json!(false);
        let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs").json(&job);
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, "invalid_request").await;
    })
    .await;
}
