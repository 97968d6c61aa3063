//! A yes is used once, also when everything happens at the same time or something dies.

use std::collections::BTreeSet;

use reeve_protocol::{Kind, Outcome};
use reeve_sdk::api::{ApprovalState, Job, JobState, Machine, OperationState, Page};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::super::store;
use super::{Hands, line, policy};
use crate::fleet::testing::Script;
use crate::operations::testing::{eventually, on_each_engine, on_each_engine_with, with};
use crate::testing::refused;

const ONE: &str = "[[policy]]\nmatch = '@all'\nchange = 'approve'\n";

#[tokio::test]
async fn many_uses_at_once_start_one_job() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let admin = site.principal(&site.admin).await;
        let approvals = &site.server.running.state.approvals;
        let id = site.approved_step(&site.admin, &["web-1"]).await.id;
        let same = (0..12).map(|_| approvals.redeem(&admin, id, "try 1"));
        let mut jobs = BTreeSet::new();
        for result in futures_util::future::join_all(same).await {
            jobs.insert(result.expect("the same key means the same job"));
        }
        assert_eq!(jobs.len(), 1);
        let error = approvals.redeem(&admin, id, "try 2").await.expect_err("used");
        assert_eq!(error.code(), "approval_used");

        let id = site.approved_step(&site.admin, &["web-1"]).await.id;
        let keys: Vec<String> = (0..12).map(|at| format!("try {at}")).collect();
        let different = keys.iter().map(|key| approvals.redeem(&admin, id, key));
        let results = futures_util::future::join_all(different).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        for _ in 0..2 {
            let (id, _) = agent.request().await;
            agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
        }
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Request), 0, "something ran twice");
        assert_eq!(site.get::<Page<Job>>("/api/jobs").await.items.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_yes_survives_a_restart_before_it_is_used() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let id = site.approved_step(&site.admin, &["web-1"]).await.id;
        let site = site.restart().await;
        let mut agent = site.arrive(&identity).await;
        let admin = site.principal(&site.admin).await;
        let job = site.server.running.state.approvals.redeem(&admin, id, "k").await.expect("used");
        let (operation, request) = agent.request().await;
        assert!(request.approval.is_some());
        agent.finish(&Script::new(operation), Outcome::Exited { code: 0 }).await;
        site.wait_job(job, JobState::Succeeded).await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_between_use_and_job_is_made_good_once() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let id = site.approved_step(&site.admin, &["web-1"]).await.id;
        let state = &site.server.running.state;
        let mut tx = state.db.begin().await.expect("a transaction");
        assert!(store::use_up(&mut tx, id, "k", state.clock.micros()).await.expect("used"));
        tx.commit().await.expect("committed");
        // The coordinator dies here.
        let site = site.restart().await;
        let job = eventually("the job", || async { site.approval(id).await.job_id }).await;
        let admin = site.principal(&site.admin).await;
        let again = site.server.running.state.approvals.redeem(&admin, id, "k").await;
        assert_eq!(again.expect("the same"), job);
        let site = site.restart().await;
        let _agent = site.arrive(&identity).await;
        assert_eq!(site.get::<Page<Job>>("/api/jobs").await.items.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_its_machine_keeps_its_stamp_over_a_restart() {
    on_each_engine_with(policy(ONE), |site| async move {
        let identity = site.join("web-1").await;
        let request = with(line("web-1", "systemctl stop app"), json!({ "wait_ms": 7_200_000 }));
        let needed = site.needs(&site.admin, &request).await;
        site.say(&site.admin, needed.id, "approve", &needed.digest).await;
        let site = site.restart().await;
        let mut agent = site.arrive(&identity).await;
        let (id, request) = agent.request().await;
        let stamp = request.approval.clone().expect("a stamp");
        assert_eq!(crate::hex(&stamp.digest), needed.digest);
        let again = crate::operations::stamp(&request.body, [identity.machine], stamp.expires_us);
        assert_eq!(again, stamp);
        assert!(request.expires_in_ms.is_some_and(|left| left <= 3_600_000), "{request:?}");
        agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
        site.wait_operation(id, OperationState::Succeeded).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_approved_and_waits_too_long_never_runs() {
    let (hands, site) = Hands::start(policy(ONE)).await;
    let identity = site.join("web-1").await;
    let request = with(line("web-1", "systemctl stop app"), json!({ "wait_ms": 7_200_000 }));
    let needed = site.needs(&site.admin, &request).await;
    let used = site.say(&site.admin, needed.id, "approve", &needed.digest).await;
    let job = site.job(used.job_id.expect("a job")).await;
    hands.forward(3601);
    let id = job.single.expect("one machine").id;
    let operation = site.wait_operation(id, OperationState::Expired).await;
    assert_eq!(operation.reason.expect("a reason").code, "approval_expired");
    let mut agent = site.arrive(&identity).await;
    agent.settle().await;
    assert_eq!(agent.kept(&Kind::Request), 0);
}

#[tokio::test]
async fn a_machine_that_left_meanwhile_is_refused_and_the_others_run() {
    on_each_engine(|site| async move {
        let (_gone, mut agent) = (site.join("web-1").await, site.online("web-2").await);
        let id = site.approved_step(&site.admin, &["web-1", "web-2"]).await.id;
        let _: Machine =
            site.server.post(&site.admin, "/api/machines/web-1/revoke", &json!({})).await;
        let admin = site.principal(&site.admin).await;
        let job = site.server.running.state.approvals.redeem(&admin, id, "k").await.expect("used");
        let (operation, _) = agent.request().await;
        agent.finish(&Script::new(operation), Outcome::Exited { code: 0 }).await;
        site.wait_job(job, JobState::Failed).await;
        let operations = site.operations(job).await;
        let states: Vec<_> =
            operations.iter().map(|one| (one.machine.as_str(), one.state)).collect();
        let expected = [("web-1", OperationState::Refused), ("web-2", OperationState::Succeeded)];
        assert_eq!(states, expected);
        assert_eq!(operations[0].reason.as_ref().expect("a reason").code, "machine_revoked");
    })
    .await;
}

#[tokio::test]
async fn asking_again_with_the_same_key_asks_once_and_then_tells_the_job() {
    on_each_engine_with(policy(ONE), |site| async move {
        let _agent = site.online("web-1").await;
        let post = |body| {
            let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
            request.header("idempotency-key", "k1").json(&body)
        };
        let conflict = StatusCode::CONFLICT;
        let stop = line("web-1", "systemctl stop app");
        let first = refused(post(stop.clone()), conflict, "approval_required").await;
        let second = refused(post(stop.clone()), conflict, "approval_required").await;
        assert_eq!(first.approval, second.approval);
        let other = line("web-1", "systemctl start app");
        refused(post(other), StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
        let needed = first.approval.expect("what is waited for");
        let used = site.say(&site.admin, needed.id, "approve", &needed.digest).await;
        assert_eq!(used.state, ApprovalState::Used);
        let job: Job = crate::operations::testing::sent(post(stop)).await;
        assert_eq!(Some(job.id), used.job_id);
    })
    .await;
}

#[tokio::test]
async fn nobody_is_asked_to_approve_what_comes_on_stdin() {
    let site = crate::operations::testing::Site::start(policy(ONE)).await;
    let _agent = site.online("web-1").await;
    let mut request = line("web-1", "systemctl stop app");
    request["operation"]["execute_command"]["stdin"] = json!(true);
    let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs").json(&request);
    refused(request, StatusCode::UNPROCESSABLE_ENTITY, "approval_stdin").await;
    // Nor what will be written into a file.
    let content = json!({ "selector": "web-1",
        "operation": { "file_write": { "path": "/etc/app.conf" } } });
    let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs").json(&content);
    refused(request, StatusCode::UNPROCESSABLE_ENTITY, "approval_stdin").await;
}
