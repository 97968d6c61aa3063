mod deciding;
mod tampering;
mod using;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reeve_protocol::ops::Effect;
use reeve_protocol::{ApprovalId, TaskId};
use reeve_sdk::api::{
    Approval, ApprovalNeeded, Decide, ExecuteCommandRequest, OperationRequest, Role,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Requirement, Wanted};
use crate::Clock;
use crate::config::{Config, PolicyRule};
use crate::operations::testing::Site;
use crate::testing::{TestCoordinator, refused};
use crate::users::Principal;

fn policy(text: &str) -> impl Fn(&mut Config) {
    #[derive(serde::Deserialize)]
    struct File {
        policy: Vec<PolicyRule>,
    }
    let rules = toml::from_str::<File>(text).expect("a policy").policy;
    move |config| config.policy.clone_from(&rules)
}

fn line(selector: &str, line: &str) -> Value {
    json!({ "selector": selector, "operation": { "execute_command": { "shell": line } } })
}

fn decide(approval: &str, reason: &str) -> Value {
    json!({ "digest": approval, "reason": reason })
}

/// A clock that a test moves.
#[derive(Clone)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    async fn start(change: impl FnOnce(&mut Config)) -> (Self, Site) {
        let hands = Self(Arc::new(AtomicI64::new(0)));
        let ahead = Arc::clone(&hands.0);
        let clock =
            Clock::from_fn(move || Clock::system().micros() + ahead.load(Ordering::Relaxed));
        let server = Box::pin(TestCoordinator::start_at(clock, |config| {
            config.limits.requests_per_minute = 1_000_000;
            change(config);
        }))
        .await;
        let admin = server.set_up().await;
        (hands, Site { server, admin })
    }

    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Site {
    async fn principal(&self, token: &str) -> Principal {
        self.server.running.state.users.authenticate(token).await.expect("a good token")
    }

    /// Asks for a command that the policy wants people for.
    async fn needs(&self, token: &str, request: &Value) -> ApprovalNeeded {
        let request = self.server.request_as(token, Method::POST, "/api/jobs").json(request);
        let problem = refused(request, StatusCode::CONFLICT, "approval_required").await;
        *problem.approval.expect("what is waited for")
    }

    async fn say(&self, token: &str, id: ApprovalId, word: &str, digest: &str) -> Approval {
        let path = format!("/api/approvals/{id}/{word}");
        self.server.post(token, &path, &decide(digest, "so be it")).await
    }

    async fn cannot(
        &self,
        token: &str,
        id: ApprovalId,
        word: &str,
        body: Value,
        status: StatusCode,
        code: &str,
    ) {
        let path = format!("/api/approvals/{id}/{word}");
        let request = self.server.request_as(token, Method::POST, &path).json(&body);
        refused(request, status, code).await;
    }

    async fn approval(&self, id: ApprovalId) -> Approval {
        self.get(&format!("/api/approvals/{id}")).await
    }

    /// A step of a task that one person has said yes to.
    async fn approved_step(&self, token: &str, machines: &[&str]) -> Approval {
        let requester = self.principal(token).await;
        let state = &self.server.running.state;
        let registry = state.machines.registry();
        let find = |name: &&str| registry.find_named(name).expect("a machine");
        let command = ExecuteCommandRequest {
            shell: Some("systemctl restart app".to_owned()),
            ..Default::default()
        };
        let wanted = Wanted {
            requester: requester.clone(),
            operation: OperationRequest::ExecuteCommand(command),
            targets: machines.iter().map(find).collect(),
            effect: Effect::Change,
            effect_reasons: vec!["it restarts a service".to_owned()],
            purpose: "the app hangs".to_owned(),
            undo: None,
            task: Some((TaskId::new(), 1)),
            requirement: Requirement {
                needed: 1,
                other_than_requester: false,
                step_up: false,
                rule: "default".to_owned(),
            },
        };
        let asked = state.approvals.ask(wanted).await.expect("asked");
        let decide = Decide { digest: asked.digest.clone(), password: None, reason: String::new() };
        state.approvals.decide(&requester, asked.id, true, decide).await.expect("approved")
    }

    async fn tamper(&self, sql: &'static str) {
        let mut tx = self.server.running.state.db.begin().await.expect("a transaction");
        let done = sqlx::query(sql).execute(&mut *tx).await.expect("done");
        assert_eq!(done.rows_affected(), 1, "{sql}");
        tx.commit().await.expect("committed");
    }

    async fn approver(&self, name: &str) -> String {
        self.add_user(name, Role::Approver, "@all").await
    }
}
