//! Looking: approvals as they are now, for those for whom they exist.

use reeve_protocol::{ApprovalId, TaskId};
use reeve_sdk::api::{Approval, ApprovalDecision, ApprovalState, Page, Time};

use super::store::{self, Filter, Row};
use super::{Approvals, not_found};
use crate::problem::ApiError;
use crate::users::Principal;

/// Machines shown of each approval in a list: there may be 50,000.
const LISTED_MACHINES: usize = 100;

impl Approvals {
    /// One of them as it is now, for whoever has been let in already.
    ///
    /// # Errors
    /// 404, or when the database does not answer.
    pub async fn load(&self, id: ApprovalId) -> Result<Approval, ApiError> {
        let row = self.load_row(id).await?;
        self.describe(&row).await
    }

    /// Everything a task has asked for, newest first; at most 1,000.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list_of_task(&self, task: TaskId) -> Result<Vec<Approval>, ApiError> {
        let filter = Filter {
            before: None,
            state: None,
            task: Some(task),
            limit: 1000,
            now_us: self.0.clock.micros(),
        };
        let rows = store::list(&mut *self.0.db.reader().await?, &filter).await?;
        Ok(rows.iter().map(|row| self.to_api(row, Vec::new(), usize::MAX)).collect())
    }

    pub(super) async fn load_row(&self, id: ApprovalId) -> Result<Row, ApiError> {
        let row = store::find(&mut *self.0.db.reader().await?, id).await?;
        row.ok_or_else(|| not_found(id))
    }

    pub(super) async fn describe(&self, row: &Row) -> Result<Approval, ApiError> {
        let decisions = store::list_decisions(&mut *self.0.db.reader().await?, row.id).await?;
        let decisions = decisions.into_iter().map(|decision| decision.shown).collect();
        Ok(self.to_api(row, decisions, usize::MAX))
    }

    /// One of them as lists show it, if it exists for the caller.
    ///
    /// # Errors
    /// 404, or when the database does not answer.
    pub async fn look(&self, principal: &Principal, id: ApprovalId) -> Result<Approval, ApiError> {
        let row = self.find(principal, id).await?;
        let mut approval = self.describe(&row).await?;
        approval.machines.truncate(LISTED_MACHINES);
        Ok(approval)
    }

    /// One that exists for the caller: their own, or with all its machines within their scope.
    pub(super) async fn find(
        &self,
        principal: &Principal,
        id: ApprovalId,
    ) -> Result<Row, ApiError> {
        let row = self.load_row(id).await?;
        if row.user == principal.user || self.covers(principal, &row) {
            Ok(row)
        } else {
            Err(not_found(id))
        }
    }

    /// Whether every machine of it exists for somebody.
    pub(super) fn covers(&self, principal: &Principal, row: &Row) -> bool {
        principal.scope.is_all()
            || row.machines.iter().all(|machine| {
                self.0.machines.registry().find(machine.id).is_some_and(|known| {
                    principal.scope.matches(known.id, &known.name, &known.labels)
                })
            })
    }

    /// Approvals that exist for the caller, newest first.
    pub(super) async fn list(
        &self,
        principal: &Principal,
        mut filter: Filter,
    ) -> Result<Page<Approval>, ApiError> {
        let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        filter.limit = filter.limit.saturating_add(1);
        let mut conn = self.0.db.reader().await?;
        let mut found = Vec::new();
        let mut more = true;
        while more && found.len() <= wanted {
            let rows = store::list(&mut conn, &filter).await?;
            more = rows.len() > wanted;
            filter.before = rows.last().map(|row| row.id);
            found.extend(
                rows.into_iter()
                    .filter(|row| row.user == principal.user || self.covers(principal, row)),
            );
        }
        let more = found.len() > wanted;
        found.truncate(wanted);
        let next = found.last().filter(|_| more).map(|row| row.id.to_string());
        let mut items = Vec::with_capacity(found.len());
        for row in &found {
            let decisions = store::list_decisions(&mut conn, row.id).await?;
            let decisions = decisions.into_iter().map(|decision| decision.shown).collect();
            items.push(self.to_api(row, decisions, LISTED_MACHINES));
        }
        Ok(Page { items, next })
    }

    /// Where it stands: one whose time is up is over, whether or not that was written down yet.
    pub(super) fn state(&self, row: &Row) -> ApprovalState {
        match row.state {
            ApprovalState::Pending | ApprovalState::Approved
                if row.expires_us <= self.0.clock.micros() =>
            {
                ApprovalState::Expired
            }
            state => state,
        }
    }

    pub(super) fn to_api(
        &self,
        row: &Row,
        decisions: Vec<ApprovalDecision>,
        machines: usize,
    ) -> Approval {
        Approval {
            id: row.id,
            digest: crate::hex(&row.digest),
            state: self.state(row),
            task_id: row.task.map(|(task, _)| task),
            subtask: row.task.map(|(_, step)| step),
            requested_by: row.principal.clone(),
            operation: row.request.operation.clone(),
            purpose: row.purpose.clone(),
            effect: row.effect,
            effect_reasons: row.effect_reasons.clone(),
            machine_count: u32::try_from(row.machines.len()).unwrap_or(u32::MAX),
            machines: row.machines.iter().take(machines).cloned().collect(),
            undo: row.undo.clone(),
            needed: row.needed,
            other_than_requester: row.other_than_requester,
            step_up: row.step_up,
            decisions,
            rule: row.rule.clone(),
            created: Time::from_micros(row.created_us),
            expires: Time::from_micros(row.expires_us),
            job_id: row.job_id,
        }
    }
}
