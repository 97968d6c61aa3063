//! Looking: jobs and operations as they are now, for those for whom they exist.

use http::StatusCode;
use reeve_protocol::{JobId, MachineId, OperationId, Stream, Totals};
use reeve_sdk::api::{Job, Operation, OperationState, Page};

use super::Operations;
use super::output::{self, Part, Reader, StreamChoice};
use super::row::{JobRow, OperationRow};
use super::store::{self, JobFilter};
use crate::problem::ApiError;
use crate::users::Principal;

impl Operations {
    /// Jobs that have not ended, operations sent or running, bytes of output kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn summary(&self) -> Result<(u32, u32, u64), crate::db::DbError> {
        let mut conn = self.0.db.reader().await?;
        let jobs = store::count_jobs_running(&mut conn).await?;
        let running = store::count_under_way(&mut conn, None).await?;
        let bytes = output::total_bytes(&mut conn).await?;
        Ok((jobs, running, bytes))
    }

    /// Operations sent to or running on a machine.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_on(&self, machine: MachineId) -> Result<u32, ApiError> {
        Ok(store::count_under_way(&mut *self.0.db.reader().await?, Some(machine)).await?)
    }

    /// One operation that exists for the caller.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn find(
        &self,
        principal: &Principal,
        id: OperationId,
    ) -> Result<OperationRow, ApiError> {
        let row = store::load(&mut *self.0.db.reader().await?, id).await?;
        row.filter(|row| self.is_visible(principal, row.machine_id)).ok_or_else(|| {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "operation_not_found",
                format!("there is no operation {id}"),
            )
        })
    }

    /// The job somebody asked for with this `Idempotency-Key`, if they did.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn find_submitted(
        &self,
        principal: &str,
        key: &str,
    ) -> Result<Option<JobId>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        Ok(store::find_by_key(&mut conn, principal, key).await?.map(|asked| asked.job))
    }

    /// The first bytes of one stream, at most `limit` of them and none behind a gap, so that an
    /// offset in them is an offset in the stream.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn read_head(
        &self,
        row: &OperationRow,
        stream: Stream,
        limit: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let mut reader = self.reader(row.id, StreamChoice::Only(stream), 0);
        let mut head = Vec::new();
        loop {
            let parts = reader.next(row.durable, limit).await.map_err(ApiError::internal)?;
            if parts.is_empty() {
                return Ok(head);
            }
            for part in parts {
                match part {
                    Part::Bytes { bytes, offset, .. } if offset == head.len() as u64 => {
                        let room = limit.saturating_sub(head.len()).min(bytes.len());
                        head.extend_from_slice(bytes.get(..room).unwrap_or_default());
                    }
                    Part::Bytes { .. } | Part::Gap(_) => return Ok(head),
                }
                if head.len() >= limit {
                    return Ok(head);
                }
            }
        }
    }

    /// One operation, for whoever has been let in already.
    pub(crate) async fn load(&self, id: OperationId) -> Result<Option<OperationRow>, ApiError> {
        Ok(store::load(&mut *self.0.db.reader().await?, id).await?)
    }

    /// Operations of a job behind an ordinal, likewise.
    pub(crate) async fn load_page(
        &self,
        job: JobId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<OperationRow>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        Ok(store::list_of_job(&mut conn, job, after, limit, "").await?)
    }

    /// One operation as the API shows it, with gaps.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn describe(&self, row: &OperationRow) -> Result<Operation, ApiError> {
        let mut operation = row.to_api();
        let mut conn = self.0.db.reader().await?;
        operation.output.gaps = Some(output::find_gaps(&mut conn, row.id, row.durable).await?);
        self.complete(&mut operation);
        Ok(operation)
    }

    /// Fills in what only the live sessions know.
    pub(super) fn complete(&self, operation: &mut Operation) {
        if operation.state.is_terminal() {
            return;
        }
        operation.reachable = Some(self.0.fleet.is_online(operation.machine_id));
        if let Some(stdin) = self.0.stdins.arrived(operation.id) {
            operation.stdin_received = stdin.received;
            operation.stdin_closed = stdin.closed;
        }
    }

    /// Whether a machine has a session now.
    #[must_use]
    pub(crate) fn is_online(&self, machine: MachineId) -> bool {
        self.0.fleet.is_online(machine)
    }

    /// Whether the machine exists for the caller. One that was removed does only for those who may
    /// see everything.
    pub(super) fn is_visible(&self, principal: &Principal, machine: MachineId) -> bool {
        match self.0.machines.registry().find(machine) {
            Some(known) => principal.scope.matches(known.id, &known.name, &known.labels),
            None => principal.scope.is_all(),
        }
    }

    /// A job that exists for the caller.
    ///
    /// # Errors
    /// 404.
    pub(crate) async fn find_job(
        &self,
        principal: &Principal,
        id: JobId,
    ) -> Result<JobRow, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let not_found = || {
            ApiError::new(StatusCode::NOT_FOUND, "job_not_found", format!("there is no job {id}"))
        };
        let job = store::load_job(&mut conn, id).await?.ok_or_else(not_found)?;
        if self.is_job_visible(principal, &mut conn, &job).await? {
            Ok(job)
        } else {
            Err(not_found())
        }
    }

    async fn is_job_visible(
        &self,
        principal: &Principal,
        conn: &mut sqlx::AnyConnection,
        job: &JobRow,
    ) -> Result<bool, ApiError> {
        if principal.scope.is_all() || job.principal == principal.name {
            return Ok(true);
        }
        let machines = store::list_machines(conn, job.id).await?;
        Ok(machines.into_iter().any(|machine| self.is_visible(principal, machine)))
    }

    /// Jobs that exist for the caller, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn list_jobs(
        &self,
        principal: &Principal,
        mut filter: JobFilter,
    ) -> Result<Page<Job>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut more = true;
        while more && found.len() <= wanted {
            filter.limit = i64::try_from(wanted).unwrap_or(1000) + 1;
            let rows = store::list_jobs(&mut conn, &filter).await?;
            more = rows.len() > wanted;
            filter.before = rows.last().map(|row| row.id);
            for row in rows {
                if self.is_job_visible(principal, &mut conn, &row).await? {
                    found.push(row);
                }
            }
        }
        let next = (found.len() > wanted)
            .then(|| found.get(wanted.saturating_sub(1)).map(|row| row.id.to_string()))
            .flatten();
        found.truncate(wanted);
        let ids: Vec<JobId> = found.iter().map(|row| row.id).collect();
        let mut counts = store::counts(&mut conn, &ids).await?;
        let items = found
            .iter()
            .map(|row| row.to_api(counts.remove(&row.id).unwrap_or_default(), None))
            .collect();
        Ok(Page { items, next })
    }

    /// A job as the API shows it.
    ///
    /// # Errors
    /// 404, or when the database does not answer.
    pub(crate) async fn describe_job(&self, id: JobId) -> Result<Job, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let whole = store::load_whole_job(&mut conn, id).await?;
        let (job, counts, single) = whole.ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "job_not_found", format!("there is no job {id}"))
        })?;
        let single = single.map(|row| {
            let mut operation = row.to_api();
            self.complete(&mut operation);
            operation
        });
        Ok(job.to_api(counts, single))
    }

    /// Operations of a job that exist for the caller, in order, behind an ordinal.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn list_operations(
        &self,
        principal: &Principal,
        job: JobId,
        after: i64,
        limit: i64,
        state: Option<OperationState>,
    ) -> Result<Page<Operation>, ApiError> {
        let mut conn = self.0.db.reader().await?;
        let state = state.map_or("", OperationState::as_str);
        let rows = store::list_of_job(&mut conn, job, after, limit + 1, state).await?;
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = (rows.len() > page)
            .then(|| rows.get(page.saturating_sub(1)).map(|row| row.ordinal.to_string()))
            .flatten();
        let items = rows
            .iter()
            .take(page)
            .filter(|row| self.is_visible(principal, row.machine_id))
            .map(|row| {
                let mut operation = row.to_api();
                self.complete(&mut operation);
                operation
            })
            .collect();
        Ok(Page { items, next })
    }

    /// Whether output of a job's operations is passed on and not kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn is_relayed(&self, job: JobId) -> Result<bool, ApiError> {
        let job = store::load_job(&mut *self.0.db.reader().await?, job).await?;
        Ok(job.is_some_and(|job| job.options.relay))
    }

    /// A reader of an operation's output.
    #[must_use]
    pub(crate) fn reader(&self, id: OperationId, choice: StreamChoice, from: u64) -> Reader {
        let super::Inner { db, segments, recent, .. } = &*self.0;
        Reader::new(db.clone(), segments.clone(), recent.clone(), id, choice, from)
    }
}

/// Bytes of a stream that are durable.
pub(super) fn durable_of(row: &OperationRow, choice: StreamChoice) -> u64 {
    let Totals { all, stdout, stderr } = row.durable;
    match choice {
        StreamChoice::All => all,
        StreamChoice::Only(Stream::Stdout) => stdout,
        StreamChoice::Only(Stream::Stderr) => stderr,
    }
}
