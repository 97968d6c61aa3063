//! Looking: tasks as they are now, for those for whom they exist.

use http::StatusCode;
use reeve_protocol::{MachineId, TaskId};
use reeve_sdk::api::{Page, Role, Task};

use super::Assistant;
use super::record::{Record, TaskRow};
use super::store::{self, Call, TaskFilter};
use crate::problem::ApiError;
use crate::users::Principal;

impl Assistant {
    /// A task that exists for the caller.
    ///
    /// # Errors
    /// 404.
    pub(super) async fn find(
        &self,
        principal: &Principal,
        id: TaskId,
    ) -> Result<TaskRow, ApiError> {
        let row = store::load_task(&mut *self.0.db.reader().await?, id).await?;
        row.filter(|row| self.is_visible(principal, row)).ok_or_else(|| not_found(id))
    }

    /// All of a task, for whoever has been let in already.
    ///
    /// # Errors
    /// 404 when it is gone.
    pub(super) async fn load(&self, id: TaskId) -> Result<Record, ApiError> {
        let record = store::load_record(&mut *self.0.db.reader().await?, id).await?;
        record.ok_or_else(|| not_found(id))
    }

    /// A task as the API shows it.
    ///
    /// # Errors
    /// 404 when it is gone.
    pub(super) async fn describe(&self, id: TaskId) -> Result<Task, ApiError> {
        Ok(self.load(id).await?.to_api())
    }

    /// A task exists for its asker and for those to whom all its machines exist; one without
    /// machines for those who may see everything.
    pub(super) fn is_visible(&self, principal: &Principal, task: &TaskRow) -> bool {
        task.asker.name == principal.name
            || principal.scope.is_all()
            || (!task.machines.is_empty()
                && task.machines.iter().all(|machine| self.sees(principal, machine.id)))
    }

    /// Whether a machine exists for somebody. One that was removed does only for those who may see
    /// everything.
    pub(super) fn sees(&self, principal: &Principal, machine: MachineId) -> bool {
        match self.0.machines.registry().find(machine) {
            Some(known) => principal.scope.matches(known.id, &known.name, &known.labels),
            None => principal.scope.is_all(),
        }
    }

    /// Tasks that exist for the caller, newest first, without what became of their steps' output.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn list(
        &self,
        principal: &Principal,
        mut filter: TaskFilter,
    ) -> Result<Page<Task>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut more = true;
        while more && found.len() <= wanted {
            filter.limit = i64::try_from(wanted).unwrap_or(1000) + 1;
            let rows = store::list_tasks(&mut conn, &filter).await?;
            more = rows.len() > wanted;
            filter.before = rows.last().map(|row| row.id);
            found.extend(rows.into_iter().filter(|row| self.is_visible(principal, row)));
        }
        let next = (found.len() > wanted)
            .then(|| found.get(wanted.saturating_sub(1)).map(|row| row.id.to_string()))
            .flatten();
        found.truncate(wanted);
        let mut items = Vec::with_capacity(found.len());
        for task in found {
            let usage = store::usage(&mut conn, task.id).await?;
            let record = Record { task, steps: Vec::new(), looks: Vec::new(), usage };
            items.push(record.to_api());
        }
        Ok(Page { items, next })
    }

    /// What models were asked for a task, for its asker and for admins who may see it.
    ///
    /// # Errors
    /// 403, 404.
    pub(super) async fn calls(
        &self,
        principal: &Principal,
        id: TaskId,
    ) -> Result<Vec<Call>, ApiError> {
        let task = self.find(principal, id).await?;
        if task.asker.name != principal.name {
            principal.require(Role::Admin)?;
        }
        Ok(store::list_calls(&mut *self.0.db.reader().await?, id).await?)
    }
}

pub(super) fn not_found(id: TaskId) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "task_not_found", format!("there is no task {id}"))
}
