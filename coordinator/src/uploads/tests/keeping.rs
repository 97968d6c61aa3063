//! Files: appended at the right place, hashed, bounded, let go.

use std::time::Duration;

use reeve_protocol::UploadId;
use reeve_sdk::api::{Page, Role, Upload, UploadState};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::operations::testing::{Site, on_each_engine, on_each_engine_with, sent};
use crate::testing::refused;

pub fn append(site: &Site, token: &str, id: UploadId, offset: u64, bytes: &[u8]) -> RequestBuilder {
    let path = format!("/api/uploads/{id}?offset={offset}");
    site.server.request_as(token, Method::PATCH, &path).body(bytes.to_vec())
}

pub async fn create(site: &Site, token: &str, new: Value) -> Upload {
    site.server.post(token, "/api/uploads", &new).await
}

fn path(id: UploadId) -> String {
    format!("/api/uploads/{id}")
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[tokio::test]
async fn pieces_are_appended_where_the_last_ended_and_the_whole_gets_its_hash() {
    on_each_engine(|site| async move {
        let token = &site.admin;
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let made = create(
            &site,
            token,
            json!({ "size": content.len(), "blake3": hash(&content).to_uppercase(), "name": "a.tar" }),
        )
        .await;
        assert_eq!((made.received, made.state), (0, UploadState::Open));
        let id = made.id;
        let (first, rest) = content.split_at(2_000_001);
        let half: Upload = sent(append(&site, token, id, 0, first)).await;
        assert_eq!((half.received, half.state), (first.len() as u64, UploadState::Open));
        for wrong in [0, first.len() as u64 - 1, first.len() as u64 + 1] {
            let request = append(&site, token, id, wrong, rest);
            let problem = refused(request, StatusCode::CONFLICT, "wrong_offset").await;
            assert_eq!(problem.received, Some(first.len() as u64));
        }
        let too_long = append(&site, token, id, first.len() as u64, &[0; 1_000_000]);
        refused(too_long, StatusCode::UNPROCESSABLE_ENTITY, "upload_too_long").await;
        let head = site.server.request_as(token, Method::HEAD, &path(id)).send().await.expect("ok");
        // What would have fitted of it may be the wrong bytes as well.
        assert_eq!(head.headers()["upload-offset"], first.len().to_string());
        assert_eq!(head.headers()["upload-length"], content.len().to_string());
        let whole: Upload = sent(append(&site, token, id, first.len() as u64, rest)).await;
        assert_eq!((whole.received, whole.state), (content.len() as u64, UploadState::Complete));
        assert_eq!(whole.blake3, Some(hash(&content)));
        let file = site.server.folder.path().join("uploads").join(id.to_string());
        assert!(std::fs::read(&file).expect("a file") == content, "other bytes on the disk");
        let list: Page<Upload> = site.get("/api/uploads").await;
        assert_eq!(list.items.iter().map(|upload| upload.id).collect::<Vec<_>>(), [id]);
        let gone = site.server.request_as(token, Method::DELETE, &path(id)).send().await;
        assert_eq!(gone.expect("an answer").status(), StatusCode::NO_CONTENT);
        let show = site.server.request_as(token, Method::GET, &path(id));
        refused(show, StatusCode::NOT_FOUND, "upload_not_found").await;
        assert!(!file.exists());
    })
    .await;
}

#[tokio::test]
async fn what_is_not_what_was_announced_is_of_no_use() {
    on_each_engine(|site| async move {
        let token = &site.admin;
        let made = create(&site, token, json!({ "size": 5, "blake3": hash(b"hello") })).await;
        let request = append(&site, token, made.id, 0, b"hellO");
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, "hash_mismatch").await;
        let shown: Upload = site.get(&path(made.id)).await;
        assert_eq!(shown.state, UploadState::Broken);
        let again = append(&site, token, made.id, 5, b"");
        refused(again, StatusCode::CONFLICT, "upload_broken").await;
        let invalid = site.server.request_as(token, Method::POST, "/api/uploads");
        let invalid = invalid.json(&json!({ "size": 5, "blake3": "abc" }));
        refused(invalid, StatusCode::UNPROCESSABLE_ENTITY, "invalid_request").await;
        let empty = create(&site, token, json!({ "size": 0 })).await;
        assert_eq!((empty.state, empty.blake3), (UploadState::Complete, Some(hash(b""))));
    })
    .await;
}

#[tokio::test]
async fn a_restart_goes_on_from_what_is_on_the_disk() {
    on_each_engine(|site| async move {
        let content = vec![7; 100_000];
        let new = json!({ "size": content.len(), "blake3": hash(&content) });
        let id = create(&site, &site.admin, new).await.id;
        let whole = create(&site, &site.admin, json!({ "size": 3 })).await.id;
        let _: Upload = sent(append(&site, &site.admin, id, 0, &content[..60_000])).await;
        let file = site.server.folder.path().join("uploads").join(id.to_string());
        // As if a write had been under way.
        let mut longer = std::fs::read(&file).expect("a file");
        longer.extend_from_slice(b"not yet told of");
        std::fs::write(&file, longer).expect("written");
        let stray = file.with_file_name(UploadId::new().to_string());
        std::fs::write(&stray, "nobody's").expect("written");
        let site = site.restart().await;
        assert!(!stray.exists(), "a file without a row stays");
        let shown: Upload = site.get(&path(id)).await;
        assert_eq!(shown.received, 60_000);
        let done: Upload = sent(append(&site, &site.admin, id, 60_000, &content[60_000..])).await;
        assert_eq!(done.state, UploadState::Complete);
        assert!(std::fs::read(&file).expect("a file") == content);
        let shown: Upload = site.get(&path(whole)).await;
        assert_eq!((shown.received, shown.state), (0, UploadState::Open));
    })
    .await;
}

#[tokio::test]
async fn nobody_sees_or_uses_what_somebody_else_uploaded() {
    on_each_engine(|site| async move {
        let other = site.add_user("eve", Role::Operator, "@all").await;
        let viewer = site.add_user("vic", Role::Viewer, "@all").await;
        let id = create(&site, &site.admin, json!({ "size": 3 })).await.id;
        for (method, path) in [(Method::GET, path(id)), (Method::DELETE, path(id))] {
            let request = site.server.request_as(&other, method, &path);
            refused(request, StatusCode::NOT_FOUND, "upload_not_found").await;
        }
        let theirs = append(&site, &other, id, 0, b"evil");
        refused(theirs, StatusCode::NOT_FOUND, "upload_not_found").await;
        let list: Page<Upload> = site.server.get(&other, "/api/uploads").await;
        assert!(list.items.is_empty());
        site.join("web-1").await;
        let job = json!({
            "selector": "web-1", "input": { "upload": id },
            "operation": { "execute_command": { "shell": "cat", "stdin": true } },
        });
        let request = site.server.request_as(&other, Method::POST, "/api/jobs").json(&job);
        refused(request, StatusCode::NOT_FOUND, "upload_not_found").await;
        let request = site.server.request_as(&viewer, Method::POST, "/api/uploads");
        refused(request.json(&json!({ "size": 3 })), StatusCode::FORBIDDEN, "forbidden").await;
    })
    .await;
}

#[tokio::test]
async fn room_is_bounded_and_nobody_takes_all_of_it() {
    on_each_engine_with(
        |config| config.limits.uploads_bytes = 1000,
        |site| async move {
            let other = site.add_user("bob", Role::Operator, "@all").await;
            let third = site.add_user("cat", Role::Operator, "@all").await;
            let ask = |token: &str, size: u64| {
                let request = site.server.request_as(token, Method::POST, "/api/uploads");
                request.json(&json!({ "size": size }))
            };
            let full = StatusCode::INSUFFICIENT_STORAGE;
            let first: Upload = sent(ask(&site.admin, 400)).await;
            refused(ask(&site.admin, 101), full, "uploads_full").await;
            let _: Upload = sent(ask(&other, 500)).await;
            refused(ask(&third, 101), full, "uploads_full").await;
            let gone = site.server.request_as(&site.admin, Method::DELETE, &path(first.id));
            assert!(gone.send().await.expect("an answer").status().is_success());
            let _: Upload = sent(ask(&third, 101)).await;
        },
    )
    .await;
}

#[tokio::test]
async fn what_nobody_uses_goes_after_its_time() {
    on_each_engine_with(
        |config| config.limits.uploads_keep = Duration::from_millis(300),
        |site| async move {
            let id = create(&site, &site.admin, json!({ "size": 3 })).await.id;
            let _: Upload = sent(append(&site, &site.admin, id, 0, b"abc")).await;
            let file = site.server.folder.path().join("uploads").join(id.to_string());
            assert!(file.exists());
            let uploads = &site.server.running.state.uploads;
            crate::operations::testing::eventually("the end of an unused upload", || async {
                uploads.sweep_once().await.expect("swept");
                let answer = site.server.request_as(&site.admin, Method::GET, &path(id)).send();
                (answer.await.expect("an answer").status() == StatusCode::NOT_FOUND).then_some(())
            })
            .await;
            assert!(!file.exists());
        },
    )
    .await;
}
