//! Approvals: a single-use yes, bound to a hash of exactly what will run where, and until when.
//! Whoever wants something done asks [`Approvals::judge`]; what needs people is put down with
//! [`Approvals::ask`], decided by them, and used once, with [`Approvals::redeem`].

mod decide;
mod effect;
mod gate;
mod look;
mod policy;
mod redeem;
mod routes;
mod store;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use reeve_protocol::ops::Effect;
use reeve_protocol::{ApprovalId, TaskId};
use reeve_sdk::api::{
    Approval, ApprovalMachine, ApprovalState, JobRequest, OperationRequest, Rollout, Time,
};
use tokio::sync::broadcast;

use crate::Clock;
use crate::audit;
use crate::config::PolicyRule;
use crate::db::{Db, Tx};
use crate::machines::{Known, Machines};
use crate::operations::{self, Operations};
use crate::problem::ApiError;
use crate::tasks::Tasks;
use crate::users::{Principal, Users, Via};
use policy::Policy;
use store::Row;

pub(crate) use gate::Gate;
pub use policy::{Origin, Requirement, Ruling};
pub use routes::routes;

/// Changes a watcher may be behind before it has to look at the database again.
const BACKLOG: usize = 1024;

/// How often it is looked whether something is over, or was left unfinished.
const TICK: Duration = Duration::from_secs(5);

/// Characters of what people write for the record.
const MAX_REASON: usize = 512;

/// Characters of what a selector made of names shows; beyond it, how many there are.
const MAX_NAMES: usize = 1024;

/// What the approvals need.
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The time of day.
    pub clock: Clock,
    /// Where to spawn.
    pub tasks: Tasks,
    /// Names and labels.
    pub machines: Machines,
    /// Passwords, and who somebody is now.
    pub users: Users,
    /// The door.
    pub operations: Operations,
    /// How long an approval can be given and used.
    pub expire: Duration,
    /// The rules.
    pub policy: Vec<PolicyRule>,
}

/// The approvals. Cheap to clone.
#[derive(Clone)]
pub struct Approvals(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    tasks: Tasks,
    machines: Machines,
    users: Users,
    operations: Operations,
    expire: Duration,
    /// Replaced as a whole when the settings are read again.
    policy: RwLock<Arc<Policy>>,
    changes: broadcast::Sender<ApprovalId>,
}

/// Something that needs people.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who asks. What is approved runs with their rights at that time.
    pub requester: Principal,
    /// What is to run, byte for byte.
    pub operation: OperationRequest,
    /// Exactly where.
    pub targets: Vec<Arc<Known>>,
    /// What it may do.
    pub effect: Effect,
    /// Why it has that effect.
    pub effect_reasons: Vec<String>,
    /// What for.
    pub purpose: String,
    /// What would take it back.
    pub undo: Option<String>,
    /// The task and its step; none for a direct command, which then runs as soon as enough people
    /// said yes.
    pub task: Option<(TaskId, u32)>,
    /// Whose yes: what [`Approvals::judge`] said.
    pub requirement: Requirement,
}

impl Approvals {
    /// Nothing runs yet: spawn [`Approvals::run`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { db, clock, tasks, machines, users, operations, expire, policy } = parts;
        let policy = RwLock::new(Arc::new(Policy(policy)));
        let changes = broadcast::channel(BACKLOG).0;
        Self(Arc::new(Inner {
            db,
            clock,
            tasks,
            machines,
            users,
            operations,
            expire,
            policy,
            changes,
        }))
    }

    /// Puts other rules in force. What was asked for before keeps what was asked for.
    pub fn set_policy(&self, rules: Vec<PolicyRule>) {
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Policy(rules));
    }

    fn show_policy(&self) -> reeve_sdk::api::PolicyView {
        self.policy().to_api(u64::try_from(self.0.expire.as_millis()).unwrap_or(u64::MAX))
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.0.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the policy says to this effect on these machines: the strictest rule over all of them.
    pub fn judge(&self, origin: Origin, effect: Effect, targets: &[Arc<Known>]) -> Ruling {
        self.policy().judge(origin, effect, targets)
    }

    /// Ids of approvals as they change: asked for, decided, used, over. Subscribe first, then load:
    /// nothing is missed. Who lags behind looks at everything again.
    pub fn watch(&self) -> broadcast::Receiver<ApprovalId> {
        self.0.changes.subscribe()
    }

    fn tell(&self, id: ApprovalId) {
        let _ = self.0.changes.send(id);
    }

    /// Puts down what waits for people. When this answers, it is durable.
    ///
    /// # Errors
    /// 422 when the operation is none, or takes stdin, which nobody could approve.
    pub async fn ask(&self, wanted: Wanted) -> Result<Approval, ApiError> {
        let names: Vec<&str> = wanted.targets.iter().map(|known| known.name.as_str()).collect();
        let mut selector = names.join(",");
        if selector.chars().count() > MAX_NAMES {
            selector = format!("{} machines", names.len());
        }
        let request = JobRequest {
            selector,
            operation: wanted.operation.clone(),
            rollout: Rollout::default(),
            wait_ms: None,
            output_limit: None,
            dry_run: false,
            input: None,
            output_to: None,
            relay: false,
            redact: false,
        };
        self.record(wanted, request, None).await
    }

    async fn record(
        &self,
        wanted: Wanted,
        request: JobRequest,
        key: Option<&str>,
    ) -> Result<Approval, ApiError> {
        // With a terminal or a tunnel people say yes to whatever will be done in it.
        let is_unseen = match &wanted.operation {
            OperationRequest::ExecuteCommand(command) => command.stdin,
            OperationRequest::FileWrite(_) => true,
            _ => false,
        };
        if is_unseen {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "approval_stdin",
                "this needs approval, and nobody can approve what will be sent on stdin; put it \
                 into the command",
            ));
        }
        let body = operations::encode_body(&wanted.operation)?;
        let now_us = self.0.clock.micros();
        let expires_us = self.0.clock.micros_after(self.0.expire);
        let stamp =
            operations::stamp(&body, wanted.targets.iter().map(|known| known.id), expires_us);
        let Requirement { needed, other_than_requester, step_up, rule } = wanted.requirement;
        let requester = &wanted.requester;
        let machines = wanted.targets.iter();
        let row = Row {
            id: ApprovalId::new(),
            digest: stamp.digest,
            state: ApprovalState::Pending,
            task: wanted.task,
            principal: requester.name.clone(),
            user: requester.user,
            key: matches!(requester.via, Via::Key(_)).then_some(requester.key),
            request,
            machines: machines
                .map(|known| ApprovalMachine { id: known.id, name: known.name.clone() })
                .collect(),
            purpose: clean(&wanted.purpose),
            effect: wanted.effect,
            effect_reasons: wanted.effect_reasons.iter().map(|reason| clean(reason)).collect(),
            undo: wanted.undo.as_deref().map(clean),
            needed,
            other_than_requester,
            step_up,
            rule: clean(&rule),
            created_us: now_us,
            expires_us,
            redeem_key: None,
            job_id: None,
        };
        let mut tx = self.0.db.begin().await?;
        store::insert(&mut tx, &row, key).await?;
        let names: Vec<&str> = row.machines.iter().take(100).map(|each| &*each.name).collect();
        let detail = serde_json::json!({
            "operation": operations::redacted(&row.request.operation), "effect": row.effect,
            "machines": row.machines.len(), "names": names, "needed": row.needed,
            "rule": row.rule, "expires": Time::from_micros(row.expires_us),
            "task": row.task.map(|(task, _)| task),
        });
        note(&mut tx, &row, &row.principal, "approval.ask", detail).await?;
        tx.commit().await?;
        self.tell(row.id);
        Ok(self.to_api(&row, Vec::new(), usize::MAX))
    }

    /// Ends what is over and carries on with what a former run left unfinished, until the
    /// coordinator ends.
    pub async fn run(self) {
        let token = self.0.tasks.token();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.tidy().await {
                tracing::warn!(code = error.code(), "approvals could not be looked after");
            }
        }
    }

    async fn tidy(&self) -> Result<(), ApiError> {
        let now_us = self.0.clock.micros();
        let mut tx = self.0.db.begin().await?;
        let expired = store::expire(&mut tx, now_us).await?;
        tx.commit().await?;
        for id in expired {
            self.tell(id);
        }
        self.finish_all(now_us).await
    }
}

/// The audit's row about an approval.
async fn note(
    tx: &mut Tx,
    row: &Row,
    principal: &str,
    action: &str,
    mut detail: serde_json::Value,
) -> Result<(), ApiError> {
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("digest".to_owned(), crate::hex(&row.digest).into());
    }
    let target = format!("approval:{}", row.id);
    let entry = audit::Entry { principal, action, target: &target, detail };
    Ok(audit::record(tx, &entry).await?)
}

/// Text as databases take it: PostgreSQL has no NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "")
}

fn clean_reason(text: &str) -> String {
    clean(text).chars().take(MAX_REASON).collect()
}

fn not_found(id: ApprovalId) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "approval_not_found",
        format!("there is no approval {id}; 'reeve approvals list' shows them"),
    )
}

fn conflict(code: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, code, detail)
}
