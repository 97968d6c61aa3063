//! Using a yes: once, for exactly what it was given for.

use reeve_protocol::{ApprovalId, JobId, MachineId};
use reeve_sdk::api::{ApprovalState, Role};

use super::decide::expired;
use super::store::{self, DecisionRow, Row};
use super::{Approvals, conflict, note};
use crate::operations::{self, Approved};
use crate::problem::ApiError;
use crate::users::Principal;

/// What direct commands are redeemed with: nobody else redeems them.
const OWN_KEY: &str = "command";

impl Row {
    /// Whether the digest is that of what the row holds: what would be sent, where, until when.
    pub(super) fn is_whole(&self) -> bool {
        operations::encode_body(&self.request.operation).is_ok_and(|body| {
            let machines = self.machines.iter().map(|machine| machine.id);
            operations::stamp(&body, machines, self.expires_us).digest == self.digest
        })
    }

    /// How many different people have said yes to this very digest and count.
    pub(super) fn count_yes(&self, decisions: &[DecisionRow]) -> u32 {
        let counts = |decision: &&DecisionRow| {
            decision.shown.approved
                && decision.digest == self.digest
                && !(self.other_than_requester && decision.user == self.user)
        };
        u32::try_from(decisions.iter().filter(counts).count()).unwrap_or(u32::MAX)
    }
}

impl Approvals {
    /// Uses an approval: what was approved becomes a job on exactly the machines it was approved
    /// for. It works once. `key` names the use: whoever asks again with the same one, after a crash
    /// say, is told the same job.
    ///
    /// # Errors
    /// 403 when the requester is not who asked for it, or may not do it any more; 404; 409
    /// `approval_pending`, `approval_rejected`, `approval_expired`, `approval_withdrawn`,
    /// `approval_used`, and `approval_mismatch` when what would run is not what people said yes to;
    /// 503 when nothing could be recorded: ask again.
    pub async fn redeem(
        &self,
        requester: &Principal,
        id: ApprovalId,
        key: &str,
    ) -> Result<JobId, ApiError> {
        let row = self.load_row(id).await?;
        if row.user != requester.user {
            return Err(ApiError::forbidden("only who asked for it can use it"));
        }
        requester.require(Role::Operator)?;
        match (self.state(&row), row.job_id) {
            (ApprovalState::Approved, _) => self.use_up(&row, key).await?,
            (ApprovalState::Used, Some(job)) if row.redeem_key.as_deref() == Some(key) => {
                return Ok(job);
            }
            // It was used, and what came of it is not known: the coordinator ended, or could not
            // record the job. The job's key makes sure that there is one.
            (ApprovalState::Used, None) if row.redeem_key.as_deref() == Some(key) => {
                if row.expires_us <= self.0.clock.micros() {
                    return Err(expired(&row));
                }
                self.check_whole(&row).await?;
            }
            (state, _) => return Err(not_usable(&row, state)),
        }
        let body = operations::encode_body(&row.request.operation)?;
        let targets: Vec<(MachineId, &str)> =
            row.machines.iter().map(|machine| (machine.id, &*machine.name)).collect();
        let stamp =
            operations::stamp(&body, targets.iter().map(|(machine, _)| *machine), row.expires_us);
        // No request can bring a key with a space along.
        let job_key = format!("approval {id}");
        let job = self
            .0
            .operations
            .submit_approved(
                requester,
                row.request.clone(),
                &targets,
                Approved { id, stamp },
                &job_key,
            )
            .await?;
        let mut tx = self.0.db.begin().await?;
        store::keep_job(&mut tx, id, job).await?;
        tx.commit().await?;
        self.tell(id);
        Ok(job)
    }

    async fn use_up(&self, row: &Row, key: &str) -> Result<(), ApiError> {
        self.check_whole(row).await?;
        let mut tx = self.0.db.begin().await?;
        if !store::use_up(&mut tx, row.id, key, self.0.clock.micros()).await? {
            drop(tx);
            // Somebody was faster. With the same key, that was us: the job's key makes one of both.
            let now = self.load_row(row.id).await?;
            if now.state == ApprovalState::Used && now.redeem_key.as_deref() == Some(key) {
                return Ok(());
            }
            return Err(not_usable(&now, self.state(&now)));
        }
        note(&mut tx, row, &row.principal, "approval.use", serde_json::json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What is in the row is hashed again, and the people counted again who said yes to that hash.
    async fn check_whole(&self, row: &Row) -> Result<(), ApiError> {
        let decisions = store::list_decisions(&mut *self.0.db.reader().await?, row.id).await?;
        let yes = row.count_yes(&decisions);
        if row.is_whole() && yes >= row.needed {
            return Ok(());
        }
        tracing::error!(approval = %row.id, yes, "an approval does not fit what would run");
        Err(conflict(
            "approval_mismatch",
            "this is not what was approved, so nothing was started: somebody changed it in the \
             database; 'reeve audit' tells what was asked for",
        ))
    }

    /// Uses an approved direct command for whoever asked, or carries on with what was used and did
    /// not become a job. What fails is tried again until the approval expires.
    pub(super) async fn finish(&self, row: &Row) {
        let key = row.redeem_key.as_deref().unwrap_or(OWN_KEY);
        let result = match self.0.users.recall(row.user, row.key).await {
            Ok(Some(requester)) => self.redeem(&requester, row.id, key).await,
            Ok(None) => Err(ApiError::forbidden("who asked for it may do nothing any more")),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = result {
            let (code, why) = (error.code(), error.detail());
            tracing::warn!(approval = %row.id, code, why, "what was approved did not start");
        }
    }

    pub(super) async fn finish_all(&self, now_us: i64) -> Result<(), ApiError> {
        let rows = store::list_unfinished(&mut *self.0.db.reader().await?, now_us).await?;
        for row in rows {
            self.finish(&row).await;
        }
        Ok(())
    }
}

fn not_usable(row: &Row, state: ApprovalState) -> ApiError {
    match state {
        ApprovalState::Expired => expired(row),
        ApprovalState::Pending => conflict("approval_pending", "not enough people have said yes"),
        ApprovalState::Rejected => conflict("approval_rejected", "somebody said no"),
        ApprovalState::Withdrawn => conflict("approval_withdrawn", "it was withdrawn"),
        ApprovalState::Used | ApprovalState::Approved => {
            conflict("approval_used", "it was used already; an approval is good for once")
        }
    }
}
