//! People's yes and no.

use http::StatusCode;
use reeve_protocol::ApprovalId;
use reeve_sdk::api::{Approval, ApprovalDecision, ApprovalState, Decide, Role};

use super::store::{self, Row};
use super::{Approvals, clean_reason, conflict, note};
use crate::problem::ApiError;
use crate::users::{Principal, Via};

impl Approvals {
    /// Somebody's yes or no, to exactly what was shown. Each person counts once, whichever keys
    /// they use; one no is enough. A direct command starts with the last yes that it needs.
    ///
    /// # Errors
    /// 401 `password_needed` and `wrong_password`, 403 when they may not decide about it, 404 when
    /// it does not exist for them, 409 when it is decided already or is not what they were shown.
    pub async fn decide(
        &self,
        principal: &Principal,
        id: ApprovalId,
        yes: bool,
        decide: Decide,
    ) -> Result<Approval, ApiError> {
        principal.require(Role::Approver)?;
        let row = self.find(principal, id).await?;
        if !self.covers(principal, &row) {
            return Err(ApiError::forbidden(
                "it also runs on machines outside your scope; somebody has to decide who may see \
                 all of them",
            ));
        }
        self.check_open(&row)?;
        if decide.digest.to_ascii_lowercase() != crate::hex(&row.digest) || !row.is_whole() {
            return Err(conflict(
                "approval_changed",
                "this is not what you were shown; look at it again, then decide",
            ));
        }
        if yes {
            self.check_may_approve(principal, &row, decide.password).await?;
        }
        let decision = ApprovalDecision {
            by: principal.name.clone(),
            approved: yes,
            at: self.0.clock.now(),
            reason: clean_reason(&decide.reason),
        };
        let state = self.put_down(principal, &row, &decision).await?;
        self.tell(id);
        if state == ApprovalState::Approved && row.task.is_none() {
            self.finish(&row).await;
        }
        self.load(id).await
    }

    fn check_open(&self, row: &Row) -> Result<(), ApiError> {
        match self.state(row) {
            ApprovalState::Pending => Ok(()),
            ApprovalState::Expired => Err(expired(row)),
            state => Err(conflict(
                "approval_decided",
                format!("this approval is {} already", state.as_str()),
            )),
        }
    }

    async fn check_may_approve(
        &self,
        principal: &Principal,
        row: &Row,
        password: Option<String>,
    ) -> Result<(), ApiError> {
        if row.other_than_requester && principal.user == row.user {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "approval_own",
                format!("{} wants the yes of somebody else than who asked", row.rule),
            ));
        }
        if !row.step_up {
            return Ok(());
        }
        if let Via::Key(name) = &principal.via {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "step_up_needs_login",
                format!(
                    "this needs a person's password, and '{name}' is an API key; log in with \
                     'reeve login' and approve it there"
                ),
            ));
        }
        let Some(password) = password else {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "password_needed",
                "this needs your password again",
            ));
        };
        if self.0.users.check_password(principal.user, password).await? {
            return Ok(());
        }
        let mut tx = self.0.db.begin().await?;
        let detail = serde_json::json!({});
        note(&mut tx, row, &principal.name, "approval.step_up_failed", detail).await?;
        tx.commit().await?;
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "wrong_password", "the password is wrong"))
    }

    async fn put_down(
        &self,
        principal: &Principal,
        row: &Row,
        decision: &ApprovalDecision,
    ) -> Result<ApprovalState, ApiError> {
        let mut tx = self.0.db.begin().await?;
        if !store::hold_pending(&mut tx, row.id, self.0.clock.micros()).await? {
            drop(tx);
            self.check_open(&self.load_row(row.id).await?)?;
            return Err(conflict("approval_decided", "somebody decided it just now"));
        }
        if !store::decide(&mut tx, row.id, principal.user, decision, &row.digest).await? {
            return Err(conflict(
                "already_approved",
                "you have said yes already; somebody else has to",
            ));
        }
        let state = if decision.approved {
            let decisions = store::list_decisions(&mut tx, row.id).await?;
            if row.count_yes(&decisions) >= row.needed {
                ApprovalState::Approved
            } else {
                ApprovalState::Pending
            }
        } else {
            ApprovalState::Rejected
        };
        if state != ApprovalState::Pending {
            store::settle(&mut tx, row.id, state).await?;
        }
        let action = if decision.approved { "approval.approve" } else { "approval.reject" };
        let detail = serde_json::json!({ "reason": decision.reason, "state": state });
        note(&mut tx, row, &principal.name, action, detail).await?;
        tx.commit().await?;
        Ok(state)
    }

    /// What was asked for is no longer wanted, says whoever asked for it on behalf of somebody.
    /// Nothing happens to what is not open any more.
    ///
    /// # Errors
    /// 404, or when the database does not answer.
    pub async fn withdraw(&self, id: ApprovalId, why: &str) -> Result<(), ApiError> {
        let row = self.load_row(id).await?;
        self.take_back(&row, "system", why).await.map(drop)
    }

    /// Likewise, says the person who asked, or an admin.
    pub(super) async fn withdraw_as(
        &self,
        principal: &Principal,
        id: ApprovalId,
        why: &str,
    ) -> Result<Approval, ApiError> {
        let row = self.find(principal, id).await?;
        if row.user != principal.user && principal.role < Role::Admin {
            return Err(ApiError::forbidden(format!(
                "{} asked for it; withdrawing is up to them. To say no: reeve approvals reject {id}",
                row.principal
            )));
        }
        if !self.take_back(&row, &principal.name, why).await? {
            self.check_open(&self.load_row(id).await?)?;
        }
        self.load(id).await
    }

    async fn take_back(&self, row: &Row, principal: &str, why: &str) -> Result<bool, ApiError> {
        let mut tx = self.0.db.begin().await?;
        if !store::settle(&mut tx, row.id, ApprovalState::Withdrawn).await? {
            return Ok(false);
        }
        let detail = serde_json::json!({ "reason": clean_reason(why) });
        note(&mut tx, row, principal, "approval.withdraw", detail).await?;
        tx.commit().await?;
        self.tell(row.id);
        Ok(true)
    }
}

pub(super) fn expired(row: &Row) -> ApiError {
    conflict(
        "approval_expired",
        format!(
            "this approval was good until {}; ask for it again",
            reeve_sdk::api::Time::from_micros(row.expires_us)
        ),
    )
}
