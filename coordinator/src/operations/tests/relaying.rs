//! Output that is passed on to whoever asked, and not kept.

use reeve_protocol::{Control, Kind, Outcome, ReportedState, Stream, limits};
use reeve_sdk::api::follow::{FrameKind, MEDIA_TYPE};
use reeve_sdk::api::{JobState, OperationState};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::super::testing::{Site, Viewer, eventually, on_each_engine, output_of, shell, with};
use crate::fleet::testing::{Agent, Script};

fn request() -> Value {
    with(shell("web-1"), json!({ "relay": true }))
}

async fn ask(site: &Site, request: &Value, key: Option<&str>) -> Response {
    let mut call = site
        .server
        .request_as(&site.admin, Method::POST, "/api/jobs")
        .header("accept", MEDIA_TYPE)
        .json(request);
    if let Some(key) = key {
        call = call.header("idempotency-key", key);
    }
    call.send().await.expect("an answer")
}

/// Asks for a relayed command and has it started.
async fn relay(site: &Site, agent: &mut Agent) -> (Viewer, Script) {
    let viewer = Viewer::of(ask(site, &request(), None).await);
    (viewer, agent.start().await)
}

/// The `number`th piece of output that tells where it belongs.
fn piece(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(16 * 1024)
}

async fn code_of(answer: Response) -> String {
    answer.json::<Value>().await.expect("a problem")["code"].as_str().expect("a code").to_owned()
}

#[tokio::test]
async fn relayed_output_comes_in_order_and_is_not_kept() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let (mut viewer, mut script) = relay(&site, &mut agent).await;
        agent.write(&mut script, Stream::Stdout, b"one ").await;
        agent.write(&mut script, Stream::Stderr, b"two ").await;
        // Passed on as it comes, before anything has ended.
        assert_eq!(viewer.wait_for(FrameKind::Output(Stream::Stdout)).await.1, b"one ");
        assert_eq!(viewer.wait_for(FrameKind::Output(Stream::Stderr)).await.1, b"two ");
        let large = piece(7);
        agent.write(&mut script, Stream::Stdout, &large[..60_000]).await;
        let gap = agent.drop_output(&mut script, 5, 6).await;
        agent.write(&mut script, Stream::Stdout, b"end").await;
        agent.finish(&script, Outcome::Exited { code: 3 }).await;
        let frames = viewer.all().await;
        let kinds: Vec<_> = frames
            .iter()
            .map(|(header, _)| header.kind)
            .filter(|kind| !matches!(kind, FrameKind::Operation))
            .collect();
        let stdout = FrameKind::Output(Stream::Stdout);
        assert_eq!(kinds, [stdout, FrameKind::Gap, stdout, FrameKind::Job, FrameKind::End]);
        assert_eq!(frames[frames.len() - 1].0.kind, FrameKind::End);
        let bytes: Vec<&[u8]> = frames
            .iter()
            .filter(|(header, _)| header.kind == stdout)
            .map(|(_, payload)| &**payload)
            .collect();
        assert_eq!(bytes, [&large[..60_000], b"end"]);
        let found: reeve_protocol::Gap = frames
            .iter()
            .find(|(header, _)| header.kind == FrameKind::Gap)
            .map(|(_, payload)| serde_json::from_slice(payload).expect("a gap"))
            .expect("a gap");
        assert_eq!(found, gap);

        // How much it was is recorded; none of it is there.
        let operation = site.operation(script.id).await;
        assert_eq!((operation.state, operation.exit_code), (OperationState::Failed, Some(3)));
        assert_eq!(operation.output.all, script.totals.all);
        let Some([hole]) = operation.output.gaps.as_deref() else {
            panic!("{:?}", operation.output.gaps)
        };
        assert_eq!((hole.from, hole.to), (0, script.totals.all));
        assert!(site.job(operation.job_id).await.relay);
        let path = format!("/api/operations/{}/output", script.id);
        let answer = site.server.request_as(&site.admin, Method::GET, &path).send().await;
        assert_eq!(code_of(answer.expect("an answer")).await, "output_relayed");
        let later = site.follow(&site.admin, operation.job_id, &json!({})).await.all().await;
        assert_eq!(output_of(&later), b"");
    })
    .await;
}

#[tokio::test]
async fn relay_is_asked_for_with_a_stream_and_once() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        site.online("web-2").await;
        let plain = site
            .server
            .request_as(&site.admin, Method::POST, "/api/jobs")
            .json(&with(shell("web-*"), json!({ "relay": true })))
            .send()
            .await
            .expect("an answer");
        assert_eq!(plain.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(code_of(plain).await, "relay_needs_stream");

        let mut viewer = Viewer::of(ask(&site, &request(), Some("once")).await);
        let script = agent.start().await;
        let again = ask(&site, &request(), Some("once")).await;
        assert_eq!(again.status(), StatusCode::CONFLICT);
        assert_eq!(code_of(again).await, "relay_already_asked");
        // The first one goes on.
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Control), 0);
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        viewer.all().await;
        assert_eq!(site.operation(script.id).await.state, OperationState::Succeeded);
    })
    .await;
}

#[tokio::test]
async fn reader_that_stands_still_slows_its_operation_and_no_other() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let (mut viewer, mut script) = relay(&site, &mut agent).await;
        let mut granted = limits::INITIAL_CREDIT;
        let mut number = 0;
        let mut written = Vec::new();
        let mut idle = 0;
        // Until nothing more may be sent: what fits into the sockets and the window.
        while idle < 300 {
            while script.totals.all + 65_536 <= granted {
                let bytes = piece(number);
                number += 1;
                agent.write(&mut script, Stream::Stdout, &bytes).await;
                written.extend_from_slice(&bytes);
                idle = 0;
            }
            assert!(script.totals.all < 64 << 20, "a reader that stands still is not waited for");
            agent.settle().await;
            granted = agent.granted(script.id).unwrap_or(granted).max(granted);
            idle += 1;
        }
        assert!(script.totals.all > 1 << 20, "the window did not grow: {}", script.totals.all);

        // Meanwhile another runs through, on the same link.
        let id = site.run("web-1").await;
        let mut other = agent.start().await;
        agent.write(&mut other, Stream::Stdout, b"quick").await;
        agent.finish(&other, Outcome::Exited { code: 0 }).await;
        assert_eq!(site.output(id, "").await, b"quick");

        // Once it is read, it goes on.
        let tasks = &site.server.running.state.tasks;
        let reading = tasks.spawn("reader", async move { viewer.all().await });
        for _ in 0..100 {
            let needed = script.totals.all + 65_536;
            if needed > granted {
                granted = agent.credit(script.id, needed).await;
            }
            let bytes = piece(number);
            number += 1;
            agent.write(&mut script, Stream::Stdout, &bytes).await;
            written.extend_from_slice(&bytes);
        }
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        assert!(output_of(&reading.await.expect("a reader")) == written);
    })
    .await;
}

#[tokio::test]
async fn cut_link_goes_on_without_gap_or_repeat() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let (mut viewer, mut script) = relay(&site, &mut agent).await;
        let id = script.id;
        let whole: Vec<u8> = (0..40).flat_map(piece).collect();
        let mut granted = limits::INITIAL_CREDIT;
        let tasks = &site.server.running.state.tasks;
        let reading = tasks.spawn("reader", async move { viewer.all().await });
        for cut in 1..=4_usize {
            let until = cut * whole.len() / 4 - 1000 * (4 - cut);
            while (script.totals.all as usize) < until {
                let at = script.totals.all as usize;
                let to = (at + 50_000).min(until);
                if to as u64 > granted {
                    granted = agent.credit(id, to as u64).await;
                }
                agent.write(&mut script, Stream::Stdout, &whole[at..to]).await;
            }
            if cut < 4 {
                agent = Agent::connect(&site.server, &identity).await;
                agent.report(vec![script.report(ReportedState::Running)]).await;
                // Some of what was sent may have been lost with the link.
                let from = agent.acknowledged(id, 0).await.durable;
                assert!(from <= script.totals.all);
                script.totals.all = from;
                script.totals.stdout = from;
                granted = agent.credit(id, 0).await;
                assert!(granted >= from + limits::INITIAL_CREDIT);
            }
        }
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let frames = reading.await.expect("a reader");
        assert!(output_of(&frames) == whole);
        let sent: usize = frames
            .iter()
            .filter(|(header, _)| matches!(header.kind, FrameKind::Output(_)))
            .map(|(_, payload)| payload.len())
            .sum();
        assert_eq!(sent, whole.len());
    })
    .await;
}

#[tokio::test]
async fn reader_that_goes_has_the_operation_cancelled_which_never_waits_for_credit() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let (viewer, mut script) = relay(&site, &mut agent).await;
        agent.write(&mut script, Stream::Stdout, &piece(0)).await;
        drop(viewer);
        let Control::Cancel { reason } = agent.control(script.id).await else {
            panic!("no cancel")
        };
        assert!(reason.contains("its reader is gone"), "{reason}");
        // Its last words are many, and nobody reads them.
        let mut granted = limits::INITIAL_CREDIT;
        for number in 0..400 {
            let needed = script.totals.all + 65_536;
            if needed > granted {
                granted = agent.credit(script.id, needed).await;
            }
            agent.write(&mut script, Stream::Stdout, &piece(number)).await;
        }
        let outcome = Outcome::Cancelled { exit_code: None, signal: Some(15) };
        agent.finish(&script, outcome).await;
        let operation = site.operation(script.id).await;
        assert_eq!(operation.state, OperationState::Cancelled);
        assert_eq!(operation.output.all, script.totals.all);
        site.wait_job(operation.job_id, JobState::Cancelled).await;
    })
    .await;
}

#[tokio::test]
async fn restart_of_the_coordinator_cancels_what_was_relayed() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let (viewer, mut script) = relay(&site, &mut agent).await;
        let id = script.id;
        agent.write(&mut script, Stream::Stdout, &piece(0)).await;
        agent.acknowledged(id, 1).await;
        site.wait_operation(id, OperationState::Running).await;
        drop(agent);
        let site = site.restart().await;
        drop(viewer);

        let mut agent = Agent::connect(&site.server, &identity).await;
        // More was read from the command than was sent.
        let mut report = script.report(ReportedState::Running);
        report.spool_from = script.totals.all;
        report.spool_to = script.totals.all + 1000;
        agent.report(vec![report]).await;
        assert_eq!(agent.acknowledged(id, 1).await.durable, script.totals.all + 1000);
        let Control::Cancel { reason } = agent.control(id).await else { panic!("no cancel") };
        assert!(reason.contains("its reader is gone"), "{reason}");
        script.totals.all += 1000;
        script.totals.stdout += 300;
        script.totals.stderr += 700;
        agent.write(&mut script, Stream::Stdout, b"last words").await;
        agent.finish(&script, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
        let operation = site.operation(id).await;
        assert_eq!(operation.state, OperationState::Cancelled);
        assert_eq!(operation.output.all, script.totals.all);
        assert_eq!(operation.output.stderr, 700);
        site.wait_job(operation.job_id, JobState::Cancelled).await;
        // The machine is told again, and nothing changes.
        agent.say_about(id, &script.result(Outcome::Exited { code: 0 })).await;
        agent.result_acknowledged(id).await;
        assert_eq!(site.operation(id).await.state, OperationState::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn reader_that_goes_before_the_machine_comes_ends_it_at_once() {
    on_each_engine(|site| async move {
        site.join("web-1").await;
        let waits = with(request(), json!({ "wait_ms": 3_600_000 }));
        let mut viewer = Viewer::of(ask(&site, &waits, None).await);
        let (_, job) = viewer.wait_for(FrameKind::Job).await;
        let job: reeve_sdk::api::Job = serde_json::from_slice(&job).expect("a job");
        drop(viewer);
        eventually("the end", || async {
            (site.job(job.id).await.state == JobState::Cancelled).then_some(())
        })
        .await;
    })
    .await;
}
