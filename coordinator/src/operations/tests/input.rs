//! Stdin: in order, once, over cuts.

use reeve_protocol::{Control, Credit, Kind, OperationId, Outcome, ReportedState};
use reeve_sdk::api::{InputAccepted, OperationState};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::super::testing::{Site, on_each_engine, sent, shell, with};
use crate::fleet::testing::Agent;

fn cat(machine: &str) -> serde_json::Value {
    let operation = json!({ "execute_command": { "shell": "cat", "stdin": true } });
    with(shell(machine), json!({ "operation": operation }))
}

fn piece(site: &Site, id: OperationId, offset: u64, bytes: &[u8], end: bool) -> RequestBuilder {
    let path = format!("/api/operations/{id}/input?offset={offset}&end={end}");
    site.server.request_as(&site.admin, Method::POST, &path).body(bytes.to_vec())
}

async fn hear_input(agent: &mut Agent, id: OperationId) -> (u64, Vec<u8>) {
    match agent.control(id).await {
        Control::Input { offset, bytes } => (offset, bytes),
        other => panic!("{other:?}"),
    }
}

async fn take(agent: &mut Agent, id: OperationId, received: u64, closed: bool) {
    let until = received + 256 * 1024;
    agent.say_about(id, &Credit::Stdin { received, until, closed }).await;
}

#[tokio::test]
async fn pieces_arrive_in_order_and_once_whatever_order_they_are_sent_in() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&cat("web-1")).await;
        let script = agent.start().await;
        let id = script.id;
        assert_eq!(job.single.expect("one").id, id);
        site.wait_operation(id, OperationState::Running).await;
        let ask = |offset, bytes: &'static [u8], end| {
            sent::<InputAccepted>(piece(&site, id, offset, bytes, end))
        };
        let play = async {
            let mut all = Vec::new();
            while all.len() < 12 {
                let (offset, bytes) = hear_input(&mut agent, id).await;
                assert_eq!(offset, all.len() as u64, "a repeated or missing piece");
                all.extend_from_slice(&bytes);
            }
            assert_eq!(all, b"onetwothree!");
            assert_eq!(agent.control(id).await, Control::CloseInput { offset: 12 });
            take(&mut agent, id, 12, false).await;
        };
        let (last, second, first, again, ()) = tokio::join!(
            ask(6, b"three!", true),
            ask(3, b"two", false),
            ask(0, b"one", false),
            ask(0, b"one", false),
            play
        );
        assert_eq!((last.received, last.closed), (12, false));
        assert!(first.received >= 3 && again.received >= 3 && second.received >= 6);
        // Once more changes nothing: the end is said once in a session.
        assert_eq!(ask(6, b"three!", true).await.received, 12);
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Control), 0);
        let seen = site.operation(id).await;
        assert_eq!((seen.stdin_received, seen.stdin_closed), (12, false));
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        // Whoever still sends is told to stop.
        assert!(ask(12, b"more", false).await.closed);
    })
    .await;
}

#[tokio::test]
async fn cut_link_resumes_stdin_where_the_machine_has_it() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        site.submit(&cat("web-1")).await;
        let script = agent.start().await;
        let id = script.id;
        let ask = sent::<InputAccepted>(piece(&site, id, 0, b"0123456789", true));
        let play = async {
            assert_eq!(hear_input(&mut agent, id).await.1, b"0123456789");
            assert_eq!(agent.control(id).await, Control::CloseInput { offset: 10 });
            // Four of them reached the keeper.
            drop(agent);
            site.wait_until_gone(&identity).await;
            let mut agent = Agent::connect(&site.server, &identity).await;
            let mut report = script.report(ReportedState::Running);
            report.stdin_received = 4;
            agent.report(vec![report]).await;
            assert_eq!(hear_input(&mut agent, id).await, (4, b"456789".to_vec()));
            assert_eq!(agent.control(id).await, Control::CloseInput { offset: 10 });
            take(&mut agent, id, 10, false).await;
            agent
        };
        let (answer, agent) = tokio::join!(ask, play);
        assert_eq!(answer.received, 10);
        // All of it is there; the end has to be said to the next session, too.
        drop(agent);
        site.wait_until_gone(&identity).await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        let mut report = script.report(ReportedState::Running);
        report.stdin_received = 10;
        agent.report(vec![report]).await;
        assert_eq!(agent.control(id).await, Control::CloseInput { offset: 10 });
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        assert_eq!(agent.kept(&Kind::Control), 0);
    })
    .await;
}

#[tokio::test]
async fn command_that_reads_no_more_ends_stdin() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        site.submit(&cat("web-1")).await;
        let script = agent.start().await;
        let ask = sent::<InputAccepted>(piece(&site, script.id, 0, &[7; 200_000], false));
        let play = async {
            let mut heard = 0;
            while heard < 200_000 {
                heard += hear_input(&mut agent, script.id).await.1.len();
            }
            take(&mut agent, script.id, 100, true).await;
        };
        let (answer, ()) = tokio::join!(ask, play);
        assert_eq!((answer.received, answer.closed), (100, true));
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn no_more_than_the_window_is_sent_ahead() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        site.submit(&cat("web-1")).await;
        let script = agent.start().await;
        let id = script.id;
        let (one, two) = (vec![1; 256 * 1024], vec![2; 100_000]);
        let first = sent::<InputAccepted>(piece(&site, id, 0, &one, false));
        let second = sent::<InputAccepted>(piece(&site, id, one.len() as u64, &two, false));
        let play = async {
            let mut heard = 0;
            while heard < one.len() {
                heard += hear_input(&mut agent, id).await.1.len();
            }
            agent.settle().await;
            assert_eq!((heard, agent.kept(&Kind::Control)), (one.len(), 0), "over the window");
            let (received, until) = (50_000, one.len() as u64 + 100_000);
            agent.say_about(id, &Credit::Stdin { received, until, closed: false }).await;
            while heard < one.len() + two.len() {
                heard += hear_input(&mut agent, id).await.1.len();
            }
            take(&mut agent, id, heard as u64, false).await;
        };
        let (_, second, ()) = tokio::join!(first, second, play);
        assert_eq!(second.received, 256 * 1024 + 100_000);
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
    })
    .await;
}
