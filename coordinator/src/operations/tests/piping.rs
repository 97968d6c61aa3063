//! Output of one operation into stdin of another.

use reeve_protocol::{Control, Credit, Kind, OperationId, Outcome, ReportedState, Stream, limits};
use reeve_sdk::api::{Job, JobState, OperationState, Role};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::testing::{Site, on_each_engine, sent, shell, with};
use crate::fleet::testing::Agent;
use crate::testing::refused;

fn reading(machine: &str) -> Value {
    let operation = json!({ "execute_command": { "shell": "cat >there", "stdin": true } });
    with(shell(machine), json!({ "operation": operation }))
}

fn into(machine: &str, destination: OperationId) -> Value {
    with(shell(machine), json!({ "output_to": { "operation": destination } }))
}

async fn hear(agent: &mut Agent, id: OperationId, from: u64, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
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
async fn output_of_one_machine_is_stdin_of_another_and_is_not_kept() {
    on_each_engine(|site| async move {
        let mut here = site.online("web-1").await;
        let mut there = site.online("db-1").await;
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        let job = site.submit(&into("web-1", destination)).await;
        assert_eq!(job.output_to.map(|to| to.operation), Some(destination));
        let (target, mut source) = (there.start().await, here.start().await);
        here.write(&mut source, Stream::Stdout, b"one").await;
        here.write(&mut source, Stream::Stderr, b"a word").await;
        here.write(&mut source, Stream::Stdout, b"two").await;
        assert_eq!(hear(&mut there, target.id, 0, 6).await, b"onetwo");
        take(&mut there, target.id, 6).await;
        here.settle().await;
        // Not before the source has succeeded.
        assert_eq!(there.kept(&Kind::Control), 0);
        here.finish(&source, Outcome::Exited { code: 0 }).await;
        assert_eq!(there.control(target.id).await, Control::CloseInput { offset: 6 });
        there.finish(&target, Outcome::Exited { code: 0 }).await;
        site.wait_job(job.id, JobState::Succeeded).await;
        let path = format!("/api/operations/{}/output?stream=stdout", source.id);
        let output = site.server.request_as(&site.admin, Method::GET, &path);
        refused(output, StatusCode::CONFLICT, "output_relayed").await;
    })
    .await;
}

#[tokio::test]
async fn a_source_writes_as_far_as_its_destination_takes_it() {
    on_each_engine(|site| async move {
        let mut here = site.online("web-1").await;
        let mut there = site.online("db-1").await;
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        site.submit(&into("web-1", destination)).await;
        let (target, mut source) = (there.start().await, here.start().await);
        let first = vec![1; usize::try_from(limits::INITIAL_CREDIT).expect("small")];
        here.write(&mut source, Stream::Stdout, &first).await;
        assert!(hear(&mut there, target.id, 0, first.len()).await == first);
        here.settle().await;
        // It went on, but its destination's machine has not said that it arrived.
        assert_eq!(here.granted(source.id), None, "credit for what nobody took");
        take(&mut there, target.id, first.len() as u64).await;
        here.credit(source.id, first.len() as u64 + 1).await;
    })
    .await;
}

#[tokio::test]
async fn cuts_of_either_link_repeat_and_lose_nothing() {
    on_each_engine(|site| async move {
        let (web, db) = (site.join("web-1").await, site.join("db-1").await);
        let (mut here, mut there) = (site.arrive(&web).await, site.arrive(&db).await);
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        site.submit(&into("web-1", destination)).await;
        let (target, mut source) = (there.start().await, here.start().await);
        here.write(&mut source, Stream::Stdout, b"0123456789").await;
        assert_eq!(hear(&mut there, target.id, 0, 10).await, b"0123456789");
        // Four of them reached the destination's keeper.
        drop(there);
        site.wait_until_gone(&db).await;
        let mut there = Agent::connect(&site.server, &db).await;
        let mut report = target.report(ReportedState::Running);
        report.stdin_received = 4;
        there.report(vec![report]).await;
        assert_eq!(hear(&mut there, target.id, 4, 6).await, b"456789");
        take(&mut there, target.id, 10).await;
        drop(here);
        site.wait_until_gone(&web).await;
        let mut here = Agent::connect(&site.server, &web).await;
        here.report(vec![source.report(ReportedState::Running)]).await;
        here.acknowledged(source.id, 10).await;
        here.write(&mut source, Stream::Stdout, b"abc").await;
        assert_eq!(hear(&mut there, target.id, 10, 3).await, b"abc");
        take(&mut there, target.id, 13).await;
        here.finish(&source, Outcome::Exited { code: 0 }).await;
        assert_eq!(there.control(target.id).await, Control::CloseInput { offset: 13 });
        there.finish(&target, Outcome::Exited { code: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn a_source_that_fails_cancels_its_destination_and_says_why() {
    on_each_engine(|site| async move {
        let mut here = site.online("web-1").await;
        let mut there = site.online("db-1").await;
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        site.submit(&into("web-1", destination)).await;
        let (target, mut source) = (there.start().await, here.start().await);
        here.write(&mut source, Stream::Stdout, b"half").await;
        here.write(&mut source, Stream::Stderr, b"disk on fire\n").await;
        here.finish(&source, Outcome::Exited { code: 1 }).await;
        loop {
            match there.control(target.id).await {
                Control::Input { .. } => {}
                Control::Cancel { reason } => {
                    break assert!(reason.contains("did not succeed: disk on fire"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
        there.finish(&target, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
        let ended = site.wait_operation(target.id, OperationState::Cancelled).await;
        assert!(ended.reason.expect("a reason").message.contains("disk on fire"));
    })
    .await;
}

#[tokio::test]
async fn a_source_that_never_starts_cancels_its_destination() {
    on_each_engine(|site| async move {
        site.join("web-1").await;
        let mut there = site.online("db-1").await;
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        site.submit(&into("web-1", destination)).await;
        let target = there.start().await;
        assert!(matches!(there.control(target.id).await, Control::Cancel { .. }));
    })
    .await;
}

#[tokio::test]
async fn a_destination_that_ends_cancels_its_source() {
    on_each_engine(|site| async move {
        let mut here = site.online("web-1").await;
        let mut there = site.online("db-1").await;
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        site.submit(&into("web-1", destination)).await;
        let (target, source) = (there.start().await, here.start().await);
        there.finish(&target, Outcome::Exited { code: 3 }).await;
        assert!(matches!(here.control(source.id).await, Control::Cancel { .. }));
    })
    .await;
}

#[tokio::test]
async fn a_restart_ends_both_in_order() {
    on_each_engine(|site| async move {
        let (web, db) = (site.join("web-1").await, site.join("db-1").await);
        let (mut here, mut there) = (site.arrive(&web).await, site.arrive(&db).await);
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        site.submit(&into("web-1", destination)).await;
        let (target, mut source) = (there.start().await, here.start().await);
        here.write(&mut source, Stream::Stdout, b"half").await;
        hear(&mut there, target.id, 0, 4).await;
        let site = site.restart().await;
        let mut here = Agent::connect(&site.server, &web).await;
        here.report(vec![source.report(ReportedState::Running)]).await;
        let mut there = Agent::connect(&site.server, &db).await;
        there.report(vec![target.report(ReportedState::Running)]).await;
        for (agent, id) in [(&mut here, source.id), (&mut there, target.id)] {
            match agent.control(id).await {
                Control::Cancel { reason } => assert!(reason.contains("restarted"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn only_one_source_of_ones_own_feeds_an_operation_that_reads() {
    on_each_engine(|site: Site| async move {
        let other = site.add_user("eve", Role::Operator, "@all").await;
        let mut here = site.online("web-1").await;
        let _there = site.online("db-1").await;
        let destination = site.submit(&reading("db-1")).await.single.expect("one").id;
        let ask = |token: &str, request: &Value| {
            site.server.request_as(token, Method::POST, "/api/jobs").json(request)
        };
        let theirs = ask(&other, &into("web-1", destination));
        refused(theirs, StatusCode::FORBIDDEN, "forbidden").await;
        let deaf = site.run("web-1").await;
        refused(ask(&site.admin, &into("db-1", deaf)), StatusCode::CONFLICT, "no_stdin").await;
        let many = ask(&site.admin, &into("web-1,db-1", destination));
        refused(many, StatusCode::UNPROCESSABLE_ENTITY, "invalid_request").await;
        let first = ask(&site.admin, &into("web-1", destination)).header("idempotency-key", "k");
        let first: Job = sent(first).await;
        let second = ask(&site.admin, &into("web-1", destination));
        refused(second, StatusCode::CONFLICT, "already_fed").await;
        let again = ask(&site.admin, &into("web-1", destination)).header("idempotency-key", "k");
        assert_eq!(sent::<Job>(again).await.id, first.id);
        here.start().await;
    })
    .await;
}
