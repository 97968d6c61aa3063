//! The coordinator ends and starts again; links are cut and come back.

use reeve_protocol::{Acknowledge, Control, JournalId, Kind, Outcome, ReportedState, Stream};
use reeve_sdk::api::{JobState, OperationState};
use serde_json::json;

use super::super::testing::{on_each_engine, shell, with};
use crate::fleet::testing::{Agent, Script};

#[tokio::test]
async fn operation_that_waits_for_its_machine_survives_a_restart() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let job = site.submit(&with(shell("web-1"), json!({ "wait_ms": 3_600_000 }))).await;
        let site = site.restart().await;
        assert_eq!(site.job(job.id).await.counts.queued, 1);
        let mut agent = site.arrive(&identity).await;
        let (id, request) = agent.request().await;
        assert!(request.expires_in_ms.is_some_and(|left| left <= 3_600_000));
        agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
        site.wait_job(job.id, JobState::Succeeded).await;
    })
    .await;
}

#[tokio::test]
async fn running_operation_survives_a_restart_and_its_result_counts_once() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let id = site.run("web-1").await;
        let mut script = agent.start().await;
        agent.write(&mut script, Stream::Stdout, b"before ").await;
        agent.acknowledged(id, 7).await;
        site.wait_operation(id, OperationState::Running).await;
        let site = site.restart().await;
        assert_eq!(site.operation(id).await.state, OperationState::Running);
        assert_eq!(site.operation(id).await.reachable, Some(false));

        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![script.report(ReportedState::Running)]).await;
        let acknowledge = agent.acknowledged(id, 0).await;
        assert_eq!(acknowledge, Acknowledge { durable: 7, result: false });
        assert!(agent.credit(id, 8).await >= 7 + 64 * 1024);
        agent.write(&mut script, Stream::Stdout, b"after").await;
        agent.finish(&script, Outcome::Exited { code: 4 }).await;
        assert_eq!(site.output(id, "").await, b"before after");

        // The answer was lost, so it is said again, with something else even: nothing changes.
        agent.say_about(id, &script.result(Outcome::Exited { code: 0 })).await;
        agent.result_acknowledged(id).await;
        assert_eq!(site.operation(id).await.exit_code, Some(4));
        drop(agent);
        let site = site.restart().await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![script.report(ReportedState::Finished)]).await;
        agent.result_acknowledged(id).await;
        assert_eq!(site.operation(id).await.state, OperationState::Failed);
        assert_eq!(agent.kept(&Kind::Request), 0);
    })
    .await;
}

#[tokio::test]
async fn result_that_comes_before_the_report_is_not_acknowledged_unrecorded() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let id = site.run("web-1").await;
        let script = agent.start().await;
        site.wait_operation(id, OperationState::Running).await;
        let site = site.restart().await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.say_about(id, &script.result(Outcome::Exited { code: 5 })).await;
        agent.settle().await;
        agent.report(vec![script.report(ReportedState::Finished)]).await;
        let acknowledge = agent.acknowledged(id, 0).await;
        if acknowledge.result {
            assert_eq!(site.operation(id).await.exit_code, Some(5), "acknowledged and forgotten");
        } else {
            agent.finish(&script, Outcome::Exited { code: 5 }).await;
        }
        assert_eq!(site.operation(id).await.exit_code, Some(5));
    })
    .await;
}

#[tokio::test]
async fn reported_start_counts_when_its_announcement_was_lost() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let id = site.run("web-1").await;
        let (found, _) = agent.request().await;
        assert_eq!(found, id);
        drop(agent);
        site.wait_until_gone(&identity).await;
        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![Script::new(id).report(ReportedState::Running)]).await;
        site.wait_operation(id, OperationState::Running).await;
        agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn output_sent_again_in_other_pieces_is_stored_once() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let id = site.run("web-1").await;
        let mut script = agent.start().await;
        agent.write(&mut script, Stream::Stdout, b"0123").await;
        agent.write(&mut script, Stream::Stderr, b"45").await;
        agent.write(&mut script, Stream::Stdout, b"6789").await;
        agent.acknowledged(id, 10).await;
        drop(agent);
        site.wait_until_gone(&identity).await;

        let mut agent = Agent::connect(&site.server, &identity).await;
        agent.report(vec![script.report(ReportedState::Running)]).await;
        assert_eq!(agent.acknowledged(id, 0).await.durable, 10);
        let mut again = Script::new(id);
        for (stream, piece) in [
            (Stream::Stdout, &b"01"[..]),
            (Stream::Stdout, b"23"),
            (Stream::Stderr, b"4"),
            (Stream::Stderr, b"5"),
            (Stream::Stdout, b"6789abc"),
            (Stream::Stderr, b"de"),
        ] {
            agent.write(&mut again, stream, piece).await;
        }
        agent.finish(&again, Outcome::Exited { code: 0 }).await;
        assert_eq!(site.output(id, "").await, b"0123456789abcde");
        assert_eq!(site.output(id, "stream=stdout").await, b"01236789abc");
        assert_eq!(site.output(id, "stream=stderr&from=1").await, b"5de");
    })
    .await;
}

#[tokio::test]
async fn request_that_never_arrived_is_sent_again_once_and_only_to_the_same_memory() {
    on_each_engine(|site| async move {
        for (case, ending) in
            [("same", None), ("boot", Some("rebooted")), ("journal", Some("journal_gone"))]
        {
            let mut identity = site.join(&format!("machine-{case}")).await;
            let mut agent = site.arrive(&identity).await;
            let id = site.run(&identity.name).await;
            let (found, first) = agent.request().await;
            assert_eq!(found, id);
            drop(agent);
            site.wait_until_gone(&identity).await;
            match case {
                "boot" => identity.boot = "boot-2".to_owned(),
                "journal" => identity.journal = JournalId::new(),
                _ => {}
            }
            let mut agent = site.arrive(&identity).await;
            if let Some(code) = ending {
                let lost = site.wait_operation(id, OperationState::Lost).await;
                assert_eq!(lost.reason.expect("a reason").code, code);
                agent.settle().await;
                assert_eq!(agent.kept(&Kind::Request), 0, "{case}");
                // What the machine says of it later changes nothing any more.
                agent.say_about(id, &Script::new(id).result(Outcome::Exited { code: 0 })).await;
                agent.result_acknowledged(id).await;
                assert_eq!(site.operation(id).await.state, OperationState::Lost);
            } else {
                let (again, second) = agent.request().await;
                assert_eq!((again, &second), (id, &first));
                agent.accept(id).await;
                agent.settle().await;
                assert_eq!(agent.kept(&Kind::Request), 0);
                agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn started_operation_that_its_agent_forgot_is_lost_and_never_rerun() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let id = site.run("web-1").await;
        agent.start().await;
        site.wait_operation(id, OperationState::Running).await;
        drop(agent);
        site.wait_until_gone(&identity).await;
        let mut agent = site.arrive(&identity).await;
        let lost = site.wait_operation(id, OperationState::Lost).await;
        assert_eq!(lost.reason.expect("a reason").code, "forgotten");
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Request), 0);
    })
    .await;
}

#[tokio::test]
async fn cancellation_reaches_a_machine_that_was_away() {
    on_each_engine(|site| async move {
        for known in [true, false] {
            let identity = site.join(&format!("machine-{known}")).await;
            let mut agent = site.arrive(&identity).await;
            let id = site.run(&identity.name).await;
            agent.request().await;
            drop(agent);
            site.wait_until_gone(&identity).await;
            site.cancel(&format!("operations/{id}")).await;
            assert_eq!(site.operation(id).await.state, OperationState::Sent);
            let mut agent = Agent::connect(&site.server, &identity).await;
            let script = Script::new(id);
            if known {
                agent.report(vec![script.report(ReportedState::Running)]).await;
                let control = agent.control(id).await;
                assert_eq!(control, Control::Cancel { reason: "enough".to_owned() });
                let outcome = Outcome::Cancelled { exit_code: None, signal: Some(15) };
                agent.finish(&script, outcome).await;
            } else {
                agent.report(vec![]).await;
            }
            site.wait_operation(id, OperationState::Cancelled).await;
            agent.settle().await;
            assert_eq!(agent.kept(&Kind::Request), 0);
        }
    })
    .await;
}
