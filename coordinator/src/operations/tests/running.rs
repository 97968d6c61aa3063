//! From the request to the recorded result.

use reeve_protocol::{
    Containment, Evidence, Goodbye, GoodbyeReason, Kind, Outcome, Refusal, Stream, Totals, decode,
    limits, ops,
};
use reeve_sdk::api::{JobState, OperationState};

use super::super::testing::{on_each_engine, shell};
use crate::fleet::testing::{Identity, STARTED_US, Script};

#[tokio::test]
async fn command_runs_from_request_to_result_and_every_step_is_recorded_first() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let job = site.submit(&shell("web-1")).await;
        let (id, request) = agent.request().await;
        // The frame is here, so the row has to say that it was sent, and to which boot.
        let row = crate::operations::store::load(
            &mut site.server.running.state.db.reader().await.expect("a reader"),
            id,
        )
        .await
        .expect("an answer")
        .expect("a row");
        assert_eq!(row.state, OperationState::Sent);
        assert_eq!(row.boot_id.as_deref(), Some("boot-1"));
        assert_eq!(row.journal_id, Some(identity.journal));
        assert_eq!((request.boot_id.as_str(), request.journal), ("boot-1", identity.journal));
        assert_eq!(request.expires_in_ms, None);
        let command: ops::ExecuteCommand = decode(&request.body).expect("a command");
        assert_eq!(command.command, ops::Command::Shell("true".to_owned()));
        assert_eq!(job.single.map(|operation| operation.id), Some(id));

        agent.accept(id).await;
        let running = site.wait_operation(id, OperationState::Running).await;
        assert_eq!(running.started.map(|at| at.as_micros()), Some(STARTED_US));
        assert_eq!(running.containment, Some(Containment::CgroupV2));
        assert_eq!(running.reachable, Some(true));

        let mut script = Script::new(id);
        agent.write(&mut script, Stream::Stdout, b"hello\n").await;
        agent.write(&mut script, Stream::Stderr, b"oops\n").await;
        // What is acknowledged can be read back.
        agent.acknowledged(id, 11).await;
        assert_eq!(site.output(id, "").await, b"hello\noops\n");
        assert_eq!(site.output(id, "stream=stderr").await, b"oops\n");
        assert_eq!(agent.kept(&Kind::Request), 0);

        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        // Acknowledged, so recorded: no waiting here.
        let ended = site.operation(id).await;
        assert_eq!(ended.state, OperationState::Succeeded);
        assert_eq!((ended.exit_code, ended.duration_ms), (Some(0), Some(5)));
        assert_eq!((ended.output.all, ended.output.stdout, ended.output.stderr), (11, 6, 5));
        assert_eq!(site.job(job.id).await.state, JobState::Succeeded);
    })
    .await;
}

#[tokio::test]
async fn every_outcome_has_its_state() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let refused = |code: &str| {
            Outcome::Refused(Refusal { code: code.to_owned(), message: "no".to_owned() })
        };
        let not_started = Outcome::NotStarted {
            exit_code: 127,
            code: "command_not_found".to_owned(),
            message: "gone\0".to_owned(),
        };
        let lost = Outcome::Lost(Evidence {
            code: "keeper_killed".to_owned(),
            message: "killed".to_owned(),
            last_byte: Some(7),
            ..Evidence::default()
        });
        let (cancelled, timed_out) = (
            Outcome::Cancelled { exit_code: None, signal: Some(15) },
            Outcome::TimedOut { exit_code: Some(3), signal: None },
        );
        let table = [
            (Outcome::Exited { code: 0 }, OperationState::Succeeded, Some(0), None, None),
            (Outcome::Exited { code: 3 }, OperationState::Failed, Some(3), None, None),
            (Outcome::Signaled { signal: 9 }, OperationState::Failed, None, Some(9), None),
            (not_started, OperationState::Failed, Some(127), None, Some("command_not_found")),
            (timed_out, OperationState::TimedOut, Some(3), None, None),
            (cancelled, OperationState::Cancelled, None, Some(15), None),
            (refused("busy"), OperationState::Refused, None, None, Some("busy")),
            (refused("expired"), OperationState::Expired, None, None, Some("expired")),
            (lost, OperationState::Lost, None, None, Some("keeper_killed")),
        ];
        for (outcome, state, exit_code, signal, code) in table {
            let job = site.submit(&shell("web-1")).await;
            let (id, _) = agent.request().await;
            agent.finish(&Script::new(id), outcome.clone()).await;
            let ended = site.operation(id).await;
            let found = (ended.state, ended.exit_code, ended.signal);
            assert_eq!(found, (state, exit_code, signal), "{outcome:?}");
            assert_eq!(ended.reason.as_ref().map(|reason| reason.code.as_str()), code);
            let expected = match state {
                OperationState::Succeeded => JobState::Succeeded,
                _ => JobState::Failed,
            };
            assert_eq!(site.job(job.id).await.state, expected, "{outcome:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn broken_rule_closes_the_link_and_no_other() {
    on_each_engine(|site| async move {
        let mut bystander = site.online("bystander").await;
        let identity = site.join("web-1").await;
        let full = vec![b'x'; limits::MAX_DATA_BYTES];
        for breach in ["short result", "no credit", "hole", "too much", "kind", "garbage"] {
            let mut agent = site.arrive(&identity).await;
            site.run("web-1").await;
            let mut script = agent.start().await;
            match breach {
                "short result" => {
                    script.totals = Totals { all: 1, stdout: 1, stderr: 0 };
                    agent.say_about(script.id, &script.result(Outcome::Exited { code: 0 })).await;
                }
                "no credit" => {
                    let at = Totals { all: 65_530, stdout: 65_530, stderr: 0 };
                    agent.output(script.id, Stream::Stdout, Totals::default(), &full[6..]).await;
                    agent.output(script.id, Stream::Stdout, at, &[b'x'; 4096]).await;
                    agent.output(script.id, Stream::Stdout, at, &full).await;
                    let at = Totals { all: 131_066, stdout: 131_066, stderr: 0 };
                    for piece in 0..300 {
                        let at = Totals {
                            all: at.all + piece * 65_536,
                            stdout: at.stdout + piece * 65_536,
                            stderr: 0,
                        };
                        agent.output(script.id, Stream::Stdout, at, &full).await;
                    }
                }
                "hole" => {
                    let at = Totals { all: 5, stdout: 5, stderr: 0 };
                    agent.output(script.id, Stream::Stdout, at, b"x").await;
                }
                "too much" => {
                    let large = vec![0; limits::MAX_DATA_BYTES + 1];
                    agent.output(script.id, Stream::Stdout, Totals::default(), &large).await;
                }
                "kind" => agent.say(&identity.hello()).await,
                _ => agent.send(vec![0xC1; 40]).await,
            }
            let goodbye = agent
                .hear_until_closed()
                .await
                .into_iter()
                .find_map(|one| one.open::<Goodbye>().ok().map(|goodbye| goodbye.reason));
            let said = (breach != "garbage").then_some(GoodbyeReason::Protocol);
            assert_eq!(goodbye, said, "{breach}");
            site.wait_until_gone(&identity).await;
            // It is not lost by that: the agent may come back with it.
            let operation = site.operation(script.id).await;
            assert!(!operation.state.is_terminal(), "{breach}: {operation:?}");
            let mut agent = site.arrive(&identity).await;
            let _ = site.wait_operation(script.id, OperationState::Lost).await;
            agent.settle().await;
        }
        bystander.settle().await;
        site.run("bystander").await;
        let script = bystander.start().await;
        bystander.finish(&script, Outcome::Exited { code: 0 }).await;
    })
    .await;
}

#[tokio::test]
async fn machine_gets_no_more_than_its_places_and_freed_places_are_used() {
    super::super::testing::on_each_engine_with(
        |config| config.limits.in_flight_per_machine = 3,
        |site| async move {
            let mut identity: Identity = site.join("web-1").await;
            identity.max_concurrent = 2;
            let mut agent = site.arrive(&identity).await;
            let mut asked = Vec::new();
            for _ in 0..5 {
                asked.push(site.run("web-1").await);
            }
            let mut running = std::collections::VecDeque::new();
            for _ in 0..2 {
                running.push_back(agent.start().await);
            }
            for id in &asked {
                let state = site.operation(*id).await.state;
                let here = running.iter().any(|script: &Script| script.id == *id);
                assert_eq!(state == OperationState::Queued, !here, "{state:?}");
            }
            let mut seen = Vec::new();
            while let Some(script) = running.pop_front() {
                agent.settle().await;
                assert_eq!(agent.kept(&Kind::Request), 0, "more than two at once");
                agent.finish(&script, Outcome::Exited { code: 0 }).await;
                seen.push(script.id);
                if seen.len() <= 3 {
                    running.push_back(agent.start().await);
                }
            }
            assert_eq!(seen, asked, "in the order asked for");
        },
    )
    .await;
}
