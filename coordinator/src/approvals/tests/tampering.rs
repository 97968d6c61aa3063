//! Somebody with a hand in the database: what was changed there does not run.

use reeve_protocol::Kind;
use reeve_sdk::api::OperationState;
use reqwest::StatusCode;
use serde_json::json;

use super::{decide, line, policy};
use crate::operations::testing::{on_each_engine, on_each_engine_with, with};

const ONE: &str = "[[policy]]\nmatch = '@all'\nchange = 'approve'\n";

#[tokio::test]
async fn a_changed_row_is_refused_before_it_becomes_a_job() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        site.online("web-2").await;
        for (number, change) in [
            "update approvals set request = replace(request, 'restart app', 'restart aqq') where state = 'approved'",
            "update approvals set machines = (select replace(machines, substr(machines, 9, 36), \
                 '00000000-0000-7000-8000-000000000000')) where state = 'approved'",
            "update approvals set expires_us = expires_us + 1 where state = 'approved'",
            "delete from approval_decisions where approval_id in (select id from approvals where state = 'approved')",
        ]
        .into_iter()
        .enumerate()
        {
            let id = site.approved_step(&site.admin, &["web-1"]).await.id;
            site.tamper(change).await;
            let admin = site.principal(&site.admin).await;
            let approvals = &site.server.running.state.approvals;
            let error = approvals.redeem(&admin, id, "k").await.expect_err("refused");
            assert_eq!(error.code(), "approval_mismatch", "change {number}");
            approvals.withdraw(id, "done with it").await.expect("withdrawn");
        }
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Request), 0);
    })
    .await;
}

#[tokio::test]
async fn nobody_can_say_yes_to_a_row_that_was_changed_under_its_digest() {
    on_each_engine_with(policy(ONE), |site| async move {
        let _agent = site.online("web-1").await;
        let needed = site.needs(&site.admin, &line("web-1", "systemctl stop app")).await;
        site.tamper("update approvals set request = replace(request, 'stop app', 'stop aqq')")
            .await;
        let body = decide(&needed.digest, "");
        let conflict = StatusCode::CONFLICT;
        site.cannot(&site.admin, needed.id, "approve", body, conflict, "approval_changed").await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_was_changed_while_it_waited_is_refused_when_its_machine_comes() {
    on_each_engine_with(policy(ONE), |site| async move {
        let mut site = site;
        let identity = site.join("web-1").await;
        for change in [
            "update jobs set operation = replace(operation, 'stop app', 'stop aqq') where state = 'running'",
            "update jobs set approval = replace(approval, '\"expires_us\":', '\"expires_us\":1') where state = 'running'",
            "update jobs set approval = '{}' where state = 'running'",
        ] {
            let request = with(line("web-1", "systemctl stop app"), json!({ "wait_ms": 3_600_000 }));
            let needed = site.needs(&site.admin, &request).await;
            let used = site.say(&site.admin, needed.id, "approve", &needed.digest).await;
            let job = site.job(used.job_id.expect("a job")).await;
            site.tamper(change).await;
            site = site.restart().await;
            let mut agent = site.arrive(&identity).await;
            let id = job.single.expect("one machine").id;
            let operation = site.wait_operation(id, OperationState::Refused).await;
            assert_eq!(operation.reason.expect("a reason").code, "approval_mismatch", "{change}");
            agent.settle().await;
            assert_eq!(agent.kept(&Kind::Request), 0, "{change}");
            drop(agent);
            site.wait_until_gone(&identity).await;
        }
    })
    .await;
}
