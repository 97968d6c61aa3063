//! Who may say yes, to what, and until when.

use reeve_protocol::{Kind, Outcome};
use reeve_sdk::api::{ApiKeyCreated, ApprovalState, JobState, Page, Role};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Approval, Hands, decide, line, policy};
use crate::fleet::testing::Script;
use crate::operations::testing::{Site, on_each_engine_with, with};
use crate::testing::{PASSWORD, refused};

const TWO: &str = "[[policy]]\nmatch = 'env=prod'\nchange = 'approve:2'\ndestroy = 'deny'\n";
const ONE: &str = "[[policy]]\nmatch = '@all'\nchange = 'approve'\ndestroy = 'approve'\n";

#[tokio::test]
async fn two_other_people_have_to_say_yes_before_anything_is_sent() {
    on_each_engine_with(policy(TWO), |site| async move {
        let web = site.join_as("web-1", &[("env", "prod")]).await;
        let mut agent = site.arrive(&web).await;
        let (ada, bob, cyd) =
            (site.approver("ada").await, site.approver("bob").await, site.approver("cyd").await);
        let needed = site.needs(&ada, &line("web-1", "systemctl restart app")).await;
        assert_eq!((needed.needed, needed.other_than_requester), (2, true));
        assert_eq!(needed.rule, "policy env=prod");
        let (id, digest) = (needed.id, needed.digest.as_str());
        let forbidden = StatusCode::FORBIDDEN;
        site.cannot(&ada, id, "approve", decide(digest, ""), forbidden, "approval_own").await;
        assert_eq!(site.say(&bob, id, "approve", digest).await.state, ApprovalState::Pending);
        let conflict = StatusCode::CONFLICT;
        site.cannot(&bob, id, "approve", decide(digest, ""), conflict, "already_approved").await;
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Request), 0, "sent before it was approved");

        let used = site.say(&cyd, id, "approve", digest).await;
        assert_eq!(used.state, ApprovalState::Used);
        let (operation, request) = agent.request().await;
        let stamp = request.approval.expect("a stamp");
        assert_eq!(crate::hex(&stamp.digest), digest);
        assert!(request.expires_in_ms.is_some_and(|left| left <= 3_600_000));
        agent.finish(&Script::new(operation), Outcome::Exited { code: 0 }).await;
        let job = site.wait_job(used.job_id.expect("a job"), JobState::Succeeded).await;
        assert_eq!(job.created_by, "user:ada");
        site.cannot(&bob, id, "reject", decide(digest, ""), conflict, "approval_decided").await;
    })
    .await;
}

#[tokio::test]
async fn a_yes_to_something_else_is_refused_and_one_no_is_enough() {
    on_each_engine_with(policy(ONE), |site| async move {
        let _agent = site.online("web-1").await;
        let needed = site.needs(&site.admin, &line("web-1", "systemctl stop app")).await;
        let other = "00".repeat(32);
        let conflict = StatusCode::CONFLICT;
        let body = decide(&other, "");
        site.cannot(&site.admin, needed.id, "approve", body, conflict, "approval_changed").await;
        let no = site.say(&site.admin, needed.id, "reject", &needed.digest).await;
        assert_eq!((no.state, no.job_id), (ApprovalState::Rejected, None));
        let body = decide(&needed.digest, "");
        site.cannot(&site.admin, needed.id, "approve", body, conflict, "approval_decided").await;
    })
    .await;
}

#[tokio::test]
async fn deny_names_its_rule_and_looking_needs_nobody() {
    let site = Site::start(policy(TWO)).await;
    let web = site.join_as("web-1", &[("env", "prod")]).await;
    let _agent = site.arrive(&web).await;
    let request = line("web-1", "rm -rf /srv/app");
    let request = site.server.request_as(&site.admin, Method::POST, "/api/jobs").json(&request);
    let problem = refused(request, StatusCode::FORBIDDEN, "policy_denied").await;
    assert!(problem.detail.contains("policy env=prod"), "{}", problem.detail);
    site.submit(&line("web-1", "uptime")).await;
    let mut inspect = line("web-1", "rm -rf /srv/app");
    inspect["operation"]["execute_command"]["mode"] = json!("inspect");
    site.submit(&inspect).await;
    // A dry run runs nothing.
    let preview = with(line("web-1", "rm -rf /srv/app"), json!({ "dry_run": true }));
    let _: serde_json::Value = site.server.post(&site.admin, "/api/jobs", &preview).await;
}

#[tokio::test]
async fn an_approval_is_worth_nothing_after_its_end() {
    let (hands, site) = Hands::start(policy(ONE)).await;
    let _agent = site.online("web-1").await;
    let needed = site.needs(&site.admin, &line("web-1", "systemctl stop app")).await;
    let later = site.approved_step(&site.admin, &["web-1"]).await;
    hands.forward(3601);
    let body = decide(&needed.digest, "");
    let conflict = StatusCode::CONFLICT;
    site.cannot(&site.admin, needed.id, "approve", body, conflict, "approval_expired").await;
    assert_eq!(site.approval(needed.id).await.state, ApprovalState::Expired);
    let page: Page<Approval> = site.get("/api/approvals?state=pending").await;
    assert!(page.items.is_empty(), "{page:?}");
    let admin = site.principal(&site.admin).await;
    let error = site.server.running.state.approvals.redeem(&admin, later.id, "k").await;
    assert_eq!(error.expect_err("over").code(), "approval_expired");
}

#[tokio::test]
async fn what_destroys_wants_the_password_again_and_keys_have_none() {
    on_each_engine_with(policy(ONE), |site| async move {
        let mut agent = site.online("web-1").await;
        let needed = site.needs(&site.admin, &line("web-1", "rm -rf /srv/app")).await;
        assert!(needed.step_up);
        let (id, digest) = (needed.id, &needed.digest);
        let unauthorized = StatusCode::UNAUTHORIZED;
        let body = decide(digest, "");
        site.cannot(&site.admin, id, "approve", body, unauthorized, "password_needed").await;
        let body = json!({ "digest": digest, "password": "not this one" });
        site.cannot(&site.admin, id, "approve", body, unauthorized, "wrong_password").await;
        let key = json!({ "name": "robot", "role": "approver" });
        let key: ApiKeyCreated = site.server.post(&site.admin, "/api/auth/keys", &key).await;
        let body = json!({ "digest": digest, "password": PASSWORD });
        let forbidden = StatusCode::FORBIDDEN;
        site.cannot(&key.token, id, "approve", body, forbidden, "step_up_needs_login").await;
        assert_eq!(site.approval(id).await.decisions, []);
        let body = json!({ "digest": digest, "password": PASSWORD });
        let path = format!("/api/approvals/{id}/approve");
        let used: Approval = site.server.post(&site.admin, &path, &body).await;
        assert_eq!(used.state, ApprovalState::Used);
        agent.request().await;
    })
    .await;
}

#[tokio::test]
async fn passwords_cannot_be_guessed_by_approving() {
    let site = Site::start(|config| {
        policy(ONE)(config);
        config.limits.logins_per_minute = 5;
    })
    .await;
    let _agent = site.online("web-1").await;
    let needed = site.needs(&site.admin, &line("web-1", "rm -rf /srv/app")).await;
    let path = format!("/api/approvals/{}/approve", needed.id);
    let mut limited = false;
    for _ in 0..10 {
        let body = json!({ "digest": needed.digest, "password": "a guess" });
        let request = site.server.request_as(&site.admin, Method::POST, &path).json(&body);
        limited |= request.send().await.expect("an answer").status().as_u16() == 429;
    }
    assert!(limited, "ten guesses, and nobody minded");
}

#[tokio::test]
async fn who_may_not_see_every_machine_neither_sees_nor_decides_it() {
    on_each_engine_with(policy(ONE), |site| async move {
        let web = site.join_as("web-1", &[("role", "web")]).await;
        let db = site.join_as("db-1", &[("role", "db")]).await;
        let (_web, _db) = (site.arrive(&web).await, site.arrive(&db).await);
        let eve = site.add_user("eve", Role::Approver, "role=web").await;
        let needed = site.needs(&site.admin, &line("web-1,db-1", "systemctl stop app")).await;
        let body = decide(&needed.digest, "");
        let missing = StatusCode::NOT_FOUND;
        for word in ["approve", "reject"] {
            site.cannot(&eve, needed.id, word, body.clone(), missing, "approval_not_found").await;
        }
        let page: Page<Approval> = site.server.get(&eve, "/api/approvals").await;
        assert!(page.items.is_empty(), "{page:?}");
        let own = site.needs(&eve, &line("web-1", "systemctl stop app")).await;
        let page: Page<Approval> = site.server.get(&eve, "/api/approvals").await;
        assert_eq!(page.items.iter().map(|each| each.id).collect::<Vec<_>>(), [own.id]);
    })
    .await;
}

#[tokio::test]
async fn who_asked_can_take_it_back() {
    on_each_engine_with(policy(ONE), |site| async move {
        let _agent = site.online("web-1").await;
        let bob = site.approver("bob").await;
        let needed = site.needs(&site.admin, &line("web-1", "systemctl stop app")).await;
        let forbidden = StatusCode::FORBIDDEN;
        site.cannot(&bob, needed.id, "withdraw", json!({}), forbidden, "forbidden").await;
        let path = format!("/api/approvals/{}/withdraw", needed.id);
        let back: Approval = site.server.post(&site.admin, &path, &json!({})).await;
        assert_eq!(back.state, ApprovalState::Withdrawn);
        let body = decide(&needed.digest, "");
        let conflict = StatusCode::CONFLICT;
        site.cannot(&bob, needed.id, "approve", body, conflict, "approval_decided").await;
    })
    .await;
}
