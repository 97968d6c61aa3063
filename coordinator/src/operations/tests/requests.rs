//! What somebody may ask for, once or again, and take back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use reeve_protocol::{Control, Kind, Outcome};
use reeve_sdk::api::{AuditEntry, AuditVerdict, Job, JobState, OperationState, Page};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::testing::{Site, on_each_engine, sent, shell, with};
use crate::Clock;
use crate::fleet::testing::Script;
use crate::testing::{TestCoordinator, refused};

#[tokio::test]
async fn hundred_requests_with_one_key_make_one_job() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let ask = |body: Value| {
            let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
            request.header("idempotency-key", "once").json(&body)
        };
        let jobs = join_all((0..100).map(|_| sent::<Job>(ask(shell("web-1"))))).await;
        assert!(jobs.iter().all(|job| job.id == jobs[0].id));
        let script = agent.start().await;
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Request), 0);
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        assert_eq!(site.get::<Page<Job>>("/api/jobs").await.items.len(), 1);
        let other = with(shell("web-1"), json!({ "wait_ms": 5000 }));
        refused(ask(other), StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
        // Remembered over a restart, and by person.
        let site = site.restart().await;
        let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
        let again: Job =
            sent(request.header("idempotency-key", "once").json(&shell("web-1"))).await;
        assert_eq!(again.id, jobs[0].id);
        let grace = site.add_user("grace", reeve_sdk::api::Role::Operator, "@all").await;
        let request = site.server.request_as(&grace, Method::POST, "/api/jobs");
        let hers: Job = sent(request.header("idempotency-key", "once").json(&shell("web-1"))).await;
        assert_ne!(hers.id, jobs[0].id);
        let audit: Page<AuditEntry> = site.get("/api/audit?action=job.create").await;
        assert_eq!(audit.items.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn jobs_between_what_others_record_are_recorded_once_and_in_the_chain() {
    on_each_engine(|site| async move {
        let _agent = site.online("web-1").await;
        let ask = |body: Value| {
            let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
            request.header("idempotency-key", "once").json(&body)
        };
        let later = with(shell("web-1"), json!({ "wait_ms": 5000 }));
        site.submit(&shell("web-1")).await;
        // From here on the conductor believes to know the end of the chain.
        site.add_user("grace", reeve_sdk::api::Role::Operator, "@all").await;
        let job: Job = sent(ask(shell("web-1"))).await;
        assert_eq!(sent::<Job>(ask(shell("web-1"))).await.id, job.id);
        site.submit(&shell("web-1")).await;
        assert_eq!(sent::<Job>(ask(shell("web-1"))).await.id, job.id);
        refused(ask(later), StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
        site.add_user("mary", reeve_sdk::api::Role::Operator, "@all").await;
        site.submit(&shell("web-1")).await;
        assert_eq!(site.get::<Page<Job>>("/api/jobs").await.items.len(), 4);
        let audit: Page<AuditEntry> = site.get("/api/audit?action=job.create").await;
        assert_eq!(audit.items.len(), 4);
        let verdict: AuditVerdict = site.get("/api/audit/verify").await;
        assert!(verdict.intact, "{verdict:?}");
        assert_eq!(i64::try_from(verdict.entries).expect("few"), {
            let last: Page<AuditEntry> = site.get("/api/audit?limit=1").await;
            last.items[0].sequence
        });
    })
    .await;
}

#[tokio::test]
async fn offline_machine_fails_at_once_unless_somebody_waits() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        assert_eq!(job.state, JobState::Failed);
        let single = job.single.expect("one");
        assert_eq!(single.state, OperationState::Expired);
        assert_eq!(single.reason.expect("a reason").code, "machine_offline");
        assert_eq!(site.operation(single.id).await.state, OperationState::Expired);

        let job = site.submit(&with(shell("web-1"), json!({ "wait_ms": 600_000 }))).await;
        assert_eq!(job.counts.queued, 1);
        let mut agent = site.arrive(&identity).await;
        let (id, request) = agent.request().await;
        assert_eq!(id, job.single.expect("one").id);
        assert!(request.expires_in_ms.is_some_and(|left| left > 500_000 && left <= 600_000));
        agent.finish(&Script::new(id), Outcome::Exited { code: 0 }).await;
        assert_eq!(site.job(job.id).await.state, JobState::Succeeded);
    })
    .await;
}

#[tokio::test]
async fn expired_operation_is_never_sent() {
    let now = Arc::new(AtomicI64::new(Clock::system().micros()));
    let clock = Clock::from_fn({
        let now = Arc::clone(&now);
        move || now.load(Ordering::Relaxed)
    });
    let server = TestCoordinator::start_at(clock, |_| {}).await;
    let admin = server.set_up().await;
    let site = Site { server, admin };
    let identity = site.join("web-1").await;
    let job = site.submit(&with(shell("web-1"), json!({ "wait_ms": 60_000 }))).await;
    now.fetch_add(59_000_000, Ordering::Relaxed);
    let again = site.submit(&with(shell("web-1"), json!({ "wait_ms": 60_000 }))).await;
    now.fetch_add(2_000_000, Ordering::Relaxed);
    let ended = site.wait_operation(job.single.expect("one").id, OperationState::Expired).await;
    assert_eq!(ended.reason.expect("a reason").code, "expired");
    assert_eq!(site.job(job.id).await.state, JobState::Failed);
    let mut agent = site.arrive(&identity).await;
    let (id, request) = agent.request().await;
    assert_eq!(id, again.single.expect("one").id);
    assert_eq!(request.expires_in_ms, Some(58_000));
    agent.settle().await;
    assert_eq!(agent.kept(&Kind::Request), 0);
    // Its time is up while the link is cut: it is not sent again.
    drop(agent);
    site.wait_until_gone(&identity).await;
    now.fetch_add(3_600_000_000, Ordering::Relaxed);
    let _agent = site.arrive(&identity).await;
    site.wait_operation(id, OperationState::Expired).await;
}

#[tokio::test]
async fn cancelled_job_ends_what_waits_and_tells_what_runs() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let away = site.join("web-2").await;
        let job = site.submit(&with(shell("web-*"), json!({ "wait_ms": 600_000 }))).await;
        let script = agent.start().await;
        site.wait_operation(script.id, OperationState::Running).await;
        let answer = site.cancel(&format!("jobs/{}", job.id)).await;
        assert_eq!(
            (&answer["state"], &answer["counts"]["cancelled"]),
            (&json!("running"), &json!(1))
        );
        assert!(answer["cancel_requested"].is_string());
        let control = agent.control(script.id).await;
        assert_eq!(control, Control::Cancel { reason: "enough".to_owned() });
        agent.finish(&script, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
        assert_eq!(site.job(job.id).await.state, JobState::Cancelled);
        let mut late = site.arrive(&away).await;
        late.settle().await;
        assert_eq!(late.kept(&Kind::Request), 0);
        let path = format!("/api/jobs/{}/cancel", job.id);
        let request = site.server.request_as(&site.admin, Method::POST, &path).json(&json!({}));
        refused(request, StatusCode::CONFLICT, "already_ended").await;

        // Whoever was quicker than the cancellation has succeeded.
        let id = site.run("web-1").await;
        let script = agent.start().await;
        site.cancel(&format!("operations/{id}")).await;
        agent.control(id).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        assert_eq!(site.operation(id).await.state, OperationState::Succeeded);
        let audit: Page<AuditEntry> = site.get("/api/audit?action=job.cancel").await;
        assert_eq!(audit.items.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn request_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let site = Site::start(|_| {}).await;
    let _agents = (site.online("web-1").await, site.online("web-2").await);
    let both = json!({ "execute_command": { "shell": "true", "argv": ["true"] } });
    let stdin = json!({ "execute_command": { "shell": "cat", "stdin": true } });
    for (change, code) in [
        (json!({ "operation": both }), "invalid_operation"),
        (json!({ "operation": { "execute_command": {} } }), "invalid_operation"),
        (json!({ "operation": stdin }), "invalid_request"),
        (json!({ "wait_ms": 0 }), "invalid_request"),
        (json!({ "wait_ms": 8 * 24 * 3_600_000_u64 }), "invalid_request"),
        (json!({ "output_limit": 1 }), "invalid_request"),
        (json!({ "rollout": { "batch": "0" } }), "invalid_rollout"),
        (json!({ "rollout": { "forks": 0 } }), "invalid_rollout"),
        (json!({ "selector": "role=none" }), "empty_selector"),
        (json!({ "selector": "" }), "empty_selector"),
        (json!({ "selector": "web 1" }), "invalid_selector"),
    ] {
        let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
        let request = request.json(&with(shell("web-*"), change.clone()));
        eprintln!("{change}");
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, code).await;
    }
    let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs");
    let problem =
        refused(request.json(&shell("web-1,wbe-2")), StatusCode::NOT_FOUND, "machine_not_found");
    assert_eq!(problem.await.nearest.first().map(String::as_str), Some("web-2"));
    assert!(site.get::<Page<Job>>("/api/jobs").await.items.is_empty());
}
