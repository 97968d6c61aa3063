//! The record of one live task, and the one way to change it: what changes, its events and its
//! state become durable in one commit, and are told only then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::{MachineId, TaskId};
use reeve_sdk::api::{SubtaskState, TaskEvent, TaskEventKind, TaskState, Time};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::record::{Record, Step, TaskRow, Try};
use super::store::{self, Call};
use crate::Clock;
use crate::db::{Db, DbError};
use crate::events::{Hub, TaskNews};

/// Between two tries to write what has happened, while the database is away.
const RETRY: Duration = Duration::from_millis(500);

/// The coordinator is stopping; what was not written will be found out again from the record.
#[derive(Clone, Copy, Debug)]
pub struct Stopping;

/// The record of one task, with one owner.
pub struct Ledger {
    db: Db,
    clock: Clock,
    hub: Hub,
    stop: CancellationToken,
    task: TaskId,
    asker: Arc<str>,
    record: Mutex<Record>,
}

/// A change being made.
pub struct Draft {
    record: Record,
    now_us: i64,
    steps: BTreeSet<u32>,
    tries: BTreeSet<(u32, u32)>,
    events: Vec<TaskEventKind>,
    calls: Vec<Call>,
    /// What tells of the steps is told otherwise.
    quiet: bool,
}

impl Draft {
    /// What it is so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The time of the change, µs.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// The task itself.
    pub fn task(&mut self) -> &mut TaskRow {
        &mut self.record.task
    }

    /// Puts the task into a state that steps do not decide.
    pub fn set_state(&mut self, state: TaskState) {
        self.record.task.state = state;
        if state.is_terminal() {
            self.record.task.finished_us = Some(self.now_us);
        }
    }

    /// A step, which is then written and told.
    pub fn step(&mut self, number: u32) -> Option<&mut Step> {
        self.steps.insert(number);
        self.record.step_mut(number)
    }

    /// A try, likewise. Of step 0 a look around.
    pub fn attempt(&mut self, step: u32, number: u32) -> Option<&mut Try> {
        self.tries.insert((step, number));
        if step != 0 {
            self.steps.insert(step);
        }
        self.record.attempt_mut(step, number)
    }

    /// Adds a step.
    pub fn add_step(&mut self, step: Step) {
        self.steps.insert(step.number);
        self.record.steps.push(step);
    }

    /// Adds a try.
    pub fn add_try(&mut self, step: u32, each: Try) {
        self.tries.insert((step, each.number));
        if step == 0 {
            self.record.looks.push(each);
        } else if let Some(step) = self.step(step) {
            step.tries.push(each);
        }
    }

    /// Steps changed here are not told one by one: the plan tells them all.
    pub fn keep_quiet(&mut self) {
        self.quiet = true;
    }

    /// Tells something.
    pub fn tell(&mut self, event: TaskEventKind) {
        self.events.push(event);
    }

    /// Tells something worth knowing.
    pub fn note(&mut self, code: &str, message: impl Into<String>) {
        self.tell(TaskEventKind::Note { code: code.to_owned(), message: message.into() });
    }

    /// Records the call of a model.
    pub fn add_call(&mut self, call: Call) {
        let usage = &mut self.record.usage;
        usage.calls += 1;
        usage.input_tokens += call.input_tokens;
        usage.output_tokens += call.output_tokens;
        usage.cost += call.cost;
        self.calls.push(call);
    }
}

impl Ledger {
    pub fn new(db: Db, clock: Clock, hub: Hub, stop: CancellationToken, record: Record) -> Self {
        Self {
            db,
            clock,
            hub,
            stop,
            task: record.task.id,
            asker: record.task.asker.name.as_str().into(),
            record: Mutex::new(record),
        }
    }

    /// Looks at the record.
    pub async fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&*self.record.lock().await)
    }

    /// Changes the record. When this returns it is durable and told. While the database is away it
    /// waits: what has happened must not be forgotten.
    pub async fn change<T>(&self, change: impl FnOnce(&mut Draft) -> T) -> Result<T, Stopping> {
        let mut record = self.record.lock().await;
        let mut draft = Draft {
            record: record.clone(),
            now_us: self.clock.micros(),
            steps: BTreeSet::new(),
            tries: BTreeSet::new(),
            events: Vec::new(),
            calls: Vec::new(),
            quiet: false,
        };
        let before = record.task.state;
        let answer = change(&mut draft);
        let events = draft.finish(before);
        loop {
            match self.write(&draft, &events).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(task = %self.task, %error, "a task's progress could not be written");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(Stopping),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        let machines: Arc<[MachineId]> =
            draft.record.task.machines.iter().map(|machine| machine.id).collect();
        *record = draft.record;
        for event in events {
            self.tell(event, &machines);
        }
        Ok(answer)
    }

    /// Tells something that is not kept.
    pub async fn tell_now(&self, what: TaskEventKind) {
        let machines = self
            .read(|record| record.task.machines.iter().map(|machine| machine.id).collect())
            .await;
        let event = TaskEvent { task_id: self.task, sequence: 0, at: self.clock.now(), what };
        self.tell(event, &machines);
    }

    fn tell(&self, event: TaskEvent, machines: &Arc<[MachineId]>) {
        let (event, asker) = (Arc::new(event), Arc::clone(&self.asker));
        self.hub.tell_task(TaskNews { event, asker, machines: Arc::clone(machines) });
    }

    async fn write(&self, draft: &Draft, events: &[TaskEvent]) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        for number in &draft.steps {
            if let Some(step) = draft.record.step(*number) {
                store::put_step(&mut tx, self.task, step).await?;
            }
        }
        for (step, number) in &draft.tries {
            if let Some(each) = draft.record.attempt(*step, *number) {
                store::put_try(&mut tx, self.task, *step, each).await?;
            }
        }
        for call in &draft.calls {
            store::insert_call(&mut tx, self.task, call).await?;
        }
        for event in events {
            store::insert_event(&mut tx, event).await?;
        }
        store::update_task(&mut tx, &draft.record.task).await?;
        tx.commit().await
    }
}

impl Draft {
    /// Settles the task's state and numbers the events, in the order in which they make sense.
    fn finish(&mut self, before: TaskState) -> Vec<TaskEvent> {
        let planned =
            matches!(self.record.task.state, TaskState::AwaitingApproval | TaskState::Running);
        if planned {
            self.record.task.state = derive_state(&self.record);
        }
        let state = self.record.task.state;
        let mut kinds = Vec::new();
        for number in &self.steps {
            if let Some(step) = self.record.step(*number).filter(|_| !self.quiet) {
                kinds.push(TaskEventKind::Subtask(Box::new(step.to_api())));
            }
        }
        kinds.append(&mut self.events);
        if state != before {
            self.count_waiting(before);
            let reason = self.record.task.reason.clone();
            kinds.push(TaskEventKind::State { state, reason });
        }
        let task = &mut self.record.task;
        let (task_id, at) = (task.id, Time::from_micros(self.now_us));
        kinds
            .into_iter()
            .map(|what| {
                task.last_event += 1;
                TaskEvent { task_id, sequence: task.last_event, at, what }
            })
            .collect()
    }

    fn count_waiting(&mut self, before: TaskState) {
        let now_us = self.now_us;
        let task = &mut self.record.task;
        if before == TaskState::AwaitingApproval
            && let Some(since) = task.waiting_us.take()
        {
            task.waited_us += now_us.saturating_sub(since).max(0);
        }
        if task.state == TaskState::AwaitingApproval {
            task.waiting_us = Some(now_us);
        }
    }
}

/// A task waits for a yes when nothing else goes on.
fn derive_state(record: &Record) -> TaskState {
    let any = |wanted: &[SubtaskState]| record.steps.iter().any(|s| wanted.contains(&s.state));
    let active = any(&[SubtaskState::Running, SubtaskState::Judging]);
    if !active && any(&[SubtaskState::AwaitingApproval]) {
        TaskState::AwaitingApproval
    } else {
        TaskState::Running
    }
}
