//! The gate that direct commands go through.

use std::sync::Arc;

use http::StatusCode;
use reeve_protocol::JobId;
use reeve_sdk::api::{ApprovalNeeded, ApprovalState, JobRequest};

use super::store::{self, Row};
use super::{Approvals, Origin, Ruling, Wanted, conflict, effect};
use crate::machines::Known;
use crate::problem::ApiError;
use crate::users::Principal;

/// What the policy lets a request do.
pub(crate) enum Gate {
    /// No rule is about direct commands: it is submitted as it is.
    Open,
    /// It may run on exactly these machines.
    Run(Vec<Arc<Known>>),
    /// It was asked for before with the same `Idempotency-Key`, approved, and became this job.
    Ran(JobId),
}

impl Approvals {
    /// What the policy says to a direct command. Where it wants people, that is put down, and
    /// nothing runs before they have said yes.
    ///
    /// # Errors
    /// 403 `policy_denied`, 409 `approval_required` with what is waited for, and what is wrong with
    /// the request.
    pub(crate) async fn gate(
        &self,
        principal: &Principal,
        request: &JobRequest,
        key: Option<&str>,
    ) -> Result<Gate, ApiError> {
        let policy = self.policy();
        if request.dry_run || !policy.concerns(Origin::Command) {
            return Ok(Gate::Open);
        }
        if let Some(key) = key
            && let Some(row) = self.find_asked(principal, key).await?
        {
            return self.answer_again(&row, request);
        }
        let targets = self.0.operations.check_request(principal, request)?;
        let (effect, effect_reasons) = effect::assess(&request.operation)?;
        let requirement = match policy.judge(Origin::Command, effect, &targets) {
            Ruling::Allowed => return Ok(Gate::Run(targets)),
            Ruling::Refused { rule } => {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "policy_denied",
                    format!("{rule} does not allow what can {} there", effect.as_str()),
                ));
            }
            Ruling::Needs(requirement) => requirement,
        };
        if request.relay || request.output_to.is_some() {
            return Err(conflict(
                "relay_cannot_wait",
                format!(
                    "{} wants people to say yes to this first, and what is relayed cannot wait for \
                     them; nothing was run",
                    requirement.rule
                ),
            ));
        }
        let wanted = Wanted {
            requester: principal.clone(),
            operation: request.operation.clone(),
            targets,
            effect,
            effect_reasons,
            purpose: String::new(),
            undo: None,
            task: None,
            requirement,
        };
        let approval = match self.record(wanted, request.clone(), key).await {
            Ok(approval) => approval,
            // The same request came twice at once.
            Err(error) => match key {
                Some(key) => match self.find_asked(principal, key).await? {
                    Some(row) => return self.answer_again(&row, request),
                    None => return Err(error),
                },
                None => return Err(error),
            },
        };
        Err(required(ApprovalNeeded::from(&approval)))
    }

    async fn find_asked(&self, principal: &Principal, key: &str) -> Result<Option<Row>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        Ok(store::find_by_key(&mut conn, &principal.name, key).await?)
    }

    fn answer_again(&self, row: &Row, request: &JobRequest) -> Result<Gate, ApiError> {
        if row.request != *request {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "this Idempotency-Key was used for another request; use a new key",
            ));
        }
        match (self.state(row), row.job_id) {
            (ApprovalState::Used, Some(job)) => Ok(Gate::Ran(job)),
            (ApprovalState::Pending | ApprovalState::Approved | ApprovalState::Used, _) => {
                Err(required(ApprovalNeeded::from(&self.to_api(row, Vec::new(), 0))))
            }
            (ApprovalState::Rejected, _) => Err(conflict("approval_rejected", "somebody said no")),
            (ApprovalState::Expired, _) => Err(super::decide::expired(row)),
            (ApprovalState::Withdrawn, _) => {
                Err(conflict("approval_withdrawn", "what was asked for was withdrawn"))
            }
        }
    }
}

fn required(needed: ApprovalNeeded) -> ApiError {
    let people = match (needed.needed, needed.other_than_requester) {
        (1, false) => "a yes".to_owned(),
        (1, true) => "the yes of somebody else".to_owned(),
        (people, true) => format!("the yes of {people} other people"),
        (people, false) => format!("the yes of {people} people"),
    };
    let detail = format!(
        "{} wants {people} for this; nothing was run. To approve: reeve approvals approve {}",
        needed.rule, needed.id
    );
    conflict("approval_required", detail).approval(needed)
}
