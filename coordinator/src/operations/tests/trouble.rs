//! Databases that do not answer, files that are damaged, and decisions that meet.

use reeve_protocol::{Outcome, Stream};
use reeve_sdk::api::{JobState, OperationState};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::super::output::WriterHealth;
use super::super::testing::{eventually, on_each_engine, output_of, sent, shell, with};
use crate::fleet::testing::{Agent, Script};
use crate::testing::refused;

#[tokio::test]
async fn operation_cancelled_in_the_moment_its_turn_comes_is_cancelled() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let request = with(shell("web-1"), json!({ "wait_ms": 3_600_000 }));
        let job = site.submit(&request).await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        let held = site.hold_database().await;
        // While the database is held the conductor is busy with this one, so that what follows is
        // decided together.
        let path = format!("/api/jobs/{}/cancel", job.id);
        let busy = sent::<serde_json::Value>(
            site.server.request_as(&site.admin, Method::POST, "/api/jobs").json(&request),
        );
        let cancel = sent::<serde_json::Value>(
            site.server.request_as(&site.admin, Method::POST, &path).json(&json!({})),
        );
        let (second, ()) = tokio::join!(busy, async {
            // The other has come first when these round trips are over. Should the conductor have
            // taken both together all the same, what has to come of it is the same.
            for _ in 0..10 {
                agent.settle().await;
            }
            let rest = async {
                let requests = &site.server.running.state.operations.0.requests;
                for _ in 0..100 {
                    if requests.capacity() < requests.max_capacity() {
                        break;
                    }
                    agent.settle().await;
                }
                agent.report(vec![]).await;
                agent.settle().await;
                drop(held);
            };
            tokio::join!(cancel, rest);
        });
        site.wait_job(job.id, JobState::Cancelled).await;
        let first = job.single.expect("one").id;
        let (id, _) = agent.request().await;
        assert_eq!(id.to_string(), second["single"]["id"], "the cancelled one was sent");
        agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
        assert_eq!(site.operation(first).await.state, OperationState::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_or_shown_while_the_database_takes_no_writes() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        let id = job.single.expect("one").id;
        let mut viewer = site.follow(&site.admin, job.id, &json!({})).await;
        let mut script = agent.start().await;
        site.wait_operation(id, OperationState::Running).await;
        let held = site.hold_database().await;
        agent.write(&mut script, Stream::Stdout, b"hello").await;
        agent.say_about(id, &script.result(Outcome::Exited { code: 3 })).await;
        let operations = &site.server.running.state.operations;
        eventually("a writer in trouble", || async {
            (operations.health() == WriterHealth::DatabaseDown).then_some(())
        })
        .await;
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Acknowledge), 0, "acknowledged too early");
        assert_eq!(operations.0.recent.find(id, 0), None, "left to followers too early");
        let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
        let request = request.json(&shell("web-1"));
        refused(request, StatusCode::SERVICE_UNAVAILABLE, "database_down").await;
        assert_eq!(site.operation(id).await.state, OperationState::Running);
        drop(held);
        agent.result_acknowledged(id).await;
        assert_eq!(site.operation(id).await.exit_code, Some(3));
        assert_eq!(site.output(id, "").await, b"hello");
        assert!(operations.0.recent.find(id, 0).is_some());
        assert_eq!(output_of(&viewer.all().await), b"hello");
        assert_eq!(operations.health(), WriterHealth::Good);
        let id = site.run("web-1").await;
        agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn damaged_segment_is_an_error_and_no_garbage() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        let mut script = agent.start().await;
        let id = script.id;
        agent.write(&mut script, Stream::Stdout, &vec![b'a'; 60_000]).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        assert_eq!(site.output(id, "").await.len(), 60_000);
        let folder = site.server.folder.path().join("output");
        let file = std::fs::read_dir(&folder).expect("a folder").next().expect("one").expect("it");
        let mut bytes = std::fs::read(file.path()).expect("a segment");
        bytes[30_000] ^= 1;
        std::fs::write(file.path(), &bytes).expect("damaged");
        for damage in 0..2 {
            if damage == 1 {
                std::fs::remove_file(file.path()).expect("removed");
            }
            let path = format!("/api/operations/{id}/output");
            let request = site.server.request_as(&site.admin, Method::GET, &path);
            let answer = request.send().await.expect("headers");
            let body = answer.bytes().await;
            assert!(body.is_err(), "{:?}", body.map(|bytes| bytes.len()));
            let mut viewer = site.follow(&site.admin, job.id, &json!({})).await;
            while let Some((header, _)) = viewer.next().await {
                assert_ne!(header.kind, reeve_sdk::api::follow::FrameKind::End);
            }
        }
        assert_eq!(site.operation(id).await.state, OperationState::Succeeded);
    })
    .await;
}

#[tokio::test]
async fn last_two_operations_of_a_job_may_end_at_the_same_time() {
    on_each_engine(|site| async move {
        for round in 0..12 {
            let mut staying = site.online(&format!("round-{round}-a")).await;
            let leaving = site.join(&format!("round-{round}-b")).await;
            let mut agent = site.arrive(&leaving).await;
            let job = site.submit(&shell(&format!("round-{round}-*"))).await;
            let script = staying.start().await;
            agent.start().await;
            // One ends by its result, in the writer; the other because its machine is revoked, in
            // the conductor.
            let path = format!("/api/machines/{}/revoke", leaving.name);
            let revoke = site.server.request_as(&site.admin, Method::POST, &path).send();
            let finish = staying.finish(&script, Outcome::Exited { code: 0 });
            let (revoked, ()) = tokio::join!(revoke, finish);
            assert!(revoked.expect("an answer").status().is_success());
            site.wait_job(job.id, JobState::Failed).await;
        }
    })
    .await;
}
